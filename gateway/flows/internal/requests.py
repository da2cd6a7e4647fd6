"""What internal clients ask for.

Source: signaling API, Internal clients; reference 11.1, 11.3.
"""

from __future__ import annotations

from collections.abc import Awaitable

from gateway.core.participants import IN_CALL
from gateway.core.session import Session
from gateway.flows.internal.dialout import Dialouts
from gateway.flows.internal.virtual_sessions import VirtualSessions
from gateway.flows.media.signaling import MediaSignaling
from gateway.flows.rooms.call_counters import counted
from gateway.flows.rooms.events import RoomEvents
from gateway.flows.services import Services
from gateway.wire import server
from gateway.wire.client import ClientMessage
from gateway.wire.errors import Code, Error, ProtocolError
from gateway.wire.internal import AddSession, InCallFlags, is_complete


class InternalRequests:
    """Carries out ``internal`` requests; there is no reply but an error."""

    def __init__(
        self,
        services: Services,
        notify: RoomEvents,
        media: MediaSignaling,
        virtuals: VirtualSessions,
        dialouts: Dialouts,
    ) -> None:
        self._services = services
        self._hub = services.hub
        self._notify = notify
        self._media = media
        self._virtuals = virtuals
        self._dialouts = dialouts

    def handle(self, session: Session, message: ClientMessage) -> Error | Awaitable[None] | None:
        """Carry a request out, or return what must be awaited for that, or what is wrong with it."""
        body, request = message.internal, message.id or ""
        if body is None or not is_complete(body):
            return Code.INVALID_FORMAT.error()
        if request and self._dialouts.answered(session, request, body):
            return None
        if body.type == "addsession" and body.addsession is not None:
            return self._add(session, body.addsession, request)
        if body.type == "updatesession" and body.updatesession is not None:
            self._virtuals.update(session, body.updatesession)
        elif body.type == "removesession" and body.removesession is not None:
            self._virtuals.remove(session, body.removesession, request)
        elif body.type == "incall" and body.incall is not None:
            self._incall(session, body.incall)
        elif body.type == "dialout" and body.dialout is not None:
            self._dialouts.report(session, body.dialout)
        return None  # anything else is ignored

    async def _add(self, session: Session, body: AddSession, request: str) -> None:
        try:
            await self._virtuals.add(session, body)
        except ProtocolError as error:
            if session.open:
                self._services.delivery.send(session, server.encode(server.ErrorMessage(error.error, request)))

    def _incall(self, session: Session, body: InCallFlags) -> None:
        """Set the client's own flags; out of the call its media end (11.3)."""
        if not self._hub.set_call_flags(session, max(body.incall or 0, 0)):
            return
        room = self._hub.room_of(session)
        if room is None:
            return
        with counted(self._services.counters, room):
            ended = self._hub.set_in_call(room, session.id, bool(session.call_flags & IN_CALL))
        if ended is not None:
            self._media.end(ended)
        self._notify.known_participants(room)
