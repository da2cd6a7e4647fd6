"""A network between the gateway and Janus that can be cut, and that can swallow what is sent."""

from __future__ import annotations

import asyncio
import contextlib


class Relay:
    """Carries TCP connections to a port of 127.0.0.1; ``url`` is where they are taken."""

    def __init__(self, to: str | int) -> None:
        self.to = int(to)
        self._pairs: list[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = []
        self._flows = asyncio.Event()
        self._flows.set()
        self._swallow = b""
        self.swallowed = asyncio.Event()
        self.refusing = False

    async def __aenter__(self) -> Relay:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.url = f"ws://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        self.restore()
        await self._server.wait_closed()

    def cut(self) -> None:
        """End all connections as a broken network does."""
        pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for writer in pair:
                writer.transport.abort()

    def hold(self) -> None:
        """Carry nothing any more and tell nobody, as a network does that has lost its way."""
        self._flows.clear()

    def restore(self) -> None:
        """Carry again, over new connections; over the old ones nothing comes through any more."""
        self._flows.set()

    def swallow(self, text: str) -> None:
        """Cut the connection instead of carrying the next piece from Janus with this in it."""
        self._swallow = text.encode()
        self.swallowed.clear()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        await self._flows.wait()
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.to)
        except OSError:
            writer.transport.abort()
            return
        pair = (writer, back)
        self._pairs.append(pair)
        alive = True

        async def pump(source: asyncio.StreamReader, target: asyncio.StreamWriter, from_janus: bool) -> None:
            nonlocal alive
            with contextlib.suppress(OSError):
                while data := await source.read(65536):
                    if not self._flows.is_set():
                        alive = False  # lost on the way, and with it all that comes later
                    if not alive:
                        continue
                    if from_janus and self._swallow and self._swallow in data:
                        self._swallow = b""
                        self.swallowed.set()
                        self.cut()
                        return
                    target.write(data)
            if alive:
                target.transport.abort()

        await asyncio.gather(pump(reader, back, False), pump(there, writer, True))
