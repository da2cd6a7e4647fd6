"""Events about a room, sent to its members, and leave requests to Nextcloud, after a change in the core.

An event for many recipients is encoded once per form (``core.visibility``). A session receives its messages in the
order in which these methods are called (reference 4.3).
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.core import participants
from gateway.core.changes import RoomJoined, RoomLeft
from gateway.core.ids import SessionId
from gateway.core.participants import Participant
from gateway.core.relay_budget import cost
from gateway.core.room import Room
from gateway.core.session import Session
from gateway.core.transient import TransientChange
from gateway.core.virtual import VirtualSession, VirtualSessionLeft
from gateway.core.visibility import Content, by_form, form_for
from gateway.flows.backend_turns import NotWanted
from gateway.flows.call_log import StreamEnd
from gateway.flows.media.signaling import MediaSignaling
from gateway.flows.ports import NextcloudError
from gateway.flows.rooms.join_lists import join_event, list_parts
from gateway.flows.rooms.transient_lists import transient_list
from gateway.flows.services import Services, room_request
from gateway.wire import server
from gateway.wire.backend import ParticipantEntry, RoomRequest
from gateway.wire.client import ABSENT
from gateway.wire.server import Event, EventBody, FlagsBody, ParticipantsBody, TransientBody

# Talk's error for the leave request of a session that it has already removed: after a disinvitation, a deletion of the
# room, or the leave of a guest.
USUAL_REFUSALS = frozenset({"no_such_room"})

_empty_update = server.encode(Event(EventBody("participants", "update", update=ParticipantsBody(""))))
PARTICIPANTS_UPDATE = _empty_update[: _empty_update.index(b'"update":')]  # the prefix of all participants updates


class RoomEvents:
    """Sends the events of a change in a room, closes the streams of sessions that left, sends leave requests."""

    def __init__(self, services: Services, media: MediaSignaling) -> None:
        self._services = services
        self._delivery = services.delivery
        self._media = media

    # -- joining and leaving

    def session_joined(self, change: RoomJoined) -> None:
        """Send a session the state of its new room, and the other members its join event (4.3)."""
        session, room = change.session, change.room
        self.permissions_changed(session)
        self._delivery.send_list(session, transient_list(session, room))
        form = form_for(session, Content.PARTICIPANT)
        self._delivery.send(session, join_event(session, form))
        virtuals = list(room.virtuals.values())
        self._delivery.send_list(session, list_parts(room, [*change.others, *virtuals], form))
        self._send_join(session, change.others)
        for virtual in virtuals:
            if virtual.flags:
                self._delivery.send(session, _flags_event(virtual))
        if session.is_internal:
            self.known_participants(room)
        self._media.quality.room_entered(session)

    def permissions_changed(self, session: Session) -> None:
        """End the publications that a session's permissions no longer cover (8)."""
        self._media.revoke(session)

    def virtual_joined(self, virtual: VirtualSession, room: Room) -> None:
        """Send the members of a room a virtual session's join event, the list of participants, and its flags (11.2)."""
        for form, sessions in by_form(room.members.values(), Content.PARTICIPANT).items():
            event = join_event(virtual, form)
            self._charge(room, event)
            self._delivery.send_all(sessions, event)
        self.known_participants(room)
        if virtual.flags:
            self.flags(virtual, room)

    def session_left(self, change: RoomLeft, why: StreamEnd = StreamEnd.LEFT_ROOM, *, silent: bool = False) -> None:
        """Close a session's streams, send the remaining members its leave event, and Nextcloud a leave request.

        ``why`` is for the log. ``silent``: the members get no event. Nextcloud gets no request if the change has no
        Nextcloud session id.
        """
        session = change.session
        self._media.end(session, why)
        self._services.calls.left_room(session, change.room)
        if not silent and change.remaining:
            self._send_leave(session.id, change.remaining, change.data)
            room = self._services.hub.rooms.get(change.room)
            if session.is_internal and room is not None:
                self.known_participants(room)
        if change.room_session:
            self.request_leave(session, change.room.id, change.room_session)

    def virtual_left(self, change: VirtualSessionLeft) -> None:
        """Send the remaining members the leave event of a virtual session; no participants update follows (7.3)."""
        self._send_leave(change.virtual.id, change.remaining, change.data)

    def end_streams(self, session: Session, why: StreamEnd) -> None:
        """Close all streams of a session, for a reason that is logged."""
        self._media.end(session, why)

    def request_leave(self, session: Session, room: str, room_session: str) -> None:
        """Send Nextcloud a leave request for a session, without waiting for the answer (4.2)."""
        request = room_request(session, room, room_session, action="leave")
        self._services.tasks.spawn(self._request_leave(session, request, room_session), "leave request")

    async def _request_leave(self, session: Session, request: RoomRequest, room_session: str) -> None:
        backend, find = session.backend, self._services.hub.find_by_room_session

        def wanted() -> bool:  # Nextcloud would remove a session that has joined with this id again meanwhile
            return find(backend.id, room_session) is None

        try:
            async with self._services.backend_turns.background_turn(backend.id, wanted):
                answer = await self._services.nextcloud.ask(backend, session.url, request)
        except NotWanted:
            return
        except NextcloudError as error:
            cause = (session.backend.id, "leave", str(error))
            self._services.warnings.warning(cause, "leave request to backend %s failed: %s", session.backend.id, error)
            return
        code = "" if answer.error is None else answer.error.code or ""
        if answer.type == "error" and code not in USUAL_REFUSALS:
            cause = (session.backend.id, "leave", code)
            self._services.warnings.warning(cause, "backend %s refused a leave request: %s", session.backend.id, code)

    def _send_join(self, participant: Session | VirtualSession, recipients: Iterable[Session]) -> None:
        for form, sessions in by_form(recipients, Content.PARTICIPANT).items():
            self._delivery.send_all(sessions, join_event(participant, form))

    def _send_leave(self, session: SessionId, remaining: Iterable[Session], data: TransientChange | None) -> None:
        event = Event(EventBody("room", "leave", leave=(session,)))
        self._delivery.send_all(remaining, server.encode(event))
        if data is not None:
            self.transient(remaining, data)

    # -- state of the room

    def transient(self, members: Iterable[Session], change: TransientChange) -> None:
        """Send all members, the author included, a change of the transient data (10)."""
        old = ABSENT if change.old is None else change.old
        if change.value is None:
            body = TransientBody("remove", change.key, oldvalue=old)
        else:
            body = TransientBody("set", change.key, change.value, old)
        self._delivery.send_all(members, server.encode(server.Transient(body)))

    def flags(self, virtual: VirtualSession, room: Room) -> None:
        """Send the members of a room the flags of a virtual session (7.5)."""
        event = _flags_event(virtual)
        self._charge(room, event)
        self._delivery.send_all(room.members.values(), event)

    def participants(self, room: Room, users: Iterable[ParticipantEntry], changed: Iterable[Participant]) -> None:
        """Send all members the list of participants, followed by the changed participants that it lacks (7.3)."""
        shown = participants.complete(users, room, int(self._services.wall_clock()))
        message = _participants_event(room, participants.merge(shown, changed))
        self._delivery.send_all(room.members.values(), message)

    def known_participants(self, room: Room) -> None:
        """Send all members the list of participants again, after a change that Nextcloud does not report.

        Nothing is sent if that list is empty or cannot be complete: clients treat a missing participant as one that
        left the call.
        """
        users = participants.known_entries(room, int(self._services.wall_clock()))
        if users:
            event = _participants_event(room, users)
            self._charge(room, event)
            self._delivery.send_all(room.members.values(), event)

    def participants_on_resume(self, session: Session, room: Room) -> None:
        """Send a resumed session the list that ``known_participants`` would send (2.8)."""
        users = participants.known_entries(room, int(self._services.wall_clock()))
        if users:
            self._delivery.send(session, _participants_event(room, users))

    def all_in_call(self, room: Room, recipients: Iterable[Session], flags: int) -> None:
        """Send members the in-call flags that all of them have now (7.4)."""
        body = ParticipantsBody(room.key.id, incall=flags, all=True)
        message = server.encode(Event(EventBody("participants", "update", update=body)))
        self._delivery.send_all(recipients, message)

    @staticmethod
    def _charge(room: Room, event: bytes) -> None:
        """Subtract an event that an internal client caused from the room's budget for such events (``Traffic``)."""
        room.update_budget.left -= cost(len(event), len(room.members))


def _participants_event(room: Room, users: list[ParticipantEntry]) -> bytes:
    body = ParticipantsBody(room.key.id, users=users)
    return server.encode(Event(EventBody("participants", "update", update=body)))


def _flags_event(virtual: VirtualSession) -> bytes:
    body = FlagsBody(virtual.room.id, virtual.id, virtual.flags)
    return server.encode(Event(EventBody("participants", "flags", flags=body)))
