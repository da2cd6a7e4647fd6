"""The demo's Nextcloud: keeps the participants of rooms and calls, and sends changes of calls to the gateway.

HTTP, checksums and OCS documents are those of the fake Nextcloud; this module returns the answers.
Source: reference 3.2, 4.1, 4.2, 4.5 (the gateway's requests), 6.5 (``incall``).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from typing import Any

import aiohttp
from msgspec import Struct

from gateway.core.limits import Backend
from gateway.tools.demo_rooms import DemoParticipant, DemoRooms
from gateway.tools.fake_nextcloud import FakeNextcloud, RecordedRequest

Json = dict[str, Any]

PERMISSIONS = ["publish-media", "publish-screen", "control", "transient-data"]  # of a participant

log = logging.getLogger("portunus.demo")


class JoinCredentials(Struct, frozen=True):
    """The data with which a page joins: the credentials for both versions of hello, and the backend's URL."""

    session: str
    roomid: str
    userid: str
    url: str
    ticket: str  # hello 1.0
    token: str  # hello 2.0
    iceServers: list[Json] = []  # noqa: N815 - the browser's name


class DemoBackend:
    """The backend of the demo, as an HTTP server on 127.0.0.1."""

    def __init__(self) -> None:
        self._cloud = FakeNextcloud()
        self._cloud.hook = self._answer
        self._rooms = DemoRooms(lambda: secrets.token_urlsafe(32))
        self._gateway = ""
        self._send_lock = asyncio.Lock()  # call changes reach the gateway in their order
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def backend(self) -> Backend:
        """The backend for the gateway's configuration; call ``start`` first."""
        return self._cloud.backend("demo")

    async def start(self) -> None:
        """Listen on a free port."""
        await self._cloud.start()

    def attach(self, gateway: str) -> None:
        """Set the gateway's base URL, to which call changes are sent."""
        self._gateway = gateway

    async def stop(self) -> None:
        """Stop listening and cancel unsent call changes. Idempotent."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._cloud.close()

    # --- requests of the page

    def join(self, name: str, room: str, person: str, previous: str) -> JoinCredentials:
        """Add a person to a room, replacing the session ``previous``.

        Raises:
            TooManyParticipants: the limit is reached.
        """
        if previous:
            self._remove(previous)
        participant = self._rooms.join(name, room, person, time.monotonic())
        return JoinCredentials(
            session=participant.session,
            roomid=participant.room,
            userid=participant.user,
            url=self._cloud.url,
            ticket=participant.session,
            token=self._cloud.token(participant.user, {"displayname": participant.name}),
        )

    async def set_call(self, session: str, flags: int) -> bool:
        """Change a participant's call flags and send them to the gateway; return ``False`` for an unknown session."""
        participant = self._rooms.find(session)
        if participant is None:
            return False
        participant.in_call = flags
        await self._send_call_change(participant)
        return True

    # --- requests of the gateway

    def _answer(self, request: RecordedRequest) -> Json | None:
        self._cloud.requests.clear()  # recorded requests would accumulate
        if request.type == "auth":
            return self._auth(request.body)
        if request.type == "room":
            return self._room(request.body)
        if request.type == "ping":
            sessions = [entry.get("sessionid", "") for entry in request.body.get("entries", [])]
            self._rooms.refresh(sessions, time.monotonic())
        return None

    def _auth(self, auth: Json) -> Json:
        params = auth.get("params")  # anything that the client sent
        participant = self._rooms.find(str(params.get("ticket"))) if isinstance(params, dict) else None
        if participant is None:
            return _error("invalid_ticket", "The given ticket is not valid.")
        user = {"displayname": participant.name}
        return {"type": "auth", "auth": {"version": "1.0", "userid": participant.user, "user": user}}

    def _room(self, room: Json) -> Json | None:
        session, roomid = str(room.get("sessionid", "")), room.get("roomid", "")
        if room.get("action") == "leave":
            self._remove(session)
            return None
        participant = self._rooms.find(session)
        if participant is None or participant.room != roomid:
            return _error("no_such_room", "The room does not exist, or you are not invited.")
        self._rooms.refresh([session], time.monotonic())
        answer = {"version": "1.0", "roomid": roomid, "properties": {"type": 3}, "permissions": PERMISSIONS}
        return {"type": "room", "room": answer}

    # --- requests to the gateway

    def _remove(self, session: str) -> None:
        participant = self._rooms.leave(session)
        if participant is None or not self._rooms.members(participant.room):
            return
        task = asyncio.create_task(self._send_call_change(participant), name="demo call change")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send_call_change(self, changed: DemoParticipant) -> None:
        """Send an ``incall`` request; a gateway that is not running receives the call state with a later request."""
        async with self._send_lock:
            users = [member.entry() for member in self._rooms.members(changed.room)]
            incall = {"incall": changed.in_call, "changed": [changed.entry()], "users": users}
            request = {"type": "incall", "incall": incall}
            try:
                status, _ = await self._cloud.send(self._gateway, changed.room, request)
            except (aiohttp.ClientError, TimeoutError):
                log.warning("a call change could not be sent to the gateway")
            else:
                if status != 200:
                    log.warning("the gateway refused a call change with status %d", status)


def _error(code: str, message: str) -> Json:
    return {"type": "error", "error": {"code": code, "message": message}}
