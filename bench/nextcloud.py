"""The Nextcloud of the benchmarks: an HTTP/1.1 server that accepts every user and every room, at little cost.

``python -m bench.nextcloud [KEYS_FILE]``: prints its port. KEYS_FILE is a JSON object: the public key in the
capabilities by first path segment. Answers the requests of a signaling server (reference 3.7, 3.8, 4.1) in the OCS
wrapping. Its CPU time is not measured, because it is a process of its own; but it runs on the core of the load, so that
a slow Nextcloud would leave the measured server idle.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import Any, cast

import uvloop

_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def _ocs(data: Any) -> bytes:
    body = json.dumps({"ocs": {"meta": {"status": "ok", "statuscode": 200, "message": "OK"}, "data": data}}).encode()
    head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nCache-Control: max-age=3600"
    return f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


class NextcloudConnection(asyncio.Protocol):
    """One connection, which carries one request after another."""

    def __init__(self, keys: dict[str, str]) -> None:
        self._keys = keys
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's class is not derived from it

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            found = _CONTENT_LENGTH.search(self._buffer, 0, end)
            whole = end + 4 + (int(found[1]) if found else 0)
            if len(self._buffer) < whole:
                return
            path = self._buffer.split(b" ", 2)[1].decode()
            body, self._buffer = self._buffer[end + 4 : whole], self._buffer[whole:]
            self._transport.write(self._answer_backend(json.loads(body)) if body else self._capabilities(path))

    def _capabilities(self, path: str) -> bytes:
        signaling = {"session-ping-limit": 200, "hello-v2-token-key": self._keys.get(path.split("/")[1], "")}
        spreed = {"features": ["signaling-v3"], "config": {"signaling": signaling}}
        return _ocs({"capabilities": {"spreed": spreed}})

    def _answer_backend(self, body: Any) -> bytes:
        match body["type"]:
            case "auth":
                userid = body["auth"]["params"]["userid"]
                answer = {"version": "1.0", "userid": userid, "user": {"displayname": f"User {userid}"}}
            case "room":
                properties = {"name": "Bench", "type": 2}
                answer = {"version": "1.0", "roomid": body["room"]["roomid"], "properties": properties}
            case _:
                answer = {"version": "1.0", "roomid": body[body["type"]].get("roomid", "")}
        return _ocs({"type": body["type"], body["type"]: answer})


async def serve(keys: dict[str, str]) -> None:
    """Serve on a free loopback port, print the port, and run until killed."""
    server = await asyncio.get_running_loop().create_server(lambda: NextcloudConnection(keys), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201 - the parent process reads the port
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(json.loads(Path(sys.argv[1]).read_text()) if len(sys.argv) > 1 else {}))
