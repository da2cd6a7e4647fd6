"""A network between the pages and the gateway that can be interrupted: TCP for signaling, UDP for media."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self, cast

MEDIA_ADDRESS = "127.0.0.2"  # the SFU's address for clients; the SFU itself is on 127.0.0.1


class SignalingRelay:
    """A TCP relay on 127.0.0.1 to another port of 127.0.0.1. Its own ``port`` stays the same."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.port = 0

    async def __aenter__(self) -> Self:
        await self.restore()
        return self

    async def __aexit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.cut()

    async def cut(self) -> None:
        """Break every connection and refuse new ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._writers:
            writer.transport.abort()
        self._flowing.set()

    async def restore(self) -> None:
        """Accept connections again."""
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def hold(self) -> None:
        """Keep the connections, but forward no data."""
        self._flowing.clear()

    def release(self) -> None:
        """Forward the held data, and further data again."""
        self._flowing.set()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            target_reader, target_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        pair = {writer, target_writer}
        self._writers |= pair
        try:
            await asyncio.gather(self._pump(reader, target_writer), self._pump(target_reader, writer))
        finally:
            self._writers -= pair

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass  # cut
        finally:
            writer.close()


class MediaRelay:
    """UDP relays from MEDIA_ADDRESS to 127.0.0.1, one for each port; with ``cut`` every datagram is dropped."""

    def __init__(self, first: int, last: int) -> None:
        self._ports = range(first, last + 1)
        self._transports: list[asyncio.DatagramTransport] = []
        self.cut = False
        self.forwarded = 0  # datagrams

    async def __aenter__(self) -> Self:
        for port in self._ports:
            await self.open(_ClientSide(self, port), (MEDIA_ADDRESS, port), None)
        return self

    async def __aexit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        for transport in self._transports:
            transport.abort()

    async def open(
        self, protocol: asyncio.DatagramProtocol, local: tuple[str, int], remote: tuple[str, int] | None
    ) -> None:
        """Open a socket that is closed with the relay."""
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: protocol, local_addr=local, remote_addr=remote)
        self._transports.append(transport)


class _ClientSide(asyncio.DatagramProtocol):
    """The clients' side of one port: each client has a socket of its own on the SFU's side."""

    def __init__(self, media: MediaRelay, port: int) -> None:
        self._media, self._port = media, port
        self._sfu_sides: dict[tuple[str, int], _SfuSide] = {}
        self._opening: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if self._media.cut:
            return
        self._media.forwarded += 1
        sfu_side = self._sfu_sides.get(addr)
        if sfu_side is None:
            sfu_side = self._sfu_sides[addr] = _SfuSide(self._media, self, addr)
            opening = asyncio.create_task(self._media.open(sfu_side, ("127.0.0.1", 0), ("127.0.0.1", self._port)))
            self._opening.add(opening)
            opening.add_done_callback(self._opening.discard)
        elif sfu_side.transport is not None:  # ICE sends its first request again
            sfu_side.transport.sendto(data)


class _SfuSide(asyncio.DatagramProtocol):
    """One client's socket towards the SFU."""

    def __init__(self, media: MediaRelay, client_side: _ClientSide, client: tuple[str, int]) -> None:
        self._media, self._client_side, self._client = media, client_side, client
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if not self._media.cut:
            self._client_side.transport.sendto(data, self._client)
