"""The demo's Nextcloud: authenticates the users of the call page, and sends changes of call flags to the gateway.

Conversations, answers and requests are those of the fake Nextcloud; this module adds the users of the call page.
Source: reference 3.2, 4.1, 4.2, 4.5 (the gateway's requests), 6.5 (``incall``).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
import ssl
import time
from collections.abc import Callable
from itertools import chain, count
from typing import NamedTuple

from msgspec import Struct

from gateway.core.limits import Backend
from gateway.tools.fake_nextcloud import FakeNextcloud, RecordedRequest
from gateway.tools.talk_answers import error
from gateway.tools.talk_notifier import SEND_ERRORS
from gateway.tools.talk_rooms import Json, TalkRoom

EXPIRY = 120.0  # seconds after which a session without pings is removed; the gateway pings every 10 s
MAX_PARTICIPANTS = 1000  # at once, in all rooms of the demo

log = logging.getLogger("portunus.demo")


class TooManyParticipants(Exception):
    """``MAX_PARTICIPANTS`` is reached."""


class JoinCredentials(Struct, frozen=True):
    """The answer to a join: session and room, credentials for both versions of hello, the backend's URL."""

    name: str  # as the others see it
    session: str
    roomid: str
    userid: str
    url: str
    ticket: str  # hello 1.0
    token: str  # hello 2.0
    iceServers: list[Json] = []  # noqa: N815 - the browser's name


class _Name(NamedTuple):
    """The display name of a user in a room: as typed, and as shown, with a number if need be."""

    typed: str
    shown: str


class DemoBackend:
    """The backend of the demo, as an HTTP server on 127.0.0.1; ``clock`` returns unix time in seconds."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._cloud = FakeNextcloud(clock=clock)
        self._cloud.hook = self._answer
        self._talk = self._cloud.talk
        self._talk.rooms.refuse_unknown_sessions = True
        self._users: dict[str, tuple[str, str]] = {}  # user id and display name, by ticket
        self._names: dict[tuple[str, str], _Name] = {}  # by room and user id
        self._send_lock = asyncio.Lock()  # so that call changes reach the gateway in order
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def backend(self) -> Backend:
        """The backend for the gateway's configuration; call ``start`` first."""
        return self._cloud.backend("demo")

    async def start(self) -> None:
        """Listen on a free port."""
        await self._cloud.start()

    def attach(self, gateway: str, tls: ssl.SSLContext | None = None) -> None:
        """Set the gateway's base URL, to which call changes are sent, and the context of connections over TLS."""
        self._cloud.gateway = gateway
        self._cloud.notifier.tls = tls

    async def stop(self) -> None:
        """Stop listening and cancel unsent requests. Idempotent."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._cloud.close()

    # --- requests of the page

    def join(self, name: str, room: str, person: str, previous: str) -> JoinCredentials:
        """Open a session of the user ``name`` in a room, and end the session ``previous``, which may be empty.

        ``room`` is the name of the room. ``person`` is a secret of the browser; the same secret gives the same user.
        A name that another user in the room has is given a number, which the user keeps in later joins.

        Raises:
            TooManyParticipants: ``MAX_PARTICIPANTS`` is reached.
        """
        userid, roomid = f"demo-{_digest(person)}", _digest(room.casefold())
        former = self._names.get((roomid, userid))
        if previous:
            self._end(previous)
        self._expire()
        rooms = self._talk.rooms.rooms
        if sum(len(present.sessions) for present in rooms.values()) >= MAX_PARTICIPANTS:
            raise TooManyParticipants
        shown = former.shown if former is not None and former.typed == name else ""
        self._names[roomid, userid] = _Name(name, self._distinct(name, roomid, userid, shown))
        name = self._names[roomid, userid].shown
        ticket = secrets.token_urlsafe(32)
        self._users[ticket] = userid, name
        return JoinCredentials(
            name=name,
            session=self._talk.open(roomid, userid),
            roomid=roomid,
            userid=userid,
            url=self._cloud.url,
            ticket=ticket,
            token=self._cloud.token(userid, {"displayname": name}),
        )

    async def set_call(self, session: str, flags: int) -> bool:
        """Set a participant's call flags and send them to the gateway; return ``False`` for an unknown session."""
        room = self._room_of(session)
        if room is None:
            return False
        async with self._send_lock:
            if session in room.sessions:
                try:
                    await self._talk.set_in_call(room.token, session, flags)
                except SEND_ERRORS as failure:
                    log.warning("the gateway did not accept a call change: %s", type(failure).__name__)
        return True

    # --- requests of the gateway

    def _answer(self, request: RecordedRequest) -> Json | None:
        self._cloud.requests.clear()  # recorded requests would accumulate
        return self._auth(request.body) if request.type == "auth" else None

    def _auth(self, auth: Json) -> Json:
        params = auth.get("params")  # any JSON value: the client chose it
        user = self._users.get(str(params.get("ticket"))) if isinstance(params, dict) else None
        if user is None:
            return error("invalid_ticket", "The given ticket is not valid.")
        userid, name = user
        return {"type": "auth", "auth": {"version": "1.0", "userid": userid, "user": {"displayname": name}}}

    # --- names and sessions

    def _distinct(self, name: str, roomid: str, userid: str, former: str) -> str:
        """Return ``former``, ``name`` or the name with a number: the first that no other user in the room has."""
        others = {
            one.shown.casefold() for (room, user), one in self._names.items() if room == roomid and user != userid
        }
        numbered = (f"{name} ({number})" for number in count(2))
        candidates = (candidate for candidate in chain([former, name], numbered) if candidate)
        return next(candidate for candidate in candidates if candidate.casefold() not in others)

    def _room_of(self, session: str) -> TalkRoom | None:
        return next((room for room in self._talk.rooms.rooms.values() if session in room.sessions), None)

    def _end(self, session: str) -> None:
        """End a session that another session replaces, and report its end to the gateway in the background."""
        room = self._room_of(session)
        if room is None:
            return
        room.close(session)
        task = asyncio.create_task(self._report_end(room, session), name="demo session end")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _report_end(self, room: TalkRoom, session: str) -> None:
        try:
            await self._talk.report_end(room, session)
        except SEND_ERRORS as failure:
            log.warning("the gateway did not accept the end of a session: %s", type(failure).__name__)

    def _expire(self) -> None:
        """Remove sessions that are no longer pinged, attendees and users without a session, and empty rooms."""
        rooms = self._talk.rooms.rooms
        oldest = self._clock() - EXPIRY
        present: set[str] = set()
        memberships: set[tuple[str, str]] = set()
        for token, room in list(rooms.items()):
            for session in list(room.sessions.values()):
                if session.last_ping < oldest:
                    room.close(session.id)
            room.attendees[:] = {session.attendee: None for session in room.sessions.values()}  # each once, in order
            present |= {attendee.userid for attendee in room.attendees}
            memberships |= {(token, attendee.userid) for attendee in room.attendees}
            if not room.sessions:
                del rooms[token]
        self._names = {member: name for member, name in self._names.items() if member in memberships}
        self._users = {ticket: user for ticket, user in self._users.items() if user[0] in present}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
