"""WebSocket client that sends any bytes and returns each frame that it receives."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import socket
import ssl
import struct
from typing import Any, Self

Json = dict[str, Any]

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
WAIT_TIMEOUT = 30.0  # seconds until a wait times out, by default


def masked(payload: bytes | str, opcode: int = TEXT, *, final: bool = True, reserved: int = 0) -> bytes:
    """Return a masked frame (RFC 6455 5.2)."""
    data = payload.encode() if isinstance(payload, str) else payload
    first = (0x80 if final else 0) | reserved << 4 | opcode
    length = len(data)
    if length < 126:
        head = struct.pack("!BB", first, 0x80 | length)
    elif length < 65536:
        head = struct.pack("!BBH", first, 0x80 | 126, length)
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, length)
    mask = os.urandom(4)
    repeated_mask = mask * (length // 4 + 1)
    body = (int.from_bytes(data) ^ int.from_bytes(repeated_mask[:length])).to_bytes(length) if length else b""
    return head + mask + body


def upgrade(path: str = "/spreed", **headers: str | None) -> bytes:
    """Return the request of a handshake; the value ``None`` omits a header."""
    given: dict[str, str | None] = {
        "Host": "gateway.example",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
    }
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items() if value is not None)]
    return "\r\n".join((*lines, "", "")).encode()


class RawClient:
    """Connection of a client; ``head`` is the head of the server's answer to the upgrade."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, wait_timeout: float) -> None:
        self._wait_timeout = wait_timeout  # seconds
        self._reader = reader
        self.writer = writer
        self.head = ""
        self.session_id = ""  # set by a test that has opened a session, as is ``resume_id``
        self.resume_id = ""
        self.pings: list[bytes] = []

    @classmethod
    async def connect(
        cls,
        address: tuple[str, int],
        *,
        early: bytes = b"",
        later: bytes = b"",
        receive_buffer: int = 0,
        wait_timeout: float | None = None,
        tls: ssl.SSLContext | None = None,
        sock: socket.socket | None = None,
        **headers: str,
    ) -> Self:
        """Connect and upgrade; ``early`` is sent in one write with the request, ``later`` in the next write.

        ``sock``: the unconnected socket to use. ``headers`` are added to the request, with ``_`` for ``-``.
        """
        wait_timeout = WAIT_TIMEOUT if wait_timeout is None else wait_timeout  # a test may have patched the constant
        sock = sock or socket.socket()
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, address)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reader, writer = await asyncio.open_connection(
            sock=sock,
            limit=1 << 12 if receive_buffer else 1 << 16,
            ssl=tls,
            server_hostname=None if tls is None else address[0],
        )
        client = cls(reader, writer, wait_timeout)
        writer.write(upgrade(**headers) + early)
        if later:
            writer.write(later)
        async with asyncio.timeout(wait_timeout):
            client.head = (await reader.readuntil(b"\r\n\r\n")).decode()
        return client

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        self.writer.transport.abort()

    def send(self, message: Json | str | bytes, **frame: Any) -> None:
        """Send one frame; a dictionary is encoded as JSON, any other payload is sent as it is."""
        self.writer.write(masked(json.dumps(message) if isinstance(message, dict) else message, **frame))

    async def frame(self) -> tuple[int, bytes]:
        """Return opcode and payload of the next frame.

        Raises:
            asyncio.IncompleteReadError: the connection has ended.
        """
        async with asyncio.timeout(self._wait_timeout):
            first, second = await self._reader.readexactly(2)
            length = second & 0x7F
            if length == 126:
                (length,) = struct.unpack("!H", await self._reader.readexactly(2))
            elif length == 127:
                (length,) = struct.unpack("!Q", await self._reader.readexactly(8))
            assert first & 0xF0 == 0x80, "the server neither fragments nor compresses"
            assert not second & 0x80, "the server does not mask"
            return first & 0x0F, await self._reader.readexactly(length)

    async def receive(self) -> Json:
        """Return the next message; pings before it are kept in ``pings``."""
        while True:
            opcode, payload = await self.frame()
            if opcode == PING:
                self.pings.append(payload)
                continue
            assert opcode == TEXT, (opcode, payload)
            message: Json = json.loads(payload)
            return message

    async def wait_closed(self) -> int | None:
        """Skip all messages and return the server's close code: 1005 without a code, ``None`` without a close frame."""
        code = None
        try:
            while True:
                opcode, payload = await self.frame()
                if opcode == CLOSE:
                    code = struct.unpack("!H", payload[:2])[0] if payload else 1005
                    self.writer.write(masked(payload, CLOSE))
        except (asyncio.IncompleteReadError, ConnectionError):
            return code

    def pause_reading(self) -> None:
        """Stop reading, so that the socket buffers fill up."""
        self.writer.transport.pause_reading()  # type: ignore[attr-defined]  # of the reading side

    def resume_reading(self) -> None:
        """Read again after ``pause_reading``."""
        self.writer.transport.resume_reading()  # type: ignore[attr-defined]  # of the reading side

    def reset(self) -> None:
        """Reset the TCP connection, which discards unread data."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()
