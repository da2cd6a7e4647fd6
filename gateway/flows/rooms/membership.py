"""Requests to join and to leave rooms.

Source: reference 4.1, 4.2, 4.4.
"""

from __future__ import annotations

from typing import Protocol

from gateway.core.room import Room
from gateway.core.session import Session
from gateway.flows.bye import ROOM_SESSION_RECONNECTED
from gateway.flows.ports import NextcloudError
from gateway.flows.rooms.events import RoomEvents
from gateway.flows.services import Services, room_request
from gateway.flows.tasks import Work
from gateway.wire import server, structure
from gateway.wire.backend import BackendAnswer, RoomAnswer
from gateway.wire.client import ABSENT, ClientMessage, RoomJoin, given
from gateway.wire.errors import Code, Error, ProtocolError
from gateway.wire.server import AlreadyJoined, RoomBody


class DuplicateCloser(Protocol):
    """Ends a session that is replaced by another one with the same Nextcloud session id."""

    def end(self, session: Session, *, reason: str, tell_backend: bool) -> None:
        """End a session; a connected client gets a ``bye`` with the reason."""


class RoomMembership:
    """Lets sessions join and leave rooms."""

    def __init__(self, services: Services, events: RoomEvents, closer: DuplicateCloser) -> None:
        self._services = services
        self._hub = services.hub
        self._events = events
        self._closer = closer

    def handle(self, session: Session, message: ClientMessage) -> Work | None:
        """Leave the current room at once, or join one in the returned coroutine.

        Raises:
            ProtocolError: the message is malformed.
        """
        room, request = structure.room(message.room), message.id or ""
        if room.roomid:
            return self.join(session, room, request)
        self.leave(session, request)
        return None

    def leave(self, session: Session, request: str) -> None:
        """Leave the current room; without one there is no reply (4.2)."""
        left = self._hub.leave(session)
        if left is None:
            return
        self._services.delivery.send(session, server.encode(server.Room(RoomBody(""), request)))
        self._events.left(left)
        self._hub.restart_join_timer(session, self._services.clock())

    async def join(self, session: Session, room: RoomJoin, request: str) -> None:
        """Join a room after Nextcloud has allowed it (4.1).

        Raises:
            ProtocolError: the session stays in its current room, if any.
        """
        roomid, room_session = room.roomid or "", room.sessionid or ""
        current = self._hub.room_of(session)
        if current is not None and current.key.id == roomid:
            if not room_session or self._holder(session, room_session) is None:
                self._hub.register(session, room_session or session.id)
            details = AlreadyJoined(_room_body(current))
            raise ProtocolError(Code.ALREADY_JOINED.error(details))
        if session.is_internal:  # needs no invitation
            if self._holder(session, room_session) is not None:
                room_session = ""
            answer = BackendAnswer("room", room=RoomAnswer(roomid))
        else:
            answer = await self._request_join(session, roomid, room_session)
        if not session.open:
            self._undo_join(session, roomid, room_session, answer)
            return
        if room_session:
            self._close_duplicate(session, room_session)
        if answer.type == "error" and answer.error is not None:
            raise ProtocolError(Error(answer.error.code or "", answer.error.message or "", answer.error.details))
        if answer.type != "room" or answer.room is None:
            raise ProtocolError(Code.ROOM_JOIN_FAILED.error())
        self._enter(session, answer.room, roomid, room_session, request)

    async def _request_join(self, session: Session, roomid: str, room_session: str) -> BackendAnswer:
        request = room_request(session, roomid, room_session or session.id)
        try:
            return await self._services.nextcloud.ask(session.backend, session.url, request)
        except NextcloudError as error:
            raise ProtocolError(Code.INTERNAL_ERROR.error(message=str(error))) from error

    def _undo_join(self, session: Session, roomid: str, room_session: str, answer: BackendAnswer) -> None:
        """Send a leave request for a session that ended while Nextcloud let it join.

        Not if another session is registered with the same Nextcloud session id by now: Nextcloud would remove that one
        (4.4).
        """
        if room_session and answer.type == "room" and self._holder(session, room_session) is None:
            self._events.request_leave(session, roomid, room_session)

    def _close_duplicate(self, session: Session, room_session: str) -> None:
        """End another session with the same Nextcloud session id, without a leave request (4.4)."""
        other = self._holder(session, room_session)
        if other is not None:
            self._closer.end(other, reason=ROOM_SESSION_RECONNECTED, tell_backend=False)

    def _holder(self, session: Session, room_session: str) -> Session | None:
        """Return the other session that is registered with a Nextcloud session id."""
        other = self._hub.of_room_session(session.backend.id, room_session)
        return None if other is session else other

    def _enter(self, session: Session, answer: RoomAnswer, roomid: str, room_session: str, request: str) -> None:
        joined = self._hub.join(
            session,
            answer.roomid or roomid,
            answer.properties,
            room_session=room_session,
            room_userid=answer.userid,
            permissions=answer.permissions,
            now=self._services.clock(),
        )
        if joined.left is not None:
            self._events.left(joined.left)
        body = _room_body(joined.room, self._services.bandwidth(session.backend))
        self._services.delivery.send(session, server.encode(server.Room(body, request)))
        self._events.joined(joined)


def _room_body(room: Room, bandwidth: server.Bandwidth | None = None) -> RoomBody:
    return RoomBody(room.key.id, room.properties if given(room.properties) else ABSENT, bandwidth)
