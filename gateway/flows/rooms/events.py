"""From facts to messages: who is told what when the core has changed.

Events that concern many are encoded once. Order within one session is the order of these calls (reference
4.3).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

import msgspec
from msgspec import Raw

from gateway.core import participants
from gateway.core.changes import RoomJoined, RoomLeft
from gateway.core.ids import SessionId
from gateway.core.participants import Participant
from gateway.core.room import Room
from gateway.core.session import Session
from gateway.core.transient import TransientChange
from gateway.core.virtual import VirtualSession, VirtualSessionLeft
from gateway.flows.media.signaling import MediaSignaling
from gateway.flows.ports import NextcloudError
from gateway.flows.services import Services, room_request
from gateway.wire import server
from gateway.wire.backend import ParticipantEntry, RoomRequest
from gateway.wire.client import ABSENT
from gateway.wire.server import Event, EventBody, FlagsBody, JoinEntry, ParticipantsBody, TransientBody

log = logging.getLogger("portunus.flows")

_an_update = server.encode(Event(EventBody("participants", "update", update=ParticipantsBody(""))))
PARTICIPANTS_UPDATE = _an_update[: _an_update.index(b'"update":')]  # how all of them begin

_object_decoder = msgspec.json.Decoder(dict[str, Raw])
_object_encoder = msgspec.json.Encoder()


class RoomEvents:
    """Tells clients, the SFU layer and Nextcloud what became true."""

    def __init__(self, services: Services, media: MediaSignaling) -> None:
        self._services = services
        self._delivery = services.delivery
        self._media = media

    def joined(self, fact: RoomJoined) -> None:
        """Tell a session what and who is in its new room, and the others that it came (4.3)."""
        session = fact.session
        self._initial(session, fact.room)
        entry = session.join_entry()
        self._delivery.send(session, _join_event([_without_name(entry) if session.permissions.hides_names else entry]))
        virtuals = fact.room.virtuals.values()
        entries = [other.join_entry() for other in fact.others] + [virtual.join_entry() for virtual in virtuals]
        if entries:
            if session.permissions.hides_names:
                entries = [_without_name(entry) for entry in entries]
            self._delivery.send(session, _join_event(entries))
        self._came(fact.others, entry)
        for virtual in virtuals:
            if virtual.flags:
                self._delivery.send(session, _flags_event(virtual))
        if session.is_internal:
            self.known_participants(fact.room)
        self._media.quality.entered(session)

    def _came(self, others: Iterable[Session], entry: JoinEntry) -> None:
        self._delivery.send_all((other for other in others if not other.permissions.hides_names), _join_event([entry]))
        nameless = [other for other in others if other.permissions.hides_names]
        if nameless:
            self._delivery.send_all(nameless, _join_event([_without_name(entry)]))

    def virtual_joined(self, virtual: VirtualSession, room: Room) -> None:
        """Tell the members of a room of a virtual session (11.2)."""
        self._came(room.members.values(), virtual.join_entry())
        self.known_participants(room)
        if virtual.flags:
            self.flags(virtual, room)

    def flags(self, virtual: VirtualSession, room: Room) -> None:
        """Tell the members what a virtual session does (7.5)."""
        self._delivery.send_all(room.members.values(), _flags_event(virtual))

    def virtual_left(self, fact: VirtualSessionLeft) -> None:
        """Tell the others that a virtual session is gone; no participants update follows (7.3)."""
        self._gone(fact.virtual.id, fact.remaining, fact.data)

    def _gone(self, session: SessionId, remaining: Iterable[Session], data: TransientChange | None) -> None:
        event = Event(EventBody("room", "leave", leave=(session,)))
        self._delivery.send_all(remaining, server.encode(event))
        if data is not None:
            self.transient(remaining, data)

    def _initial(self, session: Session, room: Room) -> None:
        if len(room.transient):
            body = TransientBody("initial", data=room.transient.values())
            self._delivery.send(session, server.encode(server.Transient(body)))

    def transient(self, members: Iterable[Session], changed: TransientChange) -> None:
        """Tell all members, who caused it too, of a changed value (10)."""
        old = ABSENT if changed.old is None else changed.old
        if changed.value is None:
            body = TransientBody("remove", changed.key, oldvalue=old)
        else:
            body = TransientBody("set", changed.key, changed.value, old)
        self._delivery.send_all(members, server.encode(server.Transient(body)))

    def left(self, fact: RoomLeft, *, silent: bool = False) -> None:
        """End a session's media, tell the others that it left (unless ``silent``), and Nextcloud (4.2)."""
        self._media.end(fact.session)
        if not silent and fact.remaining:
            self._gone(fact.session.id, fact.remaining, fact.data)
            room = self._services.hub.rooms.get(fact.room)
            if fact.session.is_internal and room is not None:
                self.known_participants(room)
        if fact.room_session:
            self.tell_left(fact.session, fact.room.id, fact.room_session)

    def tell_left(self, session: Session, room: str, room_session: str) -> None:
        """Tell Nextcloud, soon, that a session left a room (4.2)."""
        request = room_request(session, room, room_session, action="leave")
        self._services.tasks.spawn(self._tell_backend(session, request), "leave request")

    def ended(self, session: Session) -> None:
        """End the media that a session had outside of any room."""
        self._media.end(session)

    async def _tell_backend(self, session: Session, request: RoomRequest) -> None:
        try:
            answer = await self._services.nextcloud.ask(session.backend, session.url, request)
        except NextcloudError as error:
            log.warning("leave request to backend %s failed: %s", session.backend.id, error)
            return
        if answer.type == "error":
            log.warning("backend %s refused a leave request", session.backend.id)

    def participants(self, room: Room, users: Iterable[Participant], changed: Iterable[Participant]) -> None:
        """Tell all members who is there with which flags (7.3), and who changed."""
        shown = self._complete(room, (user.entry for user in users))
        message = _participants_event(room, participants.merge(shown, changed))
        self._delivery.send_all(room.members.values(), message)

    def known_participants(self, room: Room) -> None:
        """Tell all members the known list anew, unless it is empty: internal clients or virtual sessions changed it."""
        users = self._complete(room, room.users)
        if users:
            self._delivery.send_all(room.members.values(), _participants_event(room, users))

    def participants_on_resume(self, session: Session, room: Room) -> None:
        """Tell one session the known list, unless it is empty (2.8)."""
        users = self._complete(room, room.users)
        if users:
            self._delivery.send(session, _participants_event(room, users))

    def _complete(self, room: Room, users: Iterable[ParticipantEntry]) -> list[ParticipantEntry]:
        return participants.complete(users, room, int(self._services.wall_clock()))

    def everybody_in_call(self, room: Room, told: Iterable[Session], flags: int) -> None:
        """Tell members that all of them have these flags now (7.4)."""
        body = ParticipantsBody(room.key.id, incall=flags, all=True)
        message = server.encode(Event(EventBody("participants", "update", update=body)))
        self._delivery.send_all(told, message)


def _participants_event(room: Room, users: list[ParticipantEntry]) -> bytes:
    body = ParticipantsBody(room.key.id, users=users)
    return server.encode(Event(EventBody("participants", "update", update=body)))


def _flags_event(virtual: VirtualSession) -> bytes:
    body = FlagsBody(virtual.room.id, virtual.id, virtual.flags)
    return server.encode(Event(EventBody("participants", "flags", flags=body)))


def _join_event(entries: list[JoinEntry]) -> bytes:
    return server.encode(Event(EventBody("room", "join", join=tuple(entries))))


def _without_name(entry: JoinEntry) -> JoinEntry:
    """Take the display name out of an entry (5.4)."""
    try:
        user = _object_decoder.decode(entry.user)
    except msgspec.DecodeError:  # no object, or none at all
        return entry
    user.pop("displayname", None)
    return msgspec.structs.replace(entry, user=Raw(_object_encoder.encode(user)) if user else ABSENT)
