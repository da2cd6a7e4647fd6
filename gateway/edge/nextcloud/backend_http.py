"""HTTP to the backends: bounded in time, size and connections, redirected within one host only.

Source: reference 3.7.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Self

import aiohttp
from msgspec import Struct
from multidict import CIMultiDictProxy
from yarl import URL

MAX_BODY = 1_048_576  # bytes of an answer; capabilities of a large Nextcloud are about 50 kB
MAX_REDIRECTS = 10
KEEPALIVE = 4.0  # seconds that an idle connection is kept; Apache's default closes it after 5

_keeping = frozenset({307, 308})  # statuses that keep method and body (RFC 9110, 15.4)
_redirecting = frozenset({301, 302, 303}) | _keeping


class RequestFailed(Exception):
    """No answer; ``kind`` is the label of the error counter, the text is free of addresses."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Reply(Struct, frozen=True):
    """An answer whatever its status."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def is_json(self) -> bool:
        """Whether the content type begins with ``application/json``."""
        return self.headers.get("Content-Type", "").startswith("application/json")


class BackendHttp:
    """One pool of connections to all backends; close it when done."""

    def __init__(self, timeout: float = 10.0, connections_per_host: int = 8) -> None:
        self._timeout = timeout
        self._per_host = connections_per_host
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections. Idempotent; a later request opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def connections(self) -> dict[str, int]:
        """Return how many connections are open to each host, in use or kept."""
        counts: dict[str, int] = {}
        if self._session is None or not isinstance(connector := self._session.connector, aiohttp.TCPConnector):
            return counts
        # aiohttp 3.14 has no other way to know: connections kept, and those in use, by host.
        for pool in (connector._conns, connector._acquired_per_host):
            for key, open_ in pool.items():
                host = key.host if key.port in (None, 80, 443) else f"{key.host}:{key.port}"
                counts[host] = counts.get(host, 0) + len(open_)
        return {host: count for host, count in counts.items() if count}

    async def request(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None) -> Reply:
        """Send a request and read the answer; the timeout covers waiting for a free connection and all redirects.

        Raises:
            RequestFailed: no complete answer of at most ``MAX_BODY`` bytes in time.
        """
        try:
            async with asyncio.timeout(self._timeout):
                try:
                    return await self._follow(method, URL(url), dict(headers), body)
                except aiohttp.ServerDisconnectedError:  # it closed an idle connection just as we took it: once more
                    return await self._follow(method, URL(url), dict(headers), body)
        except TimeoutError as error:
            raise RequestFailed("timeout", "the backend did not answer in time") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:  # ValueError: a host that yarl cannot encode
            raise RequestFailed("unknown", "the backend could not be reached") from error

    async def _follow(self, method: str, url: URL, headers: dict[str, str], body: bytes | None) -> Reply:
        origin = url.origin()
        for _ in range(MAX_REDIRECTS + 1):
            async with self._open().request(method, url, headers=headers, data=body, allow_redirects=False) as response:
                target = response.headers.get("Location")
                if response.status not in _redirecting or target is None:
                    return Reply(response.status, response.headers, await _bounded(response.content))
                if response.status not in _keeping and method != "GET":
                    method, body = "GET", None
                    headers.pop("Content-Type", None)
            url = url.join(URL(target))
            if url.origin() != origin:
                raise RequestFailed("unknown", "the backend redirects to another host")
        raise RequestFailed("unknown", "the backend redirects too often")

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, limit_per_host=self._per_host, keepalive_timeout=KEEPALIVE),
                cookie_jar=aiohttp.DummyCookieJar(),  # one client's cookies are not another's
                timeout=aiohttp.ClientTimeout(total=None),  # request() has its own
            )
        return self._session


async def _bounded(content: aiohttp.StreamReader) -> bytes:
    body = bytearray()
    try:
        while chunk := await content.readany():
            body += chunk
            if len(body) > MAX_BODY:
                raise RequestFailed("error_reading_body", "the backend's answer is too large")
    except aiohttp.ClientError as error:
        raise RequestFailed("error_reading_body", "the backend's answer broke off") from error
    return bytes(body)
