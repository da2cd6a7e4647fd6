"""The floor of a hello: uvloop, the answer to the upgrade, and ready-made replies; no backend, no state, no checks.

Run as a program; prints its port.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from typing import cast

import uvloop

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3
KEY = b"sec-websocket-key: "


def _frame(message: object) -> bytes:
    payload = json.dumps(message, separators=(",", ":")).encode()
    assert len(payload) < 65536  # one of the two headers below
    head = bytes((0x81, len(payload))) if len(payload) < 126 else b"\x81\x7e" + len(payload).to_bytes(2)
    return head + payload


WELCOME = _frame({"type": "welcome", "welcome": {"version": "floor", "features": ["x" * 300]}})
HELLO = _frame(
    {"type": "hello", "hello": {"version": "1.0", "sessionid": "x" * 64, "resumeid": "x" * 64, "userid": ""}}
)
BYE = _frame({"type": "bye", "bye": {}})


class FloorConnection(asyncio.Protocol):
    """One connection: an upgrade, then a reply to each frame."""

    upgraded = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's class is not derived from it

    def data_received(self, data: bytes) -> None:
        if self.upgraded:
            self._transport.write(HELLO if _message_type(data) == "hello" else BYE)
            return
        begin = data.lower().index(KEY) + len(KEY)
        key = data[begin : data.index(b"\r\n", begin)]
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
        self._transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
            + accept
            + b"\r\n\r\n"
            + WELCOME
        )
        self.upgraded = True


def _message_type(frame: bytes) -> object:
    """Unmask and parse one whole frame, as any server has to."""
    begin = {126: 4, 127: 10}.get(frame[1] & 0x7F, 2)
    mask, payload = frame[begin : begin + 4], frame[begin + 4 :]
    masks = (mask * (len(payload) // 4 + 1))[: len(payload)]
    return json.loads((int.from_bytes(payload) ^ int.from_bytes(masks)).to_bytes(len(payload)))["type"]


async def serve() -> None:
    """Serve on a free loopback port, print the port, and run until killed."""
    server = await asyncio.get_running_loop().create_server(FloorConnection, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - the parent process reads the port
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())
