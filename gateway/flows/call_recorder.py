"""Recorder of the latest events of all calls, in memory, for ``portunus timeline``.

Source: docs/operations.md, "The timeline". The number and the size of the events are limited; beyond a limit the
oldest events are dropped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import msgspec

MAX_EVENTS = 20_000
MAX_OCTETS = 4 << 20  # of the encoded events


class CallEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """One step of a session. No text of a client or of Nextcloud is in it (invariant 7)."""

    at: float  # unix time, seconds
    session: str  # short id
    step: str  # a value of ``gateway.flows.call_log.CallStep``
    text: str  # the line of the log, without the session
    backend: str = ""  # id of the session's backend
    room: str = ""  # short id; empty: the step is about no room
    publisher: str = ""  # short id of the session that publishes the stream, if it is another one


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(CallEvent).decode


class CallRecorder:
    """The latest events, oldest first: at most ``events``, which are at most ``octets`` when encoded."""

    def __init__(self, events: int = MAX_EVENTS, octets: int = MAX_OCTETS) -> None:
        self._max_events = events
        self._max_octets = octets
        self._encoded: deque[bytes] = deque()
        self._octets = 0
        self.dropped = 0  # events since the start of the process

    def __len__(self) -> int:
        return len(self._encoded)

    @property
    def octets(self) -> int:
        """The size of the encoded events."""
        return self._octets

    def add(self, event: CallEvent) -> None:
        """Append an event, and drop the oldest ones beyond the limits."""
        encoded = _encode(event)
        self._encoded.append(encoded)
        self._octets += len(encoded)
        while len(self._encoded) > self._max_events or self._octets > self._max_octets:
            self._octets -= len(self._encoded.popleft())
            self.dropped += 1

    def __iter__(self) -> Iterator[CallEvent]:
        return map(_decode, list(self._encoded))

    def of_room(self, room: str) -> list[CallEvent]:
        """Return the events in a room, by its short id, and those without a room of sessions that were in it."""
        events = list(self)
        sessions = {event.session for event in events if event.room == room}
        return [event for event in events if event.room == room or (not event.room and event.session in sessions)]

    def of_session(self, session: str) -> list[CallEvent]:
        """Return the events of a session, by its short id, and those of the subscriptions to its streams."""
        return [event for event in self if session in (event.session, event.publisher)]
