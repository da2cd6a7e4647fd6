"""Requests of the rooms API, by which Nextcloud changes rooms and sends messages to their members.

Source: reference 4.6, 6, 7. The state changes and the events are queued at once; no request waits for a client.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import Raw

from gateway.core import call_membership, participants
from gateway.core.ids import SessionId
from gateway.core.limits import Backend
from gateway.core.participants import IN_CALL, Participant
from gateway.core.pending import PendingJoin
from gateway.core.room import Room, RoomKey
from gateway.core.session import Session
from gateway.core.visibility import by_form
from gateway.flows.call_log import StreamEnd
from gateway.flows.internal.virtual_sessions import VirtualSessions
from gateway.flows.media.signaling import MediaSignaling
from gateway.flows.rooms.call_counters import counting_call_entries
from gateway.flows.rooms.chat import RoomMessage
from gateway.flows.rooms.events import RoomEvents
from gateway.flows.services import Services
from gateway.flows.sessions.closing import SessionCloser
from gateway.wire import backend as wire
from gateway.wire import server
from gateway.wire.client import ABSENT, is_given
from gateway.wire.server import Event, EventBody, RoomBody, RoomListBody, SwitchToBody


class MalformedRequest(Exception):
    """A request whose structure turns out to be wrong only when it is carried out (reference 1.4, row 12)."""


@dataclass(frozen=True, slots=True)
class NamedRoom:
    """The room that a request names."""

    backend: Backend
    id: str
    found: Room | None  # None: this server has no such room

    @property
    def key(self) -> RoomKey:
        """The room among those of all backends."""
        return RoomKey(self.backend.id, self.id)


class BackendRequests:
    """Carries out the requests of the rooms API."""

    def __init__(
        self,
        services: Services,
        events: RoomEvents,
        media: MediaSignaling,
        closer: SessionCloser,
        virtual_sessions: VirtualSessions,
    ) -> None:
        self._services = services
        self._hub = services.hub
        self._delivery = services.delivery
        self._events = events
        self._media = media
        self._closer = closer
        self._virtual_sessions = virtual_sessions
        self._handlers: dict[str, Callable[[NamedRoom, Any], None]] = {
            "invite": self._invite,
            "disinvite": self._disinvite,
            "update": self._update,
            "delete": self._delete,
            "incall": self._set_in_call,
            "participants": self._change_participants,
            "message": self._send_message,
            "switchto": self._switch_room,
        }

    def handle(self, backend: Backend, roomid: str, request: wire.RoomsRequest) -> None:
        """Carry out an authenticated request; without effect if this server has no such room, pending join or user.

        The request is not a dialout.

        Raises:
            MalformedRequest: nothing has changed.
        """
        room, type, body = NamedRoom(backend, roomid, self._hub.room(backend, roomid)), str(request.type), request.body
        if (apply := _PENDING_JOIN_CHANGES.get(type)) is not None:
            for pending in self._hub.pending_joins.of_room(room.key):
                apply(pending, body)
        self._handlers[type](room, body)

    def _invite(self, room: NamedRoom, invite: wire.Invite) -> None:
        """Send invited users the event ``invite``, and the other users or the room's members ``update`` (6.1)."""
        invited = RoomListBody(room.id, invite.properties if is_given(invite.properties) else ABSENT)
        event = Event(EventBody("roomlist", "invite", invite=invited))
        self._send_to_users(room.backend, invite.userids, server.encode(event))
        if invite.alluserids is None:
            self._send_changed_room(room, invite.properties)
        else:
            self._send_to_other_users(room.backend, invite, invited)

    def _disinvite(self, room: NamedRoom, disinvite: wire.Disinvite) -> None:
        """Send users and guests the event of their disinvitation, and evict them from the room (2.7, 6.2).

        The internal client of a disinvited virtual session is asked to hang up. The other users, or the room's members,
        get the event ``update``.
        """
        if disinvite.alluserids is None:
            self._send_changed_room(room, disinvite.properties)
        event = Event(EventBody("roomlist", "disinvite", disinvite=RoomListBody(room.id, reason="disinvited")))
        encoded, backend = server.encode(event), room.backend
        sessions = [
            session for userid in disinvite.userids or () for session in self._hub.sessions_of_user(backend, userid)
        ]
        for room_session in disinvite.sessionids or ():
            session = self._find(backend, room_session)
            if session is not None:
                sessions.append(session)
        for room_session in dict.fromkeys(disinvite.sessionids or ()):
            virtual = self._hub.find_virtual(backend, room_session)
            if virtual is not None and virtual.room == room.key:
                self._virtual_sessions.request_hangup(virtual)
        for session in sessions:  # a session listed twice gets the event twice, unless it is evicted after the first
            if not session.open or session.evicted_by is encoded:
                continue
            self._delivery.send(session, encoded)
            if session.room == room.key:
                self._closer.evict(session, encoded)
        if disinvite.alluserids is not None:
            properties = disinvite.properties if is_given(disinvite.properties) else ABSENT
            self._send_to_other_users(backend, disinvite, RoomListBody(room.id, properties))

    def _send_changed_room(self, room: NamedRoom, properties: Raw) -> None:
        """Send the members of a room the event ``update`` of room lists, for a request without a list of recipients.

        Without properties there is nothing to send. Internal clients show no list of rooms.
        """
        if room.found is None or not is_given(properties):
            return
        event = Event(EventBody("roomlist", "update", update=RoomListBody(room.id, properties)))
        members = [member for member in room.found.members.values() if not member.is_internal]
        self._delivery.send_all(members, server.encode(event))

    def _send_to_other_users(self, backend: Backend, change: wire.Invite | wire.Disinvite, body: RoomListBody) -> None:
        """Send the event ``update`` of room lists to ``alluserids`` without the invited or disinvited users."""
        changed = set(change.userids or ())
        others = [userid for userid in change.alluserids or () if userid not in changed]
        self._send_to_users(backend, others, server.encode(Event(EventBody("roomlist", "update", update=body))))

    def _update(self, room: NamedRoom, update: wire.Update) -> None:
        """Store the new properties of a room, and send them to its members and to room lists (4.6, 6.3)."""
        properties = update.properties if is_given(update.properties) else ABSENT
        if room.found is not None and self._hub.change_properties(room.found, properties):
            message = server.encode(server.Room(RoomBody(room.id, properties)))
            self._delivery.send_all(room.found.members.values(), message)
        if update.userids is None:
            self._send_changed_room(room, properties)
            return
        event = Event(EventBody("roomlist", "update", update=RoomListBody(room.id, properties)))
        self._send_to_users(room.backend, update.userids, server.encode(event))

    def _delete(self, room: NamedRoom, delete: wire.Delete) -> None:
        """Send the event ``disinvite`` of a room's deletion to users and guests, then remove its members (6.4).

        The event comes first: a client that has already left the room does not show its user the reason. The request
        lists users by id, so members without a user id get the event, too; without a list all members do. Internal
        clients get the event ``delete`` instead.
        """
        body, found = RoomListBody(room.id, reason="deleted"), room.found
        event = server.encode(Event(EventBody("roomlist", "disinvite", disinvite=body)))
        members = [] if found is None else list(found.members.values())
        unlisted = [
            member for member in members if not member.is_internal and (delete.userids is None or not member.userid)
        ]
        recipients = {member.id: member for member in unlisted}
        for userid in delete.userids or ():
            recipients.update((session.id, session) for session in self._hub.sessions_of_user(room.backend, userid))
        self._delivery.send_all(recipients.values(), event)
        if found is None:
            return
        deleted = server.encode(Event(EventBody("room", "delete")))
        self._delivery.send_all([member for member in members if member.is_internal], deleted)
        self._virtual_sessions.room_deleted(found)
        no_room = server.encode(server.Room(RoomBody("")))
        for left in self._hub.delete_room(found):
            if left.session.connection is not None:
                self._delivery.send(left.session, no_room)
            self._events.session_left(left, StreamEnd.ROOM_DELETED, silent=True)

    def _send_to_users(self, backend: Backend, userids: Iterable[str] | None, message: bytes) -> None:
        for userid in dict.fromkeys(userids or ()):
            self._delivery.send_all(self._hub.sessions_of_user(backend, userid), message)

    def _set_in_call(self, room: NamedRoom, incall: wire.InCall) -> None:
        """Set the call membership of some participants (7.1) or of all (7.4)."""
        if room.found is None:
            return
        with counting_call_entries(self._services, room.found):
            if incall.all:
                self._set_all_in_call(room.found, incall)
            else:
                self._set_some_in_call(room.backend, room.found, incall)

    def _set_some_in_call(self, backend: Backend, room: Room, incall: wire.InCall) -> None:
        changed = self._resolve(backend, incall.changed)
        listed = None if incall.users is None else participants.once(self._resolve(backend, incall.users))
        if listed is None:
            changed = participants.present_in(room, changed)
        for entry in changed:
            if entry.in_call is None:
                continue
            left_call = call_membership.set_in_call(room, entry.session, entry.in_call)
            if left_call is not None:
                self._media.end(left_call, StreamEnd.LEFT_CALL)
        if not changed and not listed:
            return
        if listed is None:  # participants that are not named keep their state
            call_membership.update_participants(room, changed)
            users = room.participants.shown_entries()
        else:
            call_membership.replace_participants(room, listed, changed)
            users = [participant.entry for participant in listed]
        self._events.participants(room, users, changed)

    def _set_all_in_call(self, room: Room, incall: wire.InCall) -> None:
        flags = _flags_for_all(incall)
        if flags is None:
            return
        change = call_membership.set_all_in_call(room, bool(flags & IN_CALL))
        for session in change.ended:
            self._media.end(session, StreamEnd.LEFT_CALL)
        call_membership.set_flags_of_all(room, flags, int(self._services.wall_clock()))
        if change.notified:
            self._events.all_in_call(room, change.notified, flags)

    def _change_participants(self, named: NamedRoom, changes: wire.Participants) -> None:
        """Apply changed permissions, and send members the changed list of participants (6.6, 8)."""
        room, backend = named.found, named.backend
        if room is None:
            return
        changed = self._resolve(backend, changes.changed)
        listed = None if changes.users is None else participants.once(self._resolve(backend, changes.users))
        if listed is None:
            changed = participants.present_in(room, changed)
        for entry in changed:
            session = room.members.get(entry.session)  # permissions in another room do not change
            if entry.permissions is not None and session is not None:
                self._hub.set_permissions(session, entry.permissions)
                self._events.permissions_changed(session)
        if not changed and not listed:
            return
        if listed is None:  # participants that are not named keep their state
            users = room.participants.shown_with(changed)
        else:
            users = [participant.entry for participant in listed]
        self._events.participants(room, users, changed)

    def _send_message(self, room: NamedRoom, message: wire.Message) -> None:
        """Send a message to the members of a room, in the form that each of them may see (5.5, 6.7)."""
        if room.found is None or not is_given(message.data):
            return
        room_message = RoomMessage(room.id, message.data)
        for form, members in by_form(room.found.members.values(), room_message.content).items():
            for event in room_message.events(form):
                if event.repeatable:
                    self._delivery.send_repeatable(members, event.message, event.offline)
                else:
                    self._delivery.send_all(members, event.message, offline=event.offline)

    def _switch_room(self, room: NamedRoom, switch: wire.SwitchTo) -> None:
        """Ask sessions, in any room, to join another room; without effect if this server has not the room (6.8)."""
        try:
            sessions = wire.decode_switched_sessions(switch.sessions)
        except msgspec.DecodeError as error:
            raise MalformedRequest("sessions is neither a list of session ids nor an object") from error
        if room.found is None:
            return
        for room_session, details in sessions.items():
            session = self._find(room.backend, room_session)
            if session is not None:
                body = SwitchToBody(switch.roomid or "", details if is_given(details) else ABSENT)
                self._delivery.send(session, server.encode(Event(EventBody("room", "switchto", switchto=body))))

    def _find(self, backend: Backend, room_session: str) -> Session | None:
        """Return the session that is registered with a Nextcloud session id; "0" stands for none."""
        return self._hub.find_by_room_session(backend.id, room_session) if room_session != "0" else None

    def _resolve(self, backend: Backend, entries: list[wire.ParticipantEntry] | None) -> list[Participant]:
        """Replace the Nextcloud session ids in a list of participants by public session ids (7.2)."""

        def find(room_session: str) -> SessionId | None:
            session = self._hub.find_by_room_session(backend.id, room_session)
            if session is not None:
                return session.id
            virtual = self._hub.find_virtual(backend, room_session)  # known to Nextcloud by its public id
            return None if virtual is None else virtual.id

        return participants.resolve(entries or (), find)


