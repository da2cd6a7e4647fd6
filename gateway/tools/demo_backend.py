"""A small backend for the demo: what a gateway needs of Nextcloud, over real HTTP on loopback.

It answers the gateway's requests (capabilities, auth, room, ping) and sends it ``incall`` requests when people enter or
leave the call, both with checksums. Source: behaviour reference 3.7, 4.1, 4.2, 4.5, 6.5.
"""

from __future__ import annotations

import asyncio
import base64
import secrets
import time
from collections.abc import Callable
from typing import Any

import aiohttp
import jwt
import msgspec
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Struct

from gateway import log
from gateway.tools.demo_rooms import DemoRooms, Participant
from gateway.wire import checksum

PERMISSIONS = ["publish-media", "publish-screen", "control", "transient-data"]  # everything
TOKEN_SECONDS = 300  # a token is used right after it was made
TIMEOUT = 10.0  # seconds for a request to the gateway

_log = log.get("demo")


class Ticket(Struct, frozen=True):
    """What the page needs to join: both kinds of credentials, and where the backend is."""

    session: str
    roomid: str
    userid: str
    url: str
    ticket: str  # hello 1.0
    token: str  # hello 2.0
    iceServers: list[dict[str, Any]] = []  # noqa: N815 - the name that the page hands to the browser


class DemoBackend:
    """The demo's Nextcloud. ``secret`` is shared with the gateway."""

    def __init__(self, secret: str) -> None:
        self._secret = secret
        self._rooms = DemoRooms(lambda: secrets.token_urlsafe(32))
        self._key = Ed25519PrivateKey.generate()
        self._gateway = ""
        self._client: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None
        self._ordered = asyncio.Lock()  # call changes reach the gateway in the order in which they happened
        self._tasks: set[asyncio.Task[None]] = set()
        self.url = ""

    async def start(self) -> None:
        """Listen on a free port of 127.0.0.1; ``url`` is the base URL then."""
        app = web.Application()
        app.add_routes(
            [
                web.get("/ocs/v2.php/cloud/capabilities", self._capabilities),
                web.post("/ocs/v2.php/apps/spreed/api/v3/signaling/backend", self._backend),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}/"
        self._client = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT))

    def attach(self, gateway: str) -> None:
        """Name the gateway's base URL, to which call changes are sent."""
        self._gateway = gateway.rstrip("/")

    async def stop(self) -> None:
        """Stop listening and drop what is under way. Idempotent."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._client is not None:
            await self._client.close()
        if self._runner is not None:
            await self._runner.cleanup()

    # --- what the page asks

    def join(self, name: str, room: str, person: str, previous: str) -> Ticket:
        """Let a person into a room, in place of the session ``previous``.

        Raises:
            Full: there are too many.
        """
        if previous:
            self._gone(previous)
        participant = self._rooms.join(name, room, person, time.monotonic())
        return Ticket(
            session=participant.session,
            roomid=participant.room,
            userid=participant.user,
            url=self.url,
            ticket=participant.session,
            token=self._token(participant),
        )

    async def set_call(self, session: str, flags: int) -> bool:
        """Change a participant's call flags and tell the gateway; False when there is no such participant."""
        participant = self._rooms.find(session)
        if participant is None:
            return False
        participant.in_call = flags
        await self._tell(participant)
        return True

    def _token(self, participant: Participant) -> str:
        now = int(time.time())
        claims = {
            "iss": self.url,
            "iat": now,
            "exp": now + TOKEN_SECONDS,
            "sub": participant.user,
            "userdata": {"displayname": participant.name},
        }
        return jwt.encode(claims, self._key, algorithm="EdDSA")

    # --- what the gateway asks

    async def _capabilities(self, request: web.Request) -> web.Response:
        key = base64.b64encode(self._key.public_key().public_bytes_raw()).decode()
        spreed = {"features": ["signaling-v3"], "config": {"signaling": {"hello-v2-token-key": key}}}
        return _ocs({"capabilities": {"spreed": spreed}})

    async def _backend(self, request: web.Request) -> web.Response:
        body = await request.read()
        random = request.headers.get("Spreed-Signaling-Random", "")
        if not checksum.verify(self._secret, random, request.headers.get("Spreed-Signaling-Checksum", ""), body):
            return _ocs(_error("invalid_request", "The request could not be authenticated."))
        message = msgspec.json.decode(body)
        answers: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "auth": self._auth,
            "room": self._room,
            "ping": self._ping,
        }
        kind = message.get("type")
        if kind not in answers:
            return _ocs(_error("unknown_type", "The demo backend does not know this request."))
        return _ocs(answers[kind](message[kind]))

    def _auth(self, auth: dict[str, Any]) -> dict[str, Any]:
        participant = self._rooms.find(str(auth.get("params", {}).get("ticket", "")))
        if participant is None:
            return _error("invalid_ticket", "The given ticket is not valid.")
        user = {"displayname": participant.name}
        return {"type": "auth", "auth": {"version": "1.0", "userid": participant.user, "user": user}}

    def _room(self, room: dict[str, Any]) -> dict[str, Any]:
        session = str(room.get("sessionid", ""))
        participant = self._rooms.find(session)
        answer = {"version": "1.0", "roomid": room.get("roomid", ""), "properties": {"type": 3}}
        if room.get("action") == "leave":
            self._gone(session)
        elif participant is None or participant.room != room.get("roomid"):
            return _error("no_such_room", "The room does not exist, or you are not invited.")
        else:
            self._rooms.hear([session], time.monotonic())
            answer["permissions"] = PERMISSIONS
        return {"type": "room", "room": answer}

    def _ping(self, ping: dict[str, Any]) -> dict[str, Any]:
        sessions = [entry.get("sessionid", "") for entry in ping.get("entries", [])]
        self._rooms.hear(sessions, time.monotonic())
        return {"type": "room", "room": {"version": "1.0", "roomid": ping.get("roomid", "")}}

    # --- what the gateway is told

    def _gone(self, session: str) -> None:
        participant = self._rooms.leave(session)
        if participant is None or not self._rooms.members(participant.room):
            return
        task = asyncio.create_task(self._tell(participant), name="demo call change")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tell(self, changed: Participant) -> None:
        async with self._ordered:
            users = [member.entry() for member in self._rooms.members(changed.room)]
            incall = {"incall": changed.in_call, "changed": [changed.entry()], "users": users}
            await self._send(changed.room, {"type": "incall", "incall": incall})

    async def _send(self, room: str, message: dict[str, Any]) -> None:
        """Send a request to the gateway's rooms API; a gateway that is away learns of it when people join again."""
        body = msgspec.json.encode(message)
        random = secrets.token_hex(32)
        headers = {
            "Content-Type": "application/json",
            "Spreed-Signaling-Random": random,
            "Spreed-Signaling-Checksum": checksum.sign(self._secret, random, body),
            "Spreed-Signaling-Backend": self.url,
        }
        if self._client is None:
            return
        try:
            url = f"{self._gateway}/api/v1/room/{room}"
            async with self._client.post(url, data=body, headers=headers) as response:
                if response.status != 200:
                    _log.warning("the gateway refused a call change", status=response.status)
        except (aiohttp.ClientError, TimeoutError):
            _log.warning("the gateway could not be told of a call change")


def _ocs(data: dict[str, Any]) -> web.Response:
    """Wrap an answer as Nextcloud does."""
    meta = {"status": "ok", "statuscode": 200, "message": "OK"}
    body = msgspec.json.encode({"ocs": {"meta": meta, "data": data}})
    return web.Response(body=body, content_type="application/json", charset="utf-8")


def _error(code: str, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"code": code, "message": message}}
