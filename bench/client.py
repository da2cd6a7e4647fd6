"""A signaling client on a plain blocking socket: opens and ends the sessions of a load, and sends hellos from threads.

Source: RFC 6455; signaling API, Hello, Room, Message. It makes the frames that the load programs send.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import struct
from types import TracebackType
from typing import Any, Self

CONTINUATION, TEXT, CLOSE, PING, PONG = 0x0, 0x1, 0x8, 0x9, 0xA
FINAL = 0x80
TIMEOUT = 20.0  # seconds for each answer


class ServerRefused(Exception):
    """The server sent an answer that the benchmark cannot use, or closed the connection."""


def client_frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """Return a final client frame with a random mask."""
    key = os.urandom(4)
    if len(payload) < 126:
        head = struct.pack("!BB", 0x80 | opcode, 0x80 | len(payload))
    else:
        head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, len(payload))
    mask = (key * (len(payload) // 4 + 1))[: len(payload)]
    return head + key + (int.from_bytes(payload) ^ int.from_bytes(mask)).to_bytes(len(payload))


class BenchClient:
    """One connection. After ``hello`` it has a ``session`` id and a ``resume_id``."""

    def __init__(self, port: int) -> None:
        self.session = self.resume_id = ""
        self._connect(port)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def _connect(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), TIMEOUT)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray()

    def reconnect(self, port: int) -> None:
        """Open another connection and upgrade it; the old one has to be closed."""
        self._connect(port)
        self.upgrade(port)

    def upgrade(self, port: int) -> None:
        """Upgrade the connection to a WebSocket and receive the welcome."""
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET /spreed HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        while b"\r\n\r\n" not in self._buffer:
            self._read_more()
        head, _, rest = bytes(self._buffer).partition(b"\r\n\r\n")
        if b" 101 " not in head.split(b"\r\n")[0]:
            raise ServerRefused(f"no upgrade: {head[:80]!r}")
        self._buffer = bytearray(rest)
        self.expect("welcome")

    def hello(self, backend: str, userid: str) -> None:
        """Open a session."""
        self.send(
            {"type": "hello", "hello": {"version": "1.0", "auth": {"url": backend, "params": {"userid": userid}}}}
        )
        reply = self.expect("hello")["hello"]
        self.session, self.resume_id = str(reply["sessionid"]), str(reply["resumeid"])

    def resume_frame(self) -> bytes:
        """Return the hello that resumes this session, as a frame."""
        hello = {"version": "1.0", "resumeid": self.resume_id}
        return client_frame(json.dumps({"type": "hello", "hello": hello}).encode())

    def join(self, room: str, nextcloud_session: str) -> None:
        """Join a room and receive the reply; the events behind it stay unread."""
        self.send({"id": "j", "type": "room", "room": {"roomid": room, "sessionid": nextcloud_session}})
        self.expect("room")

    def bye(self) -> None:
        """End the session and wait for the server's reply."""
        self.send({"type": "bye", "bye": {}})
        self.expect("bye")

    def finish_frames(self) -> None:
        """Read the rest of a frame that is partly read, and drop it: a load program begins with a whole frame."""
        while self._buffer:
            first, payload = self._read_frame()
            if first & 0x0F == PING:
                self.socket.sendall(client_frame(payload, PONG))

    def send(self, message: dict[str, Any]) -> None:
        """Send a message as one frame."""
        self.socket.sendall(client_frame(json.dumps(message, separators=(",", ":")).encode()))

    def expect(self, message_type: str) -> dict[str, Any]:
        """Read until a message of this type arrives and return it.

        Raises:
            ServerRefused: an error came, or the connection was closed.
        """
        return dict(json.loads(self.expect_payload(message_type)))

    def expect_payload(self, message_type: str) -> bytes:
        """Read until a message of this type arrives and return its text."""
        while True:
            payload = self._read_text()
            found = json.loads(payload).get("type")
            if found == message_type:
                return payload
            if found == "error":
                raise ServerRefused(payload.decode())

    def _read_text(self) -> bytes:
        message = b""
        while True:
            first, payload = self._read_frame()
            opcode = first & 0x0F
            if opcode in (TEXT, CONTINUATION):
                message += payload
                if first & FINAL:
                    return message
            elif opcode == PING:
                self.socket.sendall(client_frame(payload, PONG))
            elif opcode == CLOSE:
                raise ServerRefused("the server closed the connection")

    def _read_frame(self) -> tuple[int, bytes]:
        first, length = self._take(1)[0], self._take(1)[0]
        if length == 126:
            (length,) = struct.unpack("!H", self._take(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self._take(8))
        return first, self._take(length)

    def _take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._read_more()
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def _read_more(self) -> None:
        received = self.socket.recv(65536)
        if not received:
            raise ServerRefused("the server closed the connection")
        self._buffer += received
