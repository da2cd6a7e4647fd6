"""A TCP proxy between the gateway and Janus that can break connections, drop all data, and drop one message."""

from __future__ import annotations

import asyncio
import contextlib


class TcpProxy:
    """Forwards TCP connections to a port of 127.0.0.1; ``url`` is its own address."""

    def __init__(self, port: str | int) -> None:
        self.port = int(port)
        self._connections: list[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = []
        self._forwards = asyncio.Event()
        self._forwards.set()
        self._to_drop = b""
        self.dropped = asyncio.Event()
        self.refusing = False

    async def __aenter__(self) -> TcpProxy:
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", 0)
        self.url = f"ws://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        self.restore()
        await self._server.wait_closed()

    def cut(self) -> None:
        """Reset all connections."""
        connections, self._connections = self._connections, []
        for connection in connections:
            for writer in connection:
                writer.transport.abort()

    def silence(self) -> None:
        """Drop all data without closing the connections, like a network that has lost its route."""
        self._forwards.clear()

    def restore(self) -> None:
        """Forward again, over new connections; the data of the old ones is still dropped."""
        self._forwards.set()

    def drop_next(self, text: str) -> None:
        """Cut the connection instead of forwarding the next data from Janus that contains this text."""
        self._to_drop = text.encode()
        self.dropped.clear()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        await self._forwards.wait()
        try:
            janus_reader, janus_writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            writer.transport.abort()
            return
        self._connections.append((writer, janus_writer))
        alive = True

        async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter, from_janus: bool) -> None:
            nonlocal alive
            with contextlib.suppress(OSError):
                while data := await source.read(65536):
                    if not self._forwards.is_set():
                        alive = False  # these bytes are lost, so the rest of the connection is useless
                    if not alive:
                        continue
                    if from_janus and self._to_drop and self._to_drop in data:
                        self._to_drop = b""
                        self.dropped.set()
                        self.cut()
                        return
                    target.write(data)
            if alive:
                target.transport.abort()

        await asyncio.gather(pump(reader, janus_writer, False), pump(janus_reader, writer, True))
