"""Requests of internal clients: recording servers, SIP bridges and the like.

Source: signaling API, Internal clients; reference 11.1, 11.3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gateway.core import call_membership
from gateway.core.participants import IN_CALL
from gateway.core.room import Room
from gateway.core.session import Session
from gateway.flows.call_log import StreamEnd
from gateway.flows.internal.dialout import Dialouts
from gateway.flows.internal.virtual_sessions import VirtualSessions
from gateway.flows.media.signaling import MediaSignaling
from gateway.flows.rooms.call_counters import counting_call_entries
from gateway.flows.rooms.events import RoomEvents
from gateway.flows.services import Services
from gateway.flows.tasks import Work
from gateway.flows.traffic import Traffic
from gateway.wire import structure
from gateway.wire.client import ClientMessage
from gateway.wire.internal import AddSession, CallReport, InCallFlags, RemoveSession, UpdateSession
from gateway.wire.structure import InternalBody


class InternalRequests:
    """Handles ``internal`` messages; a request that succeeds gets no reply."""

    def __init__(
        self,
        services: Services,
        events: RoomEvents,
        media: MediaSignaling,
        virtual_sessions: VirtualSessions,
        dialouts: Dialouts,
        traffic: Traffic,
    ) -> None:
        self._services = services
        self._hub = services.hub
        self._events = events
        self._media = media
        self._virtual_sessions = virtual_sessions
        self._dialouts = dialouts
        self._traffic = traffic
        self._handlers: dict[type, Callable[[Session, Any, str], Work | None]] = {
            AddSession: lambda session, body, _: virtual_sessions.add(session, body),
            UpdateSession: lambda session, body, _: virtual_sessions.update(session, body),
            RemoveSession: virtual_sessions.remove,
            InCallFlags: lambda session, body, _: self._set_in_call(session, body),
            CallReport: lambda session, body, _: dialouts.report(session, body),
        }

    def handle(self, session: Session, message: ClientMessage) -> Work | None:
        """Handle a request at once, or in the returned coroutine; ignore it if the client is not internal.

        Raises:
            ProtocolError: the message is malformed.
            Postponed: the message has to be handled again later.
        """
        body, request_id = structure.internal(message.internal), message.id or ""
        if not session.is_internal:
            return None
        if request_id and message.internal and self._dialouts.receive_answer(session, request_id, message.internal):
            return None
        room = self._affected_room(session, body)
        if room is not None:
            self._traffic.require_update_budget(room)
        if body is None:
            return None  # an unknown type is ignored
        return self._handlers[type(body)](session, body, request_id)

    def _affected_room(self, session: Session, body: InternalBody | None) -> Room | None:
        """Return the room whose members get events because of a request, if this server has it."""
        match body:
            case AddSession() | UpdateSession() | RemoveSession():
                return self._hub.room(session.backend, body.roomid or "")
            case InCallFlags():
                return self._hub.room_of(session)
        return None

    def _set_in_call(self, session: Session, body: InCallFlags) -> None:
        """Set the client's own in-call flags; close its streams if it leaves the call (11.3)."""
        if not self._hub.set_call_flags(session, max(body.incall or 0, 0)):
            return
        room = self._hub.room_of(session)
        if room is None:
            return
        with counting_call_entries(self._services, room):
            left_call = call_membership.set_in_call(room, session.id, bool(session.call_flags & IN_CALL))
        if left_call is not None:
            self._media.end(left_call, StreamEnd.LEFT_CALL)
        self._events.known_participants(room)
