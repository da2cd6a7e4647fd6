"""A cache of the backends' capabilities.

Source: reference 3.8. Each lookup reads the clock once; concurrent lookups of a URL share one fetch, which is
not cancelled with any of them.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from gateway.edge.nextcloud.backend_connection import Reply, RequestFailed
from gateway.edge.nextcloud.backend_http import BackendHttp
from gateway.edge.nextcloud.failures import explanation
from gateway.limited_log import LimitedLog
from gateway.tracing import current_span, running

MIN_AGE = 60.0  # seconds that capabilities are cached at least
# Seconds until a backend is asked again after an answer that is not usable or lacks Talk. A backend that did not answer
# is asked again at once unless its capabilities are known (3.8).
RETRY_PAUSE = 2.0
FORCE_INTERVAL = 60.0  # seconds between two forced refreshes of a URL
RENEW_INTERVAL = 5.0  # seconds between two fetches of a URL to renew its token key
MAX_ENTRIES = 4096  # cached URLs; limited because clients choose them with ``allow_any``

NOT_USABLE = "the capabilities of the backend are not usable"

_SUCCESS = (100, 200)  # ``statuscode`` of OCS versions 1 and 2
PATH = "ocs/v2.php/cloud/capabilities"

_max_age = re.compile(r"(?:^|[\s,])max-age\s*=\s*\"?([0-9]{1,9})", re.IGNORECASE)
log = logging.getLogger("portunus.nextcloud")


class Capabilities(Struct, frozen=True):
    """The ``spreed`` entry of a backend's capabilities; all members are empty if it is missing or unknown."""

    features: frozenset[str] = frozenset()
    signaling: dict[str, Any] = {}  # ``config.signaling``, with the values as Nextcloud sent them
    has_talk: bool = False  # whether the entry lists features or signaling settings


class Lookup(NamedTuple):
    """The result of a lookup."""

    capabilities: Capabilities
    cached: bool  # whether they came from the cache
    failure: str  # the reason for which the last fetch failed, without an address; empty: it did not


class _CacheEntry:
    __slots__ = ("capabilities", "etag", "expires_at", "failure", "fetching", "forced_at", "renewed_at", "retry_at")

    def __init__(self) -> None:
        self.capabilities = Capabilities()  # of the last usable answer; a failure does not change them
        self.etag = ""
        self.failure = ""  # the reason for which the last fetch failed; empty: it did not
        self.expires_at = float("-inf")
        self.retry_at = float("-inf")  # time from which on the backend is asked again after a failure
        self.forced_at = float("-inf")  # time of the last forced refresh
        self.renewed_at = float("-inf")  # time of the last renewal of the token key
        self.fetching: asyncio.Task[None] | None = None


