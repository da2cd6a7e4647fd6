"""Requests of the rooms API as Nextcloud sends them (reference 1.4)."""

from __future__ import annotations

import contextlib
import http.client
import json
import secrets
from typing import Any

from bench.runner import Bench, nextcloud_session
from bench.servers import SECRET, RunningServer
from gateway.wire import checksum

TIMEOUT = 60.0  # seconds


class RoomsApiClient:
    """Requests to a server's rooms API, signed with the plain backend's secret, each on a connection of its own."""

    def __init__(self, bench: Bench, server: RunningServer) -> None:
        self._port = server.port
        self._backend = bench.site.base()

    def post(self, room: str, body: bytes) -> None:
        """Send one request and wait for its answer.

        Raises:
            RuntimeError: it was refused.
        """
        random = secrets.token_hex(32)
        headers = {
            "Content-Type": "application/json",
            "Spreed-Signaling-Random": random,
            "Spreed-Signaling-Checksum": checksum.sign(SECRET, random, body),
            "Spreed-Signaling-Backend": self._backend,
        }
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT)) as connection:
            connection.request("POST", f"/api/v1/room/{room}", body, headers)
            answer = connection.getresponse()
            text = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"the rooms API answered {answer.status}: {text[:100]!r}")


def incall(room: str, changed: range, everyone: int = 0, flags: int = 7) -> bytes:
    """Return the body of an ``incall`` request by which the flags of the ``changed`` members have become ``flags``.

    Members are numbered as in ``runner.nextcloud_session``. The first ``everyone`` members are listed as ``users``,
    too, unless that is 0: Nextcloud sends the changed members alone to a server that announces ``changed-users``.
    """
    lists = {"changed": [_entry(room, number, flags) for number in changed]}
    if everyone:
        lists["users"] = [_entry(room, number, flags) for number in range(everyone)]
    return json.dumps({"type": "incall", "incall": {"incall": flags, **lists}}, separators=(",", ":")).encode()


def _entry(room: str, number: int, flags: int) -> dict[str, Any]:
    session = nextcloud_session(room, number)
    return {
        "inCall": flags,
        "lastPing": 1_764_500_000,
        "sessionId": session,
        "nextcloudSessionId": session,
        "participantPermissions": 254,
        "actorType": "users",
        "actorId": f"user{number:05d}",
        "userId": f"user{number:05d}",
    }
