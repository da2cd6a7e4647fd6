"""Virtual sessions: what internal clients add to rooms, change, and take away again.

Source: signaling API, Internal clients; reference 11.2-11.4. Repeating a name is refused (deviation).
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from msgspec import Raw

from gateway.core.actor import Actor
from gateway.core.changes import SessionClosed
from gateway.core.hub import Hub
from gateway.core.ids import ENTROPY
from gateway.core.limits import exceeds
from gateway.core.participants import IN_CALL
from gateway.core.room import Room, RoomKey
from gateway.core.session import INTERNAL_INCALL, Session
from gateway.core.virtual import DEFAULT_CALL_FLAGS, VIRTUAL, VirtualSession
from gateway.flows.ports import NextcloudError
from gateway.flows.rooms.call_counters import counted
from gateway.flows.rooms.events import RoomEvents
from gateway.flows.services import Services
from gateway.wire import server
from gateway.wire.backend import BackendAnswer, RoomRequest, SessionRequest
from gateway.wire.client import ABSENT, given
from gateway.wire.errors import Code, Error, ProtocolError
from gateway.wire.internal import ActorOptions, AddSession, RemoveSession, UpdateSession
from gateway.wire.server import MessageBody, Recipient

log = logging.getLogger("portunus.flows")

_HANGUP = Raw(b'{"type":"hangup","hangup":{"reason":"disinvited"}}')

Report = Callable[[Error], None]


class VirtualSessions:
    """Carries out what internal clients ask of virtual sessions."""

    def __init__(self, services: Services, notify: RoomEvents) -> None:
        self._services = services
        self._hub: Hub = services.hub
        self._notify = notify

    async def add(self, owner: Session, body: AddSession) -> None:
        """Put a virtual session into a room of this server; a room that is not here is no error (11.1).

        Raises:
            ProtocolError: it is not added.
        """
        room, name = self._hub.room(owner.backend, body.roomid or ""), body.sessionid or ""
        if room is None:
            return
        if name in owner.virtuals:
            raise ProtocolError(Code.ADD_FAILED.error(message="Could not create virtual session."))
        if exceeds(len(owner.virtuals) + 1, self._services.settings.limits.virtual_sessions):
            self._services.count_excess("virtual_sessions")
            raise ProtocolError(Code.LIMIT_EXCEEDED.error())
        virtual = self._create(owner, name, room.key, body)
        await self._ask(virtual)
        if not owner.open or virtual.room not in self._hub.rooms:
            self._tell_backend(virtual)
            return
        self._services.counters.sessions_total[owner.backend.id, VIRTUAL] += 1
        self._notify.virtual_joined(virtual, self._hub.add_virtual(virtual))

    def update(self, owner: Session, body: UpdateSession) -> None:
        """Change what a virtual session does; nobody hears of what stays the same."""
        virtual = _own(owner, body.sessionid, body.roomid)
        if virtual is None:
            return
        room = self._hub.rooms[virtual.room]
        if body.flags is not None and self._hub.set_flags(virtual, body.flags):
            self._notify.flags(virtual, room)
        if body.incall is not None and self._hub.set_call_flags(virtual, max(body.incall, 0)):
            with counted(self._services.counters, room):
                self._hub.set_in_call(room, virtual.id, bool(virtual.call_flags & IN_CALL))
            self._notify.known_participants(room)

    def remove(self, owner: Session, body: RemoveSession, request: str) -> None:
        """Take a virtual session away; Nextcloud is told, and the owner when that failed."""
        virtual = _own(owner, body.sessionid, body.roomid)
        if virtual is None:
            return

        def report(error: Error) -> None:
            if owner.open:
                self._services.delivery.send(owner, server.encode(server.ErrorMessage(error, request)))

        self._remove(virtual, report)

    def owner_ended(self, closed: SessionClosed) -> None:
        """Tell of the virtual sessions that went with their owner."""
        for fact in closed.virtuals:
            self._notify.virtual_left(fact)
            self._tell_backend(fact.virtual)

    def room_deleted(self, room: Room) -> None:
        """Take away the virtual sessions of a room that ends; nobody is told of them but Nextcloud (4.6)."""
        for virtual in list(room.virtuals.values()):
            self._hub.remove_virtual(virtual)
            self._tell_backend(virtual)

    def disinvited(self, virtual: VirtualSession) -> None:
        """Ask the owner to hang up (11.4)."""
        recipient = Recipient(virtual.name, virtual.userid, "session")
        message = server.Control(MessageBody(None, _HANGUP, recipient))
        self._services.delivery.send(virtual.owner, server.encode(message))

    def _create(self, owner: Session, name: str, room: RoomKey, body: AddSession) -> VirtualSession:
        flags = 0 if INTERNAL_INCALL in owner.features else DEFAULT_CALL_FLAGS
        return VirtualSession(
            self._services.ids.make(self._services.entropy(ENTROPY))[0],
            owner,
            name,
            room,
            userid=body.userid or "",
            user=Raw(bytes(body.user)) if given(body.user) else ABSENT,
            flags=body.flags or 0,
            call_flags=flags if body.incall is None else max(body.incall, 0),
            actor=_actor(body.options),
        )

    async def _ask(self, virtual: VirtualSession) -> None:
        """Ask Nextcloud to take the virtual session in, or tell it that there is one (11.2).

        Raises:
            ProtocolError: it refused, or could not be asked.
        """
        text = "Could not add virtual session." if virtual.actor is None else "Could not join virtual session."
        try:
            answer = await self._services.nextcloud.ask(
                virtual.owner.backend, virtual.owner.url, _request(virtual, "add")
            )
        except NextcloudError as error:
            log.warning("a virtual session could not be added: %s", error)
            raise ProtocolError(Code.ADD_FAILED.error(message=text)) from error
        if virtual.actor is not None and answer.type == "error":
            raise ProtocolError(Code.ADD_FAILED.error(message=_reason(answer) or text))

    def _remove(self, virtual: VirtualSession, report: Report) -> None:
        self._notify.virtual_left(self._hub.remove_virtual(virtual))
        self._tell_backend(virtual, report)

    def _tell_backend(self, virtual: VirtualSession, report: Report = lambda error: None) -> None:
        self._services.tasks.spawn(self._tell(virtual, report), "virtual session leave request")

    async def _tell(self, virtual: VirtualSession, report: Report) -> None:
        owner = virtual.owner
        try:
            answer = await self._services.nextcloud.ask(owner.backend, owner.url, _request(virtual, "remove"))
        except NextcloudError as error:
            log.warning("backend %s was not told of the end of a virtual session: %s", owner.backend.id, error)
            report(Code.REMOVE_FAILED.error())
            return
        if answer.type == "error" and virtual.actor is not None and _code(answer) != "no_such_room":
            report(Code.REMOVE_FAILED.error(message=_reason(answer)))


def _own(owner: Session, name: str | None, room: str | None) -> VirtualSession | None:
    virtual = owner.virtuals.get(name or "")
    return virtual if virtual is not None and virtual.room.id == room else None


def _actor(options: ActorOptions | None) -> Actor | None:
    if options is None or not options.actor_id or not options.actor_type:
        return None
    return Actor(options.actor_id, options.actor_type)


def _request(virtual: VirtualSession, action: str) -> RoomRequest | SessionRequest:
    """Make the request to Nextcloud: as an actor that joins or leaves, or as a session of ours (11.2, 11.3)."""
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


def _code(answer: BackendAnswer) -> str:
    return answer.error.code or "" if answer.error is not None else ""


def _reason(answer: BackendAnswer) -> str:
    return answer.error.message or "" if answer.error is not None else ""
