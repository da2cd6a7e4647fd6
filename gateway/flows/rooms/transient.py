"""Requests to change transient data, the entries that the sessions of a room share.

Source: signaling API, Transient data; reference 10. One timer is set for the next entry that expires: the sweep would
remove the entry up to a second late.
"""

from __future__ import annotations

import asyncio

from msgspec import Raw

from gateway.core.limits import exceeds
from gateway.core.permissions import TRANSIENT_DATA
from gateway.core.relay_budget import ENVELOPE, cost
from gateway.core.room import Room
from gateway.core.session import Session
from gateway.core.transient import SESSION_DATA, TransientData, session_key
from gateway.flows.rooms.events import RoomEvents
from gateway.flows.services import Services
from gateway.flows.traffic import Traffic
from gateway.wire import structure
from gateway.wire.client import ClientMessage, is_given
from gateway.wire.errors import Code, ProtocolError

_MAX_TIMER = 3600.0  # seconds; a later deadline needs several timers
_TICK = 0.001  # seconds added to each timer: the event loop counts whole milliseconds, and may call it early


class TransientRequests:
    """Sets, removes and expires transient data; close it when done."""

    def __init__(self, services: Services, events: RoomEvents, traffic: Traffic) -> None:
        self._services = services
        self._traffic = traffic
        self._hub = services.hub
        self._events = events
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0  # time of the timer, by the clock of the services

    def update(self, session: Session, message: ClientMessage) -> None:
        """Set or remove an entry at the request of a session.

        Raises:
            ProtocolError: nothing has changed.
            Postponed: nothing has changed; the message has to be handled again later.
        """
        body = structure.transient(message.transient)
        room = self._hub.room_of(session)
        if room is None:
            raise ProtocolError(Code.NOT_IN_ROOM.error())
        if body.type not in ("set", "remove"):
            raise ProtocolError(Code.IGNORED.error())
        if not session.may(TRANSIENT_DATA):
            raise ProtocolError(Code.NOT_ALLOWED_TO_UPDATE.error())
        key = body.key or ""
        if key.startswith(SESSION_DATA) and not session.is_internal and key != session_key(session.id):
            raise ProtocolError(Code.NOT_ALLOWED_TO_UPDATE_ENTRY.error())
        if body.type == "set" and is_given(body.value):
            if limit := self._exceeded_limit(room.transient, key, body.value):
                self._services.count_excess(limit)
                raise ProtocolError(Code.LIMIT_EXCEEDED.error())
            # Twice: the next change or removal sends this value again, as the old one.
            budget, size = room.relay_budget, cost(2 * (len(key) + len(body.value) + ENVELOPE), len(room.members))
            budget.left -= size
            if budget.left < 0.0:
                self._traffic.refill(session, budget, size, room.members.values())
            self.set(room, key, body.value, body.ttl)
        else:
            self._remove(room, key)

    def set(self, room: Room, key: str, value: Raw, ttl: int | None = None) -> None:
        """Store an entry for ``ttl`` nanoseconds, without a check of permissions; send members a changed value."""
        changed = self._hub.set_transient(room, key, value, ttl, self._services.clock())
        if changed is not None:
            self._events.transient(room.members.values(), changed)
        if ttl is not None and ttl > 0:
            self._set_timer()

    def close(self) -> None:
        """Cancel the timer. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()

    def _exceeded_limit(self, stored: TransientData, key: str, value: Raw) -> str:
        """Return the name of the limit that an entry would exceed; empty: none."""
        limits = self._services.settings.limits
        if exceeds(len(key.encode()), limits.transient_key_length):
            return "transient_key_length"
        if key not in stored and exceeds(len(stored) + 1, limits.transient_keys):
            return "transient_keys"
        return "transient_bytes" if exceeds(stored.size_with(key, value), limits.transient_bytes) else ""

    def _remove(self, room: Room, key: str) -> None:
        changed = self._hub.remove_transient(room, key)
        if changed is not None:
            self._events.transient(room.members.values(), changed)

    def _expire(self) -> None:
        for room, changed in self._hub.expire_transient(self._services.clock()):
            self._events.transient(room.members.values(), changed)
        self._timer = None
        self._set_timer()

    def _set_timer(self) -> None:
        """Set the timer for the next entry that expires; an earlier timer stays, and sets the next one itself."""
        deadline = self._hub.next_transient_deadline()
        if deadline is None:
            return
        now = self._services.clock()
        due = min(max(deadline, now), now + _MAX_TIMER)
        if self._timer is not None:
            if self._due <= due:
                return
            self._timer.cancel()
        self._due = due
        self._timer = asyncio.get_running_loop().call_later(due - now + _TICK, self._expire)
