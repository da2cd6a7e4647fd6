"""Virtual sessions: internal clients add them to rooms, change and remove them.

Source: signaling API, Internal clients; reference 11.2-11.4. A session whose name its internal client already
uses is refused (deviation).
"""

from __future__ import annotations

import logging

from msgspec import Raw

from gateway.core import call_membership
from gateway.core.actor import Actor
from gateway.core.changes import SessionClosed
from gateway.core.ids import ENTROPY
from gateway.core.limits import exceeds
from gateway.core.participants import IN_CALL
from gateway.core.room import Room, RoomKey
from gateway.core.session import INTERNAL_INCALL, Session
from gateway.core.virtual import DEFAULT_CALL_FLAGS, VIRTUAL_CLIENT_TYPE, VirtualSession
from gateway.flows.ports import NextcloudError
from gateway.flows.rooms.call_counters import counting_call_entries
from gateway.flows.rooms.events import RoomEvents
from gateway.flows.services import Services
from gateway.wire import server
from gateway.wire.backend import BackendAnswer, RoomRequest, SessionRequest
from gateway.wire.client import ABSENT, is_given
from gateway.wire.errors import Code, ProtocolError
from gateway.wire.internal import ActorOptions, AddSession, RemoveSession, UpdateSession
from gateway.wire.server import MessageBody, Recipient

log = logging.getLogger("portunus.flows")

_HANGUP = Raw(b'{"type":"hangup","hangup":{"reason":"disinvited"}}')


class VirtualSessions:
    """Adds, changes and removes virtual sessions."""

    def __init__(self, services: Services, events: RoomEvents) -> None:
        self._services = services
        self._hub = services.hub
        self._events = events

    async def add(self, owner: Session, body: AddSession) -> None:
        """Add a virtual session to a room; do nothing if this server does not have the room (11.1).

        Raises:
            ProtocolError: the session is not added.
        """
        room, name = self._hub.room(owner.backend, body.roomid or ""), body.sessionid or ""
        if room is None:
            return
        if name in owner.virtuals:
            raise ProtocolError(Code.ADD_FAILED.error(message="Could not create virtual session."))
        limits = self._services.settings.limits
        if exceeds(len(owner.virtuals) + 1, limits.virtual_sessions):
            self._services.count_excess("virtual_sessions")
            raise ProtocolError(Code.LIMIT_EXCEEDED.error())
        if exceeds(len(body.user), limits.user_bytes):
            self._services.count_excess("user_bytes")
            raise ProtocolError(Code.LIMIT_EXCEEDED.error())
        if any(exceeds(len(id), limits.id_length) for id in _ids(body)):
            self._services.count_excess("id_length")
            raise ProtocolError(Code.LIMIT_EXCEEDED.error())
        virtual = self._create(owner, name, room.key, body)
        await self._add_at_nextcloud(virtual)
        if not owner.open or virtual.room not in self._hub.rooms:
            self._spawn_removal(virtual)
            return
        self._services.counters.sessions_total[owner.backend.id, VIRTUAL_CLIENT_TYPE] += 1
        self._events.virtual_joined(virtual, self._hub.add_virtual(virtual))

    def update(self, owner: Session, body: UpdateSession) -> None:
        """Change the flags and the in-call flags of a virtual session; send an event about each that has changed."""
        virtual = _find(owner, body.sessionid, body.roomid)
        if virtual is None:
            return
        room = self._hub.rooms[virtual.room]
        if body.flags is not None and self._hub.set_flags(virtual, body.flags):
            self._events.flags(virtual, room)
        if body.incall is not None and self._hub.set_call_flags(virtual, max(body.incall, 0)):
            with counting_call_entries(self._services, room):
                call_membership.set_in_call(room, virtual.id, bool(virtual.call_flags & IN_CALL))
            self._events.known_participants(room)

    def remove(self, owner: Session, body: RemoveSession, request_id: str) -> None:
        """Remove a virtual session at once; send its owner an error if Nextcloud refuses the removal later."""
        virtual = _find(owner, body.sessionid, body.roomid)
        if virtual is None:
            return
        self._events.virtual_left(self._hub.remove_virtual(virtual))
        self._spawn_removal(virtual, request_id)

    def owner_ended(self, closed: SessionClosed) -> None:
        """Send the leave events of the virtual sessions of an ended owner, and remove these sessions at Nextcloud."""
        for left in closed.virtuals:
            self._events.virtual_left(left)
            self._spawn_removal(left.virtual)

    def room_deleted(self, room: Room) -> None:
        """Remove the virtual sessions of a deleted room, without leave events (4.6)."""
        for virtual in list(room.virtuals.values()):
            self._hub.remove_virtual(virtual)
            self._spawn_removal(virtual)

    def request_hangup(self, virtual: VirtualSession) -> None:
        """Ask the owner of a virtual session to hang up (11.4)."""
        recipient = Recipient(virtual.name, virtual.userid, "session")
        message = server.Control(MessageBody(None, _HANGUP, recipient))
        self._services.delivery.send(virtual.owner, server.encode(message))

    def _create(self, owner: Session, name: str, room: RoomKey, body: AddSession) -> VirtualSession:
        call_flags = 0 if INTERNAL_INCALL in owner.features else DEFAULT_CALL_FLAGS
        return VirtualSession(
            self._services.ids.make(self._services.entropy(ENTROPY))[0],
            owner,
            name,
            room,
            userid=body.userid or "",
            user=Raw(bytes(body.user)) if is_given(body.user) else ABSENT,
            flags=body.flags or 0,
            call_flags=call_flags if body.incall is None else max(body.incall, 0),
            actor=_actor(body.options),
        )

    async def _add_at_nextcloud(self, virtual: VirtualSession) -> None:
        """Add a virtual session to the room at Nextcloud (11.2), or join it with its actor, if it has one.

        Raises:
            ProtocolError: Nextcloud refused, or gave no usable answer.
        """
        text = "Could not add virtual session." if virtual.actor is None else "Could not join virtual session."
        owner = virtual.owner
        try:
            async with self._services.backend_turns.background_turn(owner.backend.id):
                answer = await self._services.nextcloud.ask(owner.backend, owner.url, _request(virtual, "add"))
        except NextcloudError as error:
            self._services.warnings.warning(
                (owner.backend.id, "add", str(error)), "a virtual session could not be added: %s", error
            )
            raise ProtocolError(Code.ADD_FAILED.error(message=text)) from error
        if virtual.actor is not None and answer.type == "error":
            raise ProtocolError(Code.ADD_FAILED.error(message=_message_of(answer) or text))

    def _spawn_removal(self, virtual: VirtualSession, request_id: str | None = None) -> None:
        self._services.tasks.spawn(self._remove_at_nextcloud(virtual, request_id), "virtual session leave request")

    async def _remove_at_nextcloud(self, virtual: VirtualSession, request_id: str | None) -> None:
        """Remove a virtual session at Nextcloud; an error is sent to its owner only if there is a ``request_id``."""
        owner = virtual.owner
        try:
            await self._request_removal(virtual)
        except ProtocolError as error:
            if request_id is not None and owner.open:
                self._services.delivery.send(owner, server.encode(server.ErrorMessage(error.error, request_id)))

    async def _request_removal(self, virtual: VirtualSession) -> None:
        """Send the leave request for a virtual session (11.3).

        Raises:
            ProtocolError: Nextcloud refused, or gave no usable answer.
        """
        owner = virtual.owner
        try:
            async with self._services.backend_turns.background_turn(owner.backend.id):
                answer = await self._services.nextcloud.ask(owner.backend, owner.url, _request(virtual, "remove"))
        except NextcloudError as error:
            self._services.warnings.warning(
                (owner.backend.id, "remove", str(error)),
                "backend %s did not receive the end of a virtual session: %s",
                owner.backend.id,
                error,
            )
            raise ProtocolError(Code.REMOVE_FAILED.error()) from error
        if answer.type == "error" and virtual.actor is not None and _code_of(answer) != "no_such_room":
            raise ProtocolError(Code.REMOVE_FAILED.error(message=_message_of(answer)))


