"""Requests to join and to leave rooms.

Source: reference 4.1, 4.2, 4.4.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import msgspec

from gateway.core import call_membership
from gateway.core.limits import exceeds
from gateway.core.participants import Participant, in_call
from gateway.core.pending import PendingJoin
from gateway.core.room import Room, RoomKey
from gateway.core.session import Session
from gateway.flows.bye import ROOM_SESSION_RECONNECTED
from gateway.flows.call_log import SessionEnd, StreamEnd
from gateway.flows.ports import NextcloudError
from gateway.flows.rooms.call_counters import counting_call_entries
from gateway.flows.rooms.events import RoomEvents
from gateway.flows.services import Services, room_request
from gateway.flows.tasks import Work
from gateway.flows.traffic import Traffic
from gateway.wire import server, structure
from gateway.wire.backend import BackendAnswer, RoomAnswer
from gateway.wire.client import ABSENT, ClientMessage, RoomJoin, is_given
from gateway.wire.errors import Code, Error, ProtocolError
from gateway.wire.server import AlreadyJoined, RoomBody


class DuplicateCloser(Protocol):
    """Ends a session that another session with the same Nextcloud session id replaces."""

    def end(self, session: Session, why: SessionEnd, *, reason: str, notify_backend: bool) -> None:
        """End a session; a connected client gets a ``bye`` with the reason."""


class RoomMembership:
    """Lets sessions join and leave rooms."""

    def __init__(self, services: Services, events: RoomEvents, closer: DuplicateCloser, traffic: Traffic) -> None:
        self._services = services
        self._traffic = traffic
        self._hub = services.hub
        self._events = events
        self._closer = closer

    def handle(self, session: Session, message: ClientMessage) -> Work | None:
        """Leave the current room at once, or join one in the returned coroutine.

        Raises:
            ProtocolError: the message is malformed.
            Postponed: the message has to be handled again later.
        """
        room, request_id = structure.room(message.room), message.id or ""
        if session.is_internal:
            self._require_update_budget(session, room.roomid or "")
        if room.roomid:
            return self.join(session, room, request_id)
        self.leave(session, request_id)
        return None

    def _require_update_budget(self, session: Session, roomid: str) -> None:
        """Postpone the join or leave of an internal client while the update budget of its old or new room is spent.

        Each join or leave sends all members of the room the list of participants (7.3).

        Raises:
            RecipientsBusy: the request has to wait.
        """
        for room in (self._hub.room_of(session), self._hub.room(session.backend, roomid)):
            if room is not None:
                self._traffic.require_update_budget(room)

    def leave(self, session: Session, request_id: str) -> None:
        """Leave the current room; there is no reply if the session is in none (4.2)."""
        left = self._hub.leave(session)
        if left is None:
            return
        self._services.delivery.send(session, server.encode(server.Room(RoomBody(""), request_id)))
        self._events.session_left(left)
        self._hub.restart_join_timer(session, self._services.clock())

    async def join(self, session: Session, room: RoomJoin, request_id: str) -> None:
        """Join a room after Nextcloud has allowed it (4.1).

        A Nextcloud session id is known to other members, so it has no effect, on this session or another one, before
        Nextcloud has confirmed it for this user and room.

        Raises:
            ProtocolError: the session stays in its current room, if any.
        """
        joining, traces = self._join(session, room, request_id), self._services.traces
        await (joining if traces is None else traces.join(session, room.roomid or "", joining))

    async def _join(self, session: Session, room: RoomJoin, request_id: str) -> None:
        roomid, room_session = room.roomid or "", room.sessionid or ""
        if exceeds(max(len(roomid), len(room_session)), self._services.settings.limits.id_length):
            self._services.count_excess("id_length")
            raise ProtocolError(Code.LIMIT_EXCEEDED.error())
        if self._services.ids.is_session_id(room_session):  # this server's own id of a session or virtual session
            raise ProtocolError(Code.ROOM_JOIN_FAILED.error())
        if session.is_internal:  # it joins without Nextcloud, which therefore cannot confirm an id
            room_session = ""
        current = self._hub.room_of(session)
        if current is not None and current.key.id == roomid:
            await self._join_again(session, current, room_session)
            raise ProtocolError(Code.ALREADY_JOINED.error(AlreadyJoined(_room_body(current))))
        if session.is_internal:
            self._enter(session, RoomAnswer(roomid), roomid, "", request_id)
            return
        with self._pending(session, roomid, room_session) as pending:
            answer = await self._request_join(session, roomid, room_session)
            if answer.type == "room" and answer.room is not None:
                key = RoomKey(session.backend.id, answer.room.roomid or roomid)
                await self._traffic.wait_to_join(session, key, room_session)
            if not session.open:
                self._undo_join(pending, answer)
                return
            if answer.type == "error" and answer.error is not None:
                raise ProtocolError(Error(answer.error.code or "", answer.error.message or "", answer.error.details))
            if answer.type != "room" or answer.room is None:
                self._services.refusals.unexpected_answer(session.backend, session.url, "room")
                raise ProtocolError(Code.ROOM_JOIN_FAILED.error())
            if pending.withdrawn:
                self._undo_join(pending, answer)
                raise ProtocolError(Code.ROOM_JOIN_FAILED.error())
            if not self._take_over(session, answer.room.roomid or roomid, room_session):
                self._services.refusals.taken_room_session(session.backend)
                raise ProtocolError(Code.ROOM_JOIN_FAILED.error())
            room_answer = answer.room
            if pending.permissions is not None:
                room_answer = msgspec.structs.replace(room_answer, permissions=list(pending.permissions))
            self._enter(session, room_answer, roomid, room_session, request_id)
            self._apply_call_membership(pending)

    async def _join_again(self, session: Session, room: Room, room_session: str) -> None:
        """Replace the Nextcloud session id of a session in its room, if Nextcloud confirms the new one.

        Without a new id the session is registered with its public id, too. An id of another session stays with that
        session.

        Raises:
            ProtocolError: the session has ended or left the room meanwhile.
        """
        if not room_session:
            self._hub.register_public_id(session)
        if not room_session or room_session == session.room_session_id or self._holder(session, room_session):
            return
        with self._pending(session, room.key.id, room_session) as pending:
            try:
                answer = await self._request_join(session, room.key.id, room_session)
            except ProtocolError:
                return
            if not session.open or self._hub.room_of(session) is not room:
                self._undo_join(pending, answer)
                raise ProtocolError(Code.ROOM_JOIN_FAILED.error())
            if answer.type == "room" and answer.room is not None and self._holder(session, room_session) is None:
                self._hub.register(session, room_session)
                permissions = answer.room.permissions if pending.permissions is None else pending.permissions
                if permissions is not None:
                    self._hub.set_permissions(session, permissions)
                    self._events.permissions_changed(session)
                self._apply_call_membership(pending)

    @contextmanager
    def _pending(self, session: Session, roomid: str, room_session: str) -> Iterator[PendingJoin]:
        """Register a pending join while the block runs, which asks Nextcloud and completes the join."""
        joins = self._hub.pending_joins
        pending = joins.add(session, RoomKey(session.backend.id, roomid), room_session or session.id)
        try:
            yield pending
        finally:
            joins.remove(pending)

    async def _request_join(self, session: Session, roomid: str, room_session: str) -> BackendAnswer:
        request = room_request(session, roomid, room_session or session.id)
        turn = self._services.backend_turns.turn(
            session.backend.id, session.network, known=bool(session.userid), wanted=lambda: session.open
        )
        try:
            async with turn:
                return await self._services.nextcloud.ask(session.backend, session.url, request)
        except NextcloudError as error:
            raise ProtocolError(Code.INTERNAL_ERROR.error(message=str(error))) from error

    def _undo_join(self, pending: PendingJoin, answer: BackendAnswer) -> None:
        """Send a leave request for a join that Nextcloud allowed and that was not completed.

        None is sent if the client gave no Nextcloud session id, or if another session has the id or joins with it:
        Nextcloud would remove that session (4.4).
        """
        session, room_session = pending.session, str(pending.room_session_id)
        if answer.type != "room" or room_session == session.id or self._holder(session, room_session) is not None:
            return
        if all(other is pending for other in self._hub.pending_joins.find(pending.room, room_session)):
            self._events.request_leave(session, pending.room.id, room_session)

    def _take_over(self, session: Session, roomid: str, room_session: str) -> bool:
        """End another session that has a Nextcloud session id confirmed for this one, without a leave request (4.4).

        Return whether this session may have the id. Both must be of the same user, client type and actor: Talk admits
        each client that knows the id. Anonymous sessions cannot be told apart, so the other one must have lost its
        connection, and be in the room that this one joins.
        """
        other = self._holder(session, room_session)
        if other is None:
            return True
        alike = (other.userid, other.client_type, other.actor) == (session.userid, session.client_type, session.actor)
        if not alike or not (session.userid or self._is_abandoned(other, RoomKey(session.backend.id, roomid))):
            return False
        self._closer.end(other, SessionEnd.RECONNECTED, reason=ROOM_SESSION_RECONNECTED, notify_backend=False)
        return True

    def _is_abandoned(self, other: Session, room: RoomKey) -> bool:
        """Return whether another anonymous session may be one that this one's client has lost."""
        is_guest = other.actor is None
        return other.room == room and not (is_guest and other.connection is not None)

    def _holder(self, session: Session, room_session: str) -> Session | None:
        """Return the other session that is registered with a Nextcloud session id."""
        other = self._hub.find_by_room_session(session.backend.id, room_session) if room_session else None
        return None if other is session else other

    def _apply_call_membership(self, pending: PendingJoin) -> None:
        """Apply the call membership that Nextcloud reported during the join, and send the list of participants."""
        session, room = pending.session, self._hub.room_of(pending.session)
        if room is None:
            return
        if pending.in_call is not None:
            with counting_call_entries(self._services, room):
                left_call = call_membership.set_in_call(room, session.id, pending.in_call)
            if left_call is not None:
                self._events.end_streams(left_call, StreamEnd.LEFT_CALL)
        if pending.entry is not None:
            flags = in_call(pending.entry.get("inCall"))
            call_membership.update_participants(room, [Participant(session.id, pending.entry, None, flags)])
            self._events.known_participants(room)

    def _enter(self, session: Session, answer: RoomAnswer, roomid: str, room_session: str, request_id: str) -> None:
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
            self._events.session_left(joined.left)
        body = _room_body(joined.room, self._services.bandwidth(session.backend))
        self._services.delivery.send(session, server.encode(server.Room(body, request_id)))
        self._events.session_joined(joined)
        self._services.calls.joined(session, joined.room)


def _room_body(room: Room, bandwidth: server.Bandwidth | None = None) -> RoomBody:
    return RoomBody(room.key.id, room.properties if is_given(room.properties) else ABSENT, bandwidth)
