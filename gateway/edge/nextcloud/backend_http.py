"""HTTP requests to the backends: limited in time, size and connections. Redirects are not followed.

Source: reference 3.7. Connections are kept and reused here, and opened as ``aiohttp`` does: names are resolved by
the system, addresses are tried by Happy Eyeballs (RFC 8305), certificates are verified, no proxy is used.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Mapping
from functools import lru_cache
from typing import Self
from urllib.parse import urljoin

import aiohappyeyeballs
from msgspec import Struct
from yarl import URL

from gateway.edge.nextcloud.answer_turns import AnswerTurns
from gateway.edge.nextcloud.backend_connection import (
    BackendConnection,
    Redirected,
    Reply,
    RequestFailed,
    Unreachable,
    encode_head,
    encode_request,
)
from gateway.edge.nextcloud.host_addresses import HostAddresses
from gateway.standstill import PeerTimeout

MAX_BODY = 1_048_576  # bytes of a response; capabilities of a large Nextcloud are about 50 kB
KEEPALIVE = 4.0  # seconds that an idle connection is kept open; Apache by default closes it after 5
_CONNECTION_ATTEMPT_DELAY = 0.25  # seconds until the next address of a host is tried as well (RFC 8305, 5)


class _ServerAddress(Struct, frozen=True):
    """The server of a URL."""

    host: str  # encoded by IDNA; IPv6 without brackets
    port: int
    secure: bool


class _Target(Struct, frozen=True):
    """The server and the request target of a URL."""

    server: _ServerAddress
    authority: str  # the header ``Host``
    path: str  # with the query, percent-encoded


class PreparedRequest(Struct, frozen=True):
    """A request whose URL and most of whose headers are encoded; the rest is added when it is sent."""

    url: str
    server: _ServerAddress
    head: bytes


def prepare(method: str, url: str, headers: Mapping[str, str]) -> PreparedRequest:
    """Encode the parts of the head that many requests share.

    Raises:
        Unreachable: the URL is not absolute or not of HTTP, or a header is malformed.
    """
    try:
        target = _target(url)
        return PreparedRequest(url, target.server, encode_head(method, target.path, target.authority, headers))
    except ValueError as error:
        raise Unreachable from error


class _Origin:
    """The connections to one origin: scheme, host and port."""

    def __init__(self, limit: int) -> None:
        self.slots = asyncio.Semaphore(limit)  # one is taken by each request
        self.requests = 0  # waiting or running
        self.is_closed = False  # by ``BackendHttp.close``
        self.open: set[BackendConnection] = set()
        self.idle: list[BackendConnection] = []  # the most recently used one is the last

    def close(self, connection: BackendConnection) -> None:
        """Close a connection at once. Idempotent."""
        self.forget(connection)
        connection.abort()

    def forget(self, connection: BackendConnection) -> None:
        """Remove a closed connection. Idempotent."""
        self.open.discard(connection)
        if connection in self.idle:
            self.idle.remove(connection)


class BackendHttp:
    """An HTTP client for all backends, with a connection pool for each origin; call ``close`` when done."""

    def __init__(self, timeout: float = 10.0, connections_per_host: int = 8) -> None:
        self._timeout = timeout
        self._per_host = connections_per_host
        self._origins: dict[_ServerAddress, _Origin] = {}
        self._turns = AnswerTurns()
        self._hosts = HostAddresses()
        self._sweep: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections, also those in use. Idempotent; a later request opens new ones."""
        self._hosts.close()
        origins, self._origins = self._origins, {}
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for origin in origins.values():
            origin.is_closed = True
            for connection in tuple(origin.open):
                origin.close(connection)
        await asyncio.sleep(0)  # the event loop closes the sockets in its next iteration

    def connections(self) -> dict[str, int]:
        """Count the open connections by host, both in use and idle."""
        counts: dict[str, int] = {}
        for server, origin in self._origins.items():
            host = server.host if server.port in (80, 443) else f"{server.host}:{server.port}"
            counts[host] = counts.get(host, 0) + len(origin.open)
        return {host: count for host, count in counts.items() if count}

    async def request(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None) -> Reply:
        """Send a request and read the response; the timeout covers waiting for a free connection.

        Raises:
            RequestFailed: no complete response of at most ``MAX_BODY`` bytes in time.
        """
        try:
            async with PeerTimeout(self._timeout):
                return await self.send(prepare(method, url, headers), body)
        except TimeoutError as error:
            raise RequestFailed("timeout", "the backend did not answer in time") from error

    async def send(self, request: PreparedRequest, body: bytes | None = None, lines: bytes = b"") -> Reply:
        """Send a request and read the response, as ``request`` does, within the time that the caller allows.

        ``lines`` are further headers, each with its line end; the caller vouches for them.

        Raises:
            RequestFailed: no complete response of at most ``MAX_BODY`` bytes.
        """
        data = encode_request(request.head, lines, body)
        server = request.server
        origin = self._origins.get(server)
        if origin is None:
            origin = self._origins[server] = _Origin(self._per_host)
        origin.requests += 1
        try:
            async with origin.slots:
                return await self._exchange(origin, server, data)
        except Redirected as error:
            with contextlib.suppress(ValueError):  # it is not a URL
                error.location = urljoin(request.url, error.location)
            raise
        finally:
            origin.requests -= 1
            if not origin.requests and not origin.open and self._origins.get(server) is origin:
                del self._origins[server]

    async def _exchange(self, origin: _Origin, server: _ServerAddress, request: bytes) -> Reply:
        """Send a request on an idle connection; if there is none, or the backend has just closed it, on a new one."""
        while origin.idle:
            connection = origin.idle.pop()
            if not connection.is_open or self._is_too_old(connection):
                origin.close(connection)
                continue
            try:
                return await self._ask(origin, connection, request)
            except Unreachable as error:
                if not error.silent:
                    raise
            break
        return await self._ask(origin, await self._connect(origin, server), request)

    async def _ask(self, origin: _Origin, connection: BackendConnection, request: bytes) -> Reply:
        answer = connection.send(request)
        try:
            reply = await answer
        except BaseException:
            origin.close(connection)
            if answer.done() and not answer.cancelled():
                answer.exception()  # cancelled in the turn in which the request failed: the error counts as seen
            del answer  # it refers to the error, which refers to this frame
            raise
        if connection.reusable and not origin.is_closed:
            connection.idle_since = asyncio.get_running_loop().time()
            origin.idle.append(connection)
            if self._sweep is None:
                self._sweep = asyncio.get_running_loop().call_later(KEEPALIVE, self._close_idle)
        else:
            origin.close(connection)
        return reply

    def _is_too_old(self, connection: BackendConnection) -> bool:
        return asyncio.get_running_loop().time() - connection.idle_since >= KEEPALIVE

    def _close_idle(self) -> None:
        """Close the connections that were idle for too long, and schedule the next sweep."""
        self._sweep = None
        due: list[float] = []
        for server, origin in tuple(self._origins.items()):
            for connection in tuple(origin.idle):
                if self._is_too_old(connection):
                    origin.close(connection)
                else:
                    due.append(connection.idle_since + KEEPALIVE)
            if not origin.requests and not origin.open:
                del self._origins[server]
        if due:
            self._sweep = asyncio.get_running_loop().call_at(min(due), self._close_idle)

    # -- opening

    async def _connect(self, origin: _Origin, server: _ServerAddress) -> BackendConnection:
        if origin.is_closed:
            raise Unreachable
        loop = asyncio.get_running_loop()
        try:
            addresses = await self._hosts.resolve(server.host, server.port)
            tls = await _cached_tls() if server.secure else None
            opened = await aiohappyeyeballs.start_connection(addresses, happy_eyeballs_delay=_CONNECTION_ATTEMPT_DELAY)
            _, connection = await loop.create_connection(
                lambda: BackendConnection(MAX_BODY, origin.forget, self._turns, server),
                sock=opened,
                ssl=tls,
                server_hostname=server.host.rstrip(".") if server.secure else None,
            )
        except (OSError, ValueError) as error:  # ValueError: a host that cannot be encoded
            raise Unreachable from error
        if origin.is_closed:
            connection.abort()
            raise Unreachable
        origin.open.add(connection)
        return connection


def _target(url: str) -> _Target:
    parsed = URL(url)
    if parsed.scheme not in ("http", "https") or not parsed.raw_host or parsed.port is None:
        raise ValueError("not an absolute http or https URL")
    authority = parsed.host_port_subcomponent or parsed.raw_host
    server = _ServerAddress(parsed.raw_host, parsed.port, parsed.scheme == "https")
    return _Target(server, authority, parsed.raw_path_qs)


async def _cached_tls() -> ssl.SSLContext:
    """Return the context; the first call reads certificates from the disk, the others need no thread."""
    return _tls() if _tls.cache_info().currsize else await asyncio.to_thread(_tls)


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