def _find(owner: Session, name: str | None, room: str | None) -> VirtualSession | None:
    virtual = owner.virtuals.get(name or "")
    return virtual if virtual is not None and virtual.room.id == room else None


def _ids(body: AddSession) -> tuple[str, ...]:
    """Return the texts that ``limits.id_length`` limits: the session's name, user id and actor."""
    options = body.options or ActorOptions()
    return body.sessionid or "", body.userid or "", options.actor_id or "", options.actor_type or ""


def _actor(options: ActorOptions | None) -> Actor | None:
    if options is None or not options.actor_id or not options.actor_type:
        return None
    return Actor(options.actor_id, options.actor_type)


def _request(virtual: VirtualSession, action: str) -> RoomRequest | SessionRequest:
    """Return the request to Nextcloud for a virtual session with or without an actor (11.2, 11.3)."""
    if virtual.actor is None:
        return SessionRequest(virtual.room.id, action, virtual.id, virtual.userid, virtual.user, "1.0")
    flags = {"incall": virtual.call_flags} if action == "add" and virtual.call_flags else {}
    return RoomRequest(
        virtual.room.id,
        virtual.userid,
        virtual.id,
        action="" if action == "add" else "leave",
        actorid=virtual.actor.id,
        actortype=virtual.actor.type,
        version="1.0",
        **flags,
    )


def _code_of(answer: BackendAnswer) -> str:
    return answer.error.code or "" if answer.error is not None else ""


def _message_of(answer: BackendAnswer) -> str:
    return answer.error.message or "" if answer.error is not None else ""
