"""Passes the events of a publisher or subscriber to its listener when ``mcu.base.StreamListener`` allows them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from mcu.base import CloseReason, StreamListener

Event = Callable[[StreamListener], None]  # calls one method of the listener


class ListenerGate:
    """Holds events back until ``publish`` or ``subscribe`` has returned, and drops them after the end of the stream."""

    def __init__(self, listener: StreamListener) -> None:
        self._listener = listener
        self._held: list[Event] | None = []  # None: the gate is open
        self._closed = False

    def send(self, event: Event) -> None:
        """Pass an event to the listener, at once or when the gate opens; drop it after ``close``."""
        if self._closed:
            return
        if self._held is None:
            event(self._listener)
        else:
            self._held.append(event)

    def close(self, reason: CloseReason | None) -> None:
        """Send ``on_closed`` as the last event; for ``None`` (the gateway closed the stream) drop the held events.

        Idempotent.
        """
        if reason is None:
            self._held = None
        else:
            self.send(lambda listener: listener.on_closed(reason))
        self._closed = True

    def open_soon(self) -> None:
        """Open the gate in the loop's next iteration: call this last in ``publish`` and ``subscribe``."""
        asyncio.get_running_loop().call_soon(self._open)

    def _open(self) -> None:
        held, self._held = self._held, None
        for event in held or ():
            event(self._listener)
