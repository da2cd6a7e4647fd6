"""What the backends can do, asked once and kept for a while.

Source: reference 3.8. One lookup is one instant of the clock that was passed in; a fetch is shared by all who
wait for it and outlives each of them.
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

MIN_AGE = 60.0  # seconds that capabilities are kept at least
FORCE_INTERVAL = 60.0  # seconds between two refreshes that are forced before the time
MAX_ENTRIES = 4096  # URLs kept; clients choose the path below a backend's URL, so it must end somewhere

PATH = "ocs/v2.php/cloud/capabilities"

_max_age = re.compile(r"(?:^|[\s,])max-age\s*=\s*\"?([0-9]{1,9})", re.IGNORECASE)
log = logging.getLogger("portunus.nextcloud")


class Capabilities(Struct, frozen=True):
    """The ``spreed`` entry of a backend's capabilities; both are empty when it has none."""

    features: frozenset[str] = frozenset()
    signaling: dict[str, Any] = {}  # ``config.signaling``, values as Nextcloud set them


_NOTHING = Capabilities()


class _CacheEntry:
    __slots__ = ("capabilities", "etag", "expires", "fetching", "forced")

    def __init__(self) -> None:
        self.capabilities = _NOTHING
        self.etag = ""
        self.expires = float("-inf")
        self.forced = float("-inf")
        self.fetching: asyncio.Task[bool] | None = None


class CapabilitiesCache:
    """Capabilities by base URL. ``clock`` is monotonic, in seconds; ``headers`` go out with each request."""

    def __init__(self, http: BackendHttp, headers: dict[str, str], clock: Callable[[], float]) -> None:
        self._http = http
        self._headers = headers | {"Accept": "application/json", "OCS-APIRequest": "true"}
        self._clock = clock
        self._entries: dict[str, _CacheEntry] = {}

    async def get(self, url: str) -> tuple[Capabilities, bool]:
        """Return the capabilities of a backend, and whether they came from the cache.

        A backend that cannot be reached counts as one without capabilities, for this lookup only.
        """
        entry = self._entry(url)
        if self._clock() < entry.expires:
            return entry.capabilities, True
        if entry.fetching is None:
            entry.fetching = asyncio.create_task(self._fetch(url, entry), name="capabilities")
        if await asyncio.shield(entry.fetching):
            return entry.capabilities, False
        return _NOTHING, False

    def expire(self, url: str) -> bool:
        """Let the next lookup ask the backend; at most once a minute for a URL. Returns whether it will."""
        entry, now = self._entry(url), self._clock()
        if now < entry.forced + FORCE_INTERVAL:
            return False
        entry.forced = now
        entry.expires = float("-inf")
        return True

    async def close(self) -> None:
        """Stop the fetches under way. Idempotent."""
        tasks = [entry.fetching for entry in self._entries.values() if entry.fetching is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _entry(self, url: str) -> _CacheEntry:
        entry = self._entries.pop(url, None) or _CacheEntry()
        self._entries[url] = entry  # at the end: the first one was not used for longest
        if len(self._entries) > MAX_ENTRIES:
            oldest = next(iter(self._entries))
            if self._entries[oldest].fetching is None:
                del self._entries[oldest]
        return entry

    async def _fetch(self, url: str, entry: _CacheEntry) -> bool:
        """Renew an entry; False when the backend could not be reached."""
        try:
            headers = self._headers | ({"If-None-Match": entry.etag} if entry.etag else {})
            reply = await self._http.request("GET", url + PATH, headers)
        except RequestFailed as error:
            log.warning("the capabilities of a backend could not be fetched: %s", error)
            return False
        finally:
            entry.fetching = None
        self._take(reply, entry)
        return True

    def _take(self, reply: Reply, entry: _CacheEntry) -> None:
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
            entry.capabilities, entry.etag = _NOTHING, ""


def _parse(reply: Reply) -> Capabilities | None:
    """Read the ``spreed`` entry; ``None`` when the answer is not the OCS document at all.

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


def _member(of: dict[str, Any], name: str) -> dict[str, Any]:
    value = of.get(name)
    return value if isinstance(value, dict) else {}
