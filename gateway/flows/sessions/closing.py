"""The end of sessions and of their connections.

Source: reference 2.5, 2.7, 4.4.
"""

from __future__ import annotations

import logging

from gateway.core.changes import JoinTimedOut
from gateway.core.session import Session
from gateway.flows.bye import ROOM_JOIN_TIMEOUT, bye
from gateway.flows.call_log import SessionEnd, StreamEnd
from gateway.flows.end_requests import EndCause
from gateway.flows.internal.dialout import Dialouts
from gateway.flows.internal.virtual_sessions import VirtualSessions
from gateway.flows.rooms.events import RoomEvents
from gateway.flows.services import Services
from gateway.wire import server
from gateway.wire.client import ClientMessage

_END_BY_CAUSE = {EndCause.OUTBOX_FULL: SessionEnd.OUTBOX_FULL, EndCause.STREAMS_LOST: SessionEnd.STREAMS_LOST}

log = logging.getLogger("portunus.flows")


class SessionCloser:
    """Ends sessions with their streams, virtual sessions and dialouts."""

    def __init__(
        self, services: Services, events: RoomEvents, virtual_sessions: VirtualSessions, dialouts: Dialouts
    ) -> None:
        self._services = services
        self._hub = services.hub
        self._delivery = services.delivery
        self._events = events
        self._virtual_sessions = virtual_sessions
        self._dialouts = dialouts

    def end(self, session: Session, why: SessionEnd, *, reason: str = "", notify_backend: bool = True) -> None:
        """End a session; send a connected client a ``bye`` with the reason, if any, and close its connection (2.7).

        Nextcloud gets a leave request for the session's room if ``notify_backend``. ``why`` is for the log.
        """
        if session.joining is not None:
            session.joining.withdraw()
        connection = self._delivery.connection(session)
        if reason and connection is not None:
            self._delivery.send(session, bye(reason))
        if session.room is not None and (left := self._hub.leave(session, notify_backend=notify_backend)):
            self._events.session_left(left, StreamEnd.SESSION_ENDED)
        if (seat := self._hub.leave_seat(session)) is not None:
            seat.close()
        closed = self._hub.close(session)
        if closed is None:
            return
        self._services.calls.ended(session, why)
        self._virtual_sessions.owner_ended(closed)
        self._dialouts.client_ended(session)
        self._events.end_streams(session, StreamEnd.SESSION_ENDED)
        if connection is not None:
            connection.finish()

    def bye(self, session: Session, message: ClientMessage) -> None:
        """Answer the ``bye`` of a client, and end its session (2.7)."""
        self._delivery.send(session, server.encode(server.Bye(id=message.id or "")))
        self.end(session, SessionEnd.BYE)

    def evict(self, session: Session, event: bytes) -> None:
        """End a session that is no longer allowed in its room, once ``event`` is delivered to its client (2.7).

        Its streams, which need no connection to the gateway, end at once.
        """
        if session.connection is None:
            if session.joining is not None:
                session.joining.withdraw()
            self._hub.evict(session, event)
            self._events.end_streams(session, StreamEnd.REMOVED)
        else:
            self.end(session, SessionEnd.REMOVED)

    async def serve_end_requests(self) -> None:
        """End the sessions that other flows must not end themselves; runs until it is cancelled.

        A session whose streams were lost ends without a ``bye``, which some clients understand as the end of the call,
        and without a leave request, so that its client may join with the same Nextcloud session again (docs/mcu.md).
        """
        while True:
            session, cause, total = await self._services.end_requests.get()
            if cause is EndCause.OUTBOX_FULL:
                self._services.refusals.full_outbox(session.backend, total)
            try:
                self.end(session, _END_BY_CAUSE[cause], notify_backend=cause is not EndCause.STREAMS_LOST)
            except Exception:  # the requests for other sessions are still served
                log.exception("a session was not ended")

    def sweep(self, now: float) -> None:
        """End the sessions whose time is over; called once a second (2.5)."""
        for expired in self._hub.sweep(now):
            if isinstance(expired, JoinTimedOut):
                self.end(expired.session, SessionEnd.JOIN_TIMEOUT, reason=ROOM_JOIN_TIMEOUT)
            else:
                evicted = expired.session.evicted_by is not None
                self.end(expired.session, SessionEnd.REMOVED if evicted else SessionEnd.AWAY)
