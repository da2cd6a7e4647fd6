"""HTTP requests to the backends: limited in time, size and connections. Redirects are not followed.

Source: reference 3.7.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import aiohttp
from msgspec import Struct
from multidict import CIMultiDictProxy

from gateway.standstill import PeerTimeout

MAX_BODY = 1_048_576  # bytes of a response; capabilities of a large Nextcloud are about 50 kB
KEEPALIVE = 4.0  # seconds that an idle connection is kept open; Apache by default closes it after 5

_REDIRECTS = frozenset({300, 301, 302, 303, 307, 308})  # RFC 9110, 15.4


class RequestFailed(Exception):
    """A request without a usable response; ``label`` is a label of the error counter. The text contains no address."""

    def __init__(self, label: str, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.label = label
        self.status = status  # of HTTP; None: there was no response, or it broke off


class Reply(Struct, frozen=True):
    """A complete response of any status."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def is_json(self) -> bool:
        """Return whether the content type begins with ``application/json``."""
        return self.headers.get("Content-Type", "").startswith("application/json")


class BackendHttp:
    """An HTTP client with one connection pool for all backends; call ``close`` when done."""

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
        """Count the open connections by host, both in use and idle."""
        counts: dict[str, int] = {}
        if self._session is None or not isinstance(connector := self._session.connector, aiohttp.TCPConnector):
            return counts
        # aiohttp 3.14 offers no other way to count idle connections and those in use.
        for pool in (connector._conns, connector._acquired_per_host):
            for key, connections in pool.items():
                host = key.host if key.port in (None, 80, 443) else f"{key.host}:{key.port}"
                counts[host] = counts.get(host, 0) + len(connections)
        return {host: count for host, count in counts.items() if count}

    async def request(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None) -> Reply:
        """Send a request and read the response; the timeout covers waiting for a free connection.

        Raises:
            RequestFailed: no complete response of at most ``MAX_BODY`` bytes in time.
        """
        try:
            async with PeerTimeout(self._timeout):
                try:
                    return await self._send(method, url, headers, body)
                except aiohttp.ServerDisconnectedError:  # the backend closed an idle connection just as it was reused
                    return await self._send(method, url, headers, body)
        except TimeoutError as error:
            raise RequestFailed("timeout", "the backend did not answer in time") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:  # ValueError: a host that yarl cannot encode
            raise RequestFailed("unknown", "the backend could not be reached") from error

    async def _send(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Reply:
        async with self._client().request(method, url, headers=headers, data=body, allow_redirects=False) as response:
            if response.status in _REDIRECTS:
                raise RequestFailed("unknown", "the backend redirects, configure its final URL", response.status)
            return Reply(response.status, response.headers, await _read_limited(response.content))

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, limit_per_host=self._per_host, keepalive_timeout=KEEPALIVE),
                cookie_jar=aiohttp.DummyCookieJar(),  # cookies of one client's request must not be sent with another's
                timeout=aiohttp.ClientTimeout(total=None),  # request() applies its own timeout
            )
        return self._session


async def _read_limited(content: aiohttp.StreamReader) -> bytes:
    body = bytearray()
    try:
        while chunk := await content.readany():
            body += chunk
            if len(body) > MAX_BODY:
                raise RequestFailed("error_reading_body", "the backend's answer is too large")
    except aiohttp.ClientError as error:
        raise RequestFailed("error_reading_body", "the backend's answer broke off") from error
    return bytes(body)
