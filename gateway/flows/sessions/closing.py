"""The end of sessions, and of their connections.

Source: reference 2.5, 2.7, 4.4.
"""

from __future__ import annotations

import logging

from gateway.core.changes import JoinTimedOut
from gateway.core.session import Session
from gateway.flows.bye import ROOM_JOIN_TIMEOUT, bye
from gateway.flows.end_requests import EndCause
from gateway.flows.internal.dialout import Dialouts
from gateway.flows.internal.virtual_sessions import VirtualSessions
from gateway.flows.rooms.events import RoomEvents
from gateway.flows.services import Services

log = logging.getLogger("portunus.flows")


class SessionCloser:
    """Ends sessions, with all that follows from it."""

    def __init__(self, services: Services, notify: RoomEvents, virtuals: VirtualSessions, dialouts: Dialouts) -> None:
        self._services = services
        self._hub = services.hub
        self._delivery = services.delivery
        self._notify = notify
        self._virtuals = virtuals
        self._dialouts = dialouts

    def end(self, session: Session, *, reason: str = "", tell_backend: bool = True) -> None:
        """End a session; a connected client is told the reason, and its connection closed (2.7)."""
        connection = self._delivery.connection(session)
        if reason and connection is not None:
            self._delivery.send(session, bye(reason))
        if session.room is not None and (left := self._hub.leave(session, tell_backend=tell_backend)):
            self._notify.left(left)
        closed = self._hub.close(session)
        if closed is None:
            return
        self._virtuals.owner_ended(closed)
        self._dialouts.ended(session)
        self._notify.ended(session)
        if connection is not None:
            connection.finish()

    def evict(self, session: Session, event: bytes) -> None:
        """End a session that may not be in its room any more, as soon as the event that says so is delivered (2.7)."""
        if session.connection is None:
            self._hub.evict(session, event)
        else:
            self.end(session)

    async def serve_end_requests(self) -> None:
        """End the sessions that other flows cannot end themselves; runs until it is cancelled.

        A session whose streams were lost ends without a ``bye``, which some clients understand as the end of the call,
        and without a leave request, so that its client may join with the same Nextcloud session again (docs/mcu.md).
        """
        while True:
            session, cause = await self._services.end_requests.get()
            if cause is EndCause.OUTBOX_FULL:
                log.warning("a session ends: its outbox is full")
            try:
                self.end(session, tell_backend=cause is not EndCause.STREAMS_LOST)
            except Exception:  # one session that cannot be ended must not keep the others
                log.exception("a session was not ended")

    def sweep(self, now: float) -> None:
        """End the sessions whose time is over (2.5)."""
        for fact in self._hub.sweep(now):
            self.end(fact.session, reason=ROOM_JOIN_TIMEOUT if isinstance(fact, JoinTimedOut) else "")
