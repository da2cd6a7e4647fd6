"""What Nextcloud asks of a room: the effects of the rooms API.

Source: reference 4.6, 6, 7. State changes and events are appended at once; no client is waited for.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from gateway.core import participants
from gateway.core.hub import Hub
from gateway.core.ids import SessionId
from gateway.core.limits import Backend
from gateway.core.participants import IN_CALL, Participant
from gateway.core.room import Room, RoomKey
from gateway.core.session import ClientType
from gateway.flows.internal.virtual_sessions import VirtualSessions
from gateway.flows.media.signaling import MediaSignaling
from gateway.flows.rooms.call_counters import counted
from gateway.flows.rooms.chat import RoomMessage
from gateway.flows.rooms.events import RoomEvents
from gateway.flows.services import Services
from gateway.flows.sessions.closing import SessionCloser
from gateway.wire import backend as wire
from gateway.wire import server
from gateway.wire.client import ABSENT, given
from gateway.wire.server import Event, EventBody, RoomBody, RoomListBody, SwitchToBody

CLIENT = ClientType.CLIENT.value


class Malformed(Exception):
    """A request that only its execution shows to be malformed (reference 1.4, row 12)."""


class BackendRequests:
    """Carries out the rooms API."""

    def __init__(
        self,
        services: Services,
        notify: RoomEvents,
        media: MediaSignaling,
        sessions: SessionCloser,
        virtuals: VirtualSessions,
    ) -> None:
        self._services = services
        self._hub: Hub = services.hub
        self._delivery = services.delivery
        self._notify = notify
        self._media = media
        self._sessions = sessions
        self._virtuals = virtuals

    def handle(self, backend: Backend, roomid: str, request: wire.RoomsRequest) -> None:
        """Carry out a checked request; what concerns nobody here has no effect.

        Raises:
            Malformed: nothing has happened.
        """
        room = self._hub.room(backend, roomid)
        if request.invite is not None and request.type == "invite":
            self._invite(backend, roomid, request.invite)
        elif request.disinvite is not None and request.type == "disinvite":
            self._disinvite(backend, roomid, request.disinvite)
        elif request.switchto is not None and request.type == "switchto":
            self._switch(backend, room, request.switchto)
        elif request.update is not None and request.type == "update":
            self._update(backend, roomid, room, request.update)
        elif request.delete is not None and request.type == "delete":
            self._delete(backend, roomid, room, request.delete)
        elif room is None:
            return
        elif request.incall is not None and request.type == "incall":
            self._incall(backend, room, request.incall)
        elif request.participants is not None and request.type == "participants":
            self._participants(backend, room, request.participants)
        elif request.message is not None and request.type == "message":
            self._message(room, request.message)

    def _invite(self, backend: Backend, roomid: str, invite: wire.Invite) -> None:
        """Users are members of the room now (6.1)."""
        invited = RoomListBody(roomid, invite.properties if given(invite.properties) else ABSENT)
        event = Event(EventBody("roomlist", "invite", invite=invited))
        self._tell_users(backend, invite.userids, server.encode(event))
        self._tell_others(backend, invite, invited)

    def _disinvite(self, backend: Backend, roomid: str, disinvite: wire.Disinvite) -> None:
        """Users and guests are no members any more; those in the room are shown out (2.7, 6.2)."""
        event = Event(EventBody("roomlist", "disinvite", disinvite=RoomListBody(roomid, reason="disinvited")))
        encoded = server.encode(event)
        sessions = [it for userid in disinvite.userids or () for it in self._hub.of_user(backend, userid)]
        for room_session in disinvite.sessionids or ():
            session = self._hub.of_room_session(backend.id, room_session) if room_session != "0" else None
            if session is not None:
                sessions.append(session)
        key = RoomKey(backend.id, roomid)
        for room_session in dict.fromkeys(disinvite.sessionids or ()):
            virtual = self._hub.find_virtual(backend, room_session)
            if virtual is not None and virtual.room == key:
                self._virtuals.disinvited(virtual)
        for session in sessions:  # once for each way it is named, unless the first shows it out
            if not session.open or session.evicted_by is encoded:
                continue
            self._delivery.send(session, encoded)
            if session.room == key:
                self._sessions.evict(session, encoded)
        properties = disinvite.properties if given(disinvite.properties) else ABSENT
        self._tell_others(backend, disinvite, RoomListBody(roomid, properties))

    def _tell_others(self, backend: Backend, change: wire.Invite | wire.Disinvite, body: RoomListBody) -> None:
        """Tell the members that the request is not about that the room has changed."""
        concerned = set(change.userids or ())
        others = [userid for userid in change.alluserids or () if userid not in concerned]
        self._tell_users(backend, others, server.encode(Event(EventBody("roomlist", "update", update=body))))

    def _update(self, backend: Backend, roomid: str, room: Room | None, update: wire.Update) -> None:
        """New properties (4.6, 6.3)."""
        properties = update.properties if given(update.properties) else ABSENT
        if room is not None and self._hub.change_properties(room, properties):
            message = server.encode(server.Room(RoomBody(roomid, properties)))
            self._delivery.send_all(room.members.values(), message)
        event = Event(EventBody("roomlist", "update", update=RoomListBody(roomid, properties)))
        self._tell_users(backend, update.userids, server.encode(event))

    def _delete(self, backend: Backend, roomid: str, room: Room | None, delete: wire.Delete) -> None:
        """The room is gone: members leave it without leave events (4.6, 6.4)."""
        if room is not None:
            deleted = server.encode(Event(EventBody("room", "delete")))
            self._delivery.send_all((it for it in room.members.values() if it.is_internal), deleted)
            self._virtuals.room_deleted(room)
            gone = server.encode(server.Room(RoomBody("")))
            for left in self._hub.delete_room(room):
                if left.session.connection is not None:
                    self._delivery.send(left.session, gone)
                self._notify.left(left, silent=True)
        body = RoomListBody(roomid, reason="deleted")
        event = Event(EventBody("roomlist", "disinvite", disinvite=body))
        self._tell_users(backend, delete.userids, server.encode(event))

    def _tell_users(self, backend: Backend, userids: Iterable[str] | None, message: bytes) -> None:
        for userid in dict.fromkeys(userids or ()):
            self._delivery.send_all(self._hub.of_user(backend, userid), message)

    def _incall(self, backend: Backend, room: Room, incall: wire.InCall) -> None:
        """Who is in the call (7.1), and everybody at once (7.4)."""
        with counted(self._services.counters, room):
            if incall.all:
                self._everybody_in_call(room, incall)
            else:
                self._changed_in_call(backend, room, incall)

    def _changed_in_call(self, backend: Backend, room: Room, incall: wire.InCall) -> None:
        changed = self._resolve(backend, incall.changed)
        users = self._resolve(backend, incall.users)
        for entry in changed:
            if entry.in_call is not None:
                self._set_in_call(room, entry.session, entry.in_call)
        if users or changed:
            self._hub.store_users(room, [user.entry for user in users])
            self._notify.participants(room, users, changed)

    def _set_in_call(self, room: Room, session: SessionId, in_call: bool) -> None:
        ended = self._hub.set_in_call(room, session, in_call)
        if ended is not None:
            self._media.end(ended)

    def _everybody_in_call(self, room: Room, incall: wire.InCall) -> None:
        flags = participants.call_flags(incall.incall if given(incall.incall) else None)
        if flags is None:
            return
        change = self._hub.set_all_in_call(room, bool(flags & IN_CALL))
        for session in change.ended:
            self._media.end(session)
        self._hub.store_users(room, participants.with_flags(room.users, flags))
        if change.notified:
            self._notify.everybody_in_call(room, change.notified, flags)

    def _participants(self, backend: Backend, room: Room, changes: wire.Participants) -> None:
        """Changed participants, their permissions above all (6.6, 8)."""
        changed = self._resolve(backend, changes.changed)
        users = self._resolve(backend, changes.users)
        for entry in changed:
            session = self._hub.sessions.get(entry.session)
            if entry.permissions is not None and session is not None:
                self._hub.set_permissions(session, entry.permissions)
                self._media.revoke(session)
        if users or changed:
            self._notify.participants(room, users, changed)

    def _message(self, room: Room, message: wire.Message) -> None:
        """Anything for the members (5.5, 6.7)."""
        if not given(message.data):
            return
        for members, messages in RoomMessage(room.key.id, message.data).audiences(room.members.values()):
            for encoded, offline in messages:
                self._delivery.send_all(members, encoded, offline=offline)

    def _switch(self, backend: Backend, room: Room | None, switch: wire.SwitchTo) -> None:
        """Ask sessions to go to another room (6.8): whatever room they are in, if the one they are to leave is here."""
        try:
            sessions = wire.decode_switched_sessions(switch.sessions)
        except msgspec.DecodeError as error:
            raise Malformed("sessions is neither a list of session ids nor an object") from error
        if room is None:
            return
        for room_session, details in sessions.items():
            session = self._hub.of_room_session(backend.id, room_session) if room_session != "0" else None
            if session is not None:
                body = SwitchToBody(switch.roomid or "", details if given(details) else ABSENT)
                self._delivery.send(session, server.encode(Event(EventBody("room", "switchto", switchto=body))))

    def _resolve(self, backend: Backend, entries: list[wire.ParticipantEntry] | None) -> list[Participant]:
        def find(room_session: str) -> SessionId | None:
            session = self._hub.of_room_session(backend.id, room_session)
            if session is not None:
                return session.id
            virtual = self._hub.find_virtual(backend, room_session)  # its own id is what Nextcloud knows it by
            return None if virtual is None else virtual.id

        return participants.resolve(entries or (), find)