class CapabilitiesCache:
    """The capabilities by base URL.

    ``clock`` is monotonic, in seconds; ``headers`` are sent with each request; ``on_warning`` gets the time and the
    text of each warning.
    """

    def __init__(
        self,
        http: BackendHttp,
        headers: dict[str, str],
        clock: Callable[[], float],
        on_warning: Callable[[float, str], None] = lambda at, line: None,
    ) -> None:
        self._http = http
        self._headers = headers | {"Accept": "application/json", "OCS-APIRequest": "true"}
        self._clock = clock
        self._entries: dict[str, _CacheEntry] = {}
        self._warnings = LimitedLog(log, clock, written=on_warning)

    async def get(self, url: str) -> Lookup:
        """Return the capabilities of a backend.

        If it cannot be asked, these are the capabilities of its last usable answer, or empty ones.
        """
        entry = self._entry(url)
        now = self._clock()
        if now < entry.expires_at:
            return Lookup(entry.capabilities, True, entry.failure)
        if entry.fetching is None:
            if now < entry.retry_at:
                return Lookup(entry.capabilities, False, entry.failure)
            entry.fetching = asyncio.create_task(self._fetch(url, entry), name="capabilities")
        await asyncio.shield(entry.fetching)
        return Lookup(entry.capabilities, False, entry.failure)

    def expire(self, url: str) -> bool:
        """Expire the entry of a URL, at most once a minute; return whether the next lookup asks the backend."""
        entry, now = self._entry(url), self._clock()
        if now < entry.forced_at + FORCE_INTERVAL:
            return False
        entry.forced_at = now
        entry.expires_at = float("-inf")
        return True

    def renew(self, url: str) -> bool:
        """Expire the entry of a URL whose token key may be old, like ``expire``, at most once in ``RENEW_INTERVAL``."""
        entry, now = self._entry(url), self._clock()
        if now < entry.renewed_at + RENEW_INTERVAL:
            return False
        entry.renewed_at = now
        entry.expires_at = float("-inf")
        return True

    async def close(self) -> None:
        """Cancel the running fetches. Idempotent."""
        tasks = [entry.fetching for entry in self._entries.values() if entry.fetching is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _entry(self, url: str) -> _CacheEntry:
        entry = self._entries.pop(url, None) or _CacheEntry()
        self._entries[url] = entry  # moved to the end: the first entry is the least recently used
        if len(self._entries) > MAX_ENTRIES:
            oldest = next(iter(self._entries))
            if self._entries[oldest].fetching is None:
                del self._entries[oldest]
        return entry

    async def _fetch(self, url: str, entry: _CacheEntry) -> None:
        """Fetch the capabilities into an entry; a failure does not change them."""
        entry.failure = ""
        try:
            headers = self._headers | ({"If-None-Match": entry.etag} if entry.etag else {})
            reply = await self._get(url + PATH, headers)
        except RequestFailed as error:
            entry.failure, reason = str(error), explanation(error)
            self._warnings.warning((url, reason), "the capabilities of %s could not be fetched: %s", url, reason)
            if entry.capabilities.has_talk:
                entry.retry_at = self._clock() + RETRY_PAUSE
        else:
            self._update(url, reply, entry)
        finally:
            entry.fetching = None

    async def _get(self, url: str, headers: dict[str, str]) -> Reply:
        span = current_span()  # of the operation whose lookup has started the fetch
        if span is None:
            return await self._http.request("GET", url, headers)
        child = span.child("nextcloud capabilities", {"http.request.method": "GET"}, remote=True)
        with running(child, lambda error: error.label if isinstance(error, RequestFailed) else "cancelled"):
            reply = await self._http.request("GET", url, headers | {"traceparent": child.traceparent})
            child.set("http.response.status_code", reply.status)
            return reply

    def _update(self, url: str, reply: Reply, entry: _CacheEntry) -> None:
        if reply.status == 304 and entry.etag:
            entry.expires_at = self._clock() + _lifetime(reply)
            return
        capabilities = parse_capabilities(reply) if reply.status == 200 and reply.is_json else None
        if capabilities is None:
            entry.retry_at = self._clock() + RETRY_PAUSE
            entry.failure = NOT_USABLE
            self._warnings.warning(
                (url, reply.status), "the capabilities of %s are not usable: HTTP status %d", url, reply.status
            )
            return
        entry.capabilities = capabilities
        entry.etag = reply.headers.get("ETag", "")
        if capabilities.has_talk:
            entry.expires_at = self._clock() + _lifetime(reply)
        else:  # Talk is switched off, as during an upgrade
            entry.retry_at = self._clock() + RETRY_PAUSE


def _lifetime(reply: Reply) -> float:
    """Return the seconds for which an answer is cached."""
    control = reply.headers.get("Cache-Control", "").lower()
    age = _max_age.search(control)
    return max(MIN_AGE, float(age[1]) if age and "no-cache" not in control else 0.0)


def parse_capabilities(reply: Reply) -> Capabilities | None:
    """Return the ``spreed`` entry of an answer; ``None`` if the body is not an OCS document, or reports a failure.

    PHP writes an empty object as ``[]``, so each level may be a list.
    """
    try:
        document = msgspec.json.decode(reply.body)
    except (msgspec.DecodeError, RecursionError):
        return None
    if not isinstance(document, dict) or not isinstance(document.get("ocs"), dict):
        return None
    ocs = document["ocs"]
    if _member(ocs, "meta").get("statuscode", 200) not in _SUCCESS:
        return None
    spreed = _member(_member(_member(ocs, "data"), "capabilities"), "spreed")
    listed = spreed.get("features")
    features = frozenset(name for name in listed if isinstance(name, str)) if isinstance(listed, list) else frozenset()
    signaling = _member(_member(spreed, "config"), "signaling")
    return Capabilities(features, signaling, has_talk=bool(features or signaling))


def _member(parent: dict[str, Any], name: str) -> dict[str, Any]:
    value = parent.get(name)
    return value if isinstance(value, dict) else {}