def _flags_for_all(incall: wire.InCall) -> int | None:
    """Return the in-call flags of an ``incall`` request for all participants; ``None`` if it has no valid ones."""
    return participants.call_flags(incall.incall if is_given(incall.incall) else None)


# -- changes to pending joins, which Nextcloud has not answered yet (4.1)


def _note_in_call(pending: PendingJoin, incall: wire.InCall) -> None:
    flags = _flags_for_all(incall)
    if not incall.all:
        pending.note_in_call(incall.changed, incall.users)
    elif flags is not None:
        pending.note_all_in_call(flags)


def _note_permissions(pending: PendingJoin, changes: wire.Participants) -> None:
    pending.note_permissions(changes.changed)


def _withdraw(pending: PendingJoin, _: wire.Delete) -> None:
    pending.withdrawn = True


def _withdraw_if_listed(pending: PendingJoin, disinvite: wire.Disinvite) -> None:
    userid = pending.session.userid
    listed = bool(userid) and userid in (disinvite.userids or ())
    if listed or pending.room_session_id in (disinvite.sessionids or ()):
        pending.withdrawn = True


_PENDING_JOIN_CHANGES: dict[str, Callable[[PendingJoin, Any], None]] = {
    "incall": _note_in_call,
    "participants": _note_permissions,
    "delete": _withdraw,
    "disinvite": _withdraw_if_listed,
}
