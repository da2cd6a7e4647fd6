"""Backend that runs a script on each connection that it accepts."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

WAIT_TIMEOUT = 30.0  # seconds


@dataclass
class AcceptedConnection:
    """An accepted connection; ``number`` counts from 1."""

    number: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    ended: asyncio.Event = field(default_factory=asyncio.Event)  # the client has closed the connection

    async def receive(self) -> bytes:
        """Return the next request with its body, or no octets at the end of the connection."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""
        length = head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0]
        return head + await self.reader.readexactly(int(length or 0))

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def wait_closed(self) -> None:
        """Wait until the client closes the connection."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass
        self.ended.set()


Script = Callable[[AcceptedConnection], Awaitable[None]]


class ScriptedBackend:
    """HTTP server on a free port of loopback; ``requests`` contains the requests that its script has recorded."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.url = ""
        self.port = 0
        self.connections: list[AcceptedConnection] = []
        self.requests: list[bytes] = []
        self._recorded = asyncio.Event()

    def record(self, request: bytes) -> None:
        self.requests.append(request)
        self._recorded.set()

    async def wait_for_requests(self, count: int) -> None:
        """Wait until the script has recorded this number of requests."""
        while len(self.requests) < count:
            self._recorded.clear()
            await self._recorded.wait()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = AcceptedConnection(len(self.connections) + 1, reader, writer)
        self.connections.append(connection)
        try:
            await self._script(connection)
        except ConnectionError:
            connection.ended.set()
        writer.close()


@contextlib.asynccontextmanager
async def scripted_backend(script: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[ScriptedBackend]:
    backend = ScriptedBackend(script)
    server = await asyncio.start_server(backend.accept, "127.0.0.1", 0, ssl=tls)
    backend.port = server.sockets[0].getsockname()[1]
    backend.url = f"{'https' if tls else 'http'}://127.0.0.1:{backend.port}/cloud"
    try:
        yield backend
    finally:
        server.close()
        for connection in backend.connections:
            connection.writer.close()


def answer(body: bytes = b"{}", *headers: str, status: str = "200 OK") -> bytes:
    """Return the octets of an HTTP answer with a JSON content type."""
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
