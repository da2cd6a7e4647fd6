"""The drain of a gateway: no session is opened any more, and calls go on until a deadline; then the process ends.

Source: docs/operations.md, "Draining"; reference 2.5.
"""

from __future__ import annotations

from enum import Enum

from gateway.core.hub import Hub


class AwaitedSessions(Enum):
    """The sessions that a drain waits for."""

    IN_CALLS = "calls"  # as ``sessions_in_calls`` counts them
    ALL = "sessions"  # all sessions, except those of internal clients


class Drain:
    """The state of the drain; times are seconds of the monotonic clock.

    ``ends_at_signal``: a signal to end the process has arrived; the next such signal ends it without waiting.
    """

    __slots__ = ("active", "awaited", "deadline", "ends_at_signal", "refused")

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self.active = False
        self.awaited = AwaitedSessions.IN_CALLS
        self.deadline: float | None = None  # None: no deadline
        self.ends_at_signal = False
        self.refused = 0  # hellos that were refused because of the drain

    def begin(self, awaited: AwaitedSessions, deadline: float | None) -> None:
        """Begin the drain, or change the awaited sessions and the deadline of a running one."""
        self.active = True
        self.awaited = awaited
        self.deadline = deadline

    def cancel(self) -> None:
        """Accept new sessions again. Idempotent."""
        self._clear()

    def is_over(self, hub: Hub, now: float) -> bool:
        """Return whether a drain has no awaited session left, or its deadline has passed; ``False`` without a drain."""
        if not self.active:
            return False
        return (self.deadline is not None and self.deadline <= now) or not self.count(hub)

    def seconds_left(self, now: float) -> float | None:
        """Return the seconds until the deadline; ``None``: there is no deadline."""
        return None if self.deadline is None else max(0.0, self.deadline - now)

    def count(self, hub: Hub) -> int:
        """Return the number of awaited sessions."""
        return sessions_in_calls(hub) if self.awaited is AwaitedSessions.IN_CALLS else client_sessions(hub)


def client_sessions(hub: Hub) -> int:
    """Return the number of sessions, connected or not, that are not of internal clients."""
    return len(hub.sessions) - len(hub.internals)


def sessions_in_calls(hub: Hub) -> int:
    """Return the number of sessions and virtual sessions in calls, without internal clients such as a recorder.

    A session in a room of another server counts: whether it is in a call there is not known here.
    """
    count = len(hub.seated)
    for room in hub.rooms.values():
        count += sum(not room.members[session].is_internal for session in room.in_call)
        count += sum(virtual.in_call for virtual in room.virtuals.values())
    return count
