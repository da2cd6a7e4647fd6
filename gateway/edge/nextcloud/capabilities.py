"""A cache of the backends' capabilities.

Source: reference 3.8. Each lookup reads the clock once; concurrent lookups of a URL share one fetch, which is
not cancelled with any of them.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from gateway.edge.nextcloud.backend_http import BackendHttp, Reply, RequestFailed

MIN_AGE = 60.0  # seconds that capabilities are cached at least
FORCE_INTERVAL = 60.0  # seconds between two forced refreshes of a URL
MAX_ENTRIES = 4096  # cached URLs; limited because clients choose them with ``allow_any``

PATH = "ocs/v2.php/cloud/capabilities"

_max_age = re.compile(r"(?:^|[\s,])max-age\s*=\s*\"?([0-9]{1,9})", re.IGNORECASE)
log = logging.getLogger("portunus.nextcloud")


class Capabilities(Struct, frozen=True):
    """The ``spreed`` entry of a backend's capabilities; both members are empty when the backend has none."""

    features: frozenset[str] = frozenset()
    signaling: dict[str, Any] = {}  # ``config.signaling``, with the values as Nextcloud sent them


_NO_CAPABILITIES = Capabilities()


class _CacheEntry:
    __slots__ = ("capabilities", "etag", "expires", "fetching", "forced")

    def __init__(self) -> None:
        self.capabilities = _NO_CAPABILITIES
        self.etag = ""
        self.expires = float("-inf")
        self.forced = float("-inf")
        self.fetching: asyncio.Task[bool] | None = None


class CapabilitiesCache:
    """The capabilities by base URL. ``clock`` is monotonic, in seconds; ``headers`` are sent with each request."""

    def __init__(self, http: BackendHttp, headers: dict[str, str], clock: Callable[[], float]) -> None:
        self._http = http
        self._headers = headers | {"Accept": "application/json", "OCS-APIRequest": "true"}
        self._clock = clock
        self._entries: dict[str, _CacheEntry] = {}

    async def get(self, url: str) -> tuple[Capabilities, bool]:
        """Return the capabilities of a backend, and whether they came from the cache.

        An unreachable backend has no capabilities, for this lookup only.
        """
        entry = self._entry(url)
        if self._clock() < entry.expires:
            return entry.capabilities, True
        if entry.fetching is None:
            entry.fetching = asyncio.create_task(self._fetch(url, entry), name="capabilities")
        if await asyncio.shield(entry.fetching):
            return entry.capabilities, False
        return _NO_CAPABILITIES, False

    def expire(self, url: str) -> bool:
        """Expire the entry of a URL, at most once a minute; return whether the next lookup asks the backend."""
        entry, now = self._entry(url), self._clock()
        if now < entry.forced + FORCE_INTERVAL:
            return False
        entry.forced = now
        entry.expires = float("-inf")
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

    async def _fetch(self, url: str, entry: _CacheEntry) -> bool:
        """Fetch the capabilities into an entry; return False when the backend could not be reached."""
        try:
            headers = self._headers | ({"If-None-Match": entry.etag} if entry.etag else {})
            reply = await self._http.request("GET", url + PATH, headers)
        except RequestFailed as error:
            log.warning("the capabilities of a backend could not be fetched: %s", error)
            return False
        finally:
            entry.fetching = None
        self._update(reply, entry)
        return True

    def _update(self, reply: Reply, entry: _CacheEntry) -> None:
        control = reply.headers.get("Cache-Control", "").lower()
        age = _max_age.search(control)
        entry.expires = self._clock() + max(MIN_AGE, float(age[1]) if age and "no-cache" not in control else 0.0)
        if reply.status == 304:
            return
        capabilities = _parse(reply) if reply.status == 200 and reply.is_json else None
        if capabilities is not None:
            entry.capabilities = capabilities
            entry.etag = reply.headers.get("ETag", "")
            return
        log.warning("the capabilities of a backend are not usable: HTTP status %d", reply.status)
        if "must-revalidate" in control:
            entry.capabilities, entry.etag = _NO_CAPABILITIES, ""


def _parse(reply: Reply) -> Capabilities | None:
    """Parse the ``spreed`` entry; ``None`` when the body is not an OCS document.

    PHP writes an empty object as ``[]``, so each level may be a list.
    """
    try:
        document = msgspec.json.decode(reply.body)
    except (msgspec.DecodeError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    spreed = _member(_member(_member(_member(document, "ocs"), "data"), "capabilities"), "spreed")
    features = spreed.get("features")
    if not isinstance(features, list):
        features = []
    return Capabilities(
        features=frozenset(name for name in features if isinstance(name, str)),
        signaling=_member(_member(spreed, "config"), "signaling"),
    )


def _member(parent: dict[str, Any], name: str) -> dict[str, Any]:
    value = parent.get(name)
    return value if isinstance(value, dict) else {}
