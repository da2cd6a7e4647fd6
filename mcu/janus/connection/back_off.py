"""How long to wait before the next attempt to connect to a Janus. Pure: no loop, no clock."""

from __future__ import annotations

QUICK = 0.25  # seconds between attempts to connect, before jitter, to a Janus that is started again
QUICK_FOR = 30.0  # seconds
STEADY = 2.0  # seconds between attempts while people may still sit in their calls
STEADY_FOR = 600.0  # seconds
BACK_OFF = (1.0, 2.0, 4.0, 8.0, 16.0)  # seconds between attempts with a Janus that is there and cannot be used


def back_off(away: float, refusals: int, chance: float) -> float:
    """Return how many seconds to wait before the next attempt to connect.

    ``away``: seconds since there was a session, or since the start; ``refusals``: how many attempts in a row ended at a
    Janus that cannot be used. ``chance`` is even in 0 … 1: half as long to half as long again, so that many gateways do
    not come back as one.
    """
    if refusals:
        wait = BACK_OFF[min(refusals, len(BACK_OFF)) - 1]
    elif away < QUICK_FOR:
        wait = QUICK
    else:
        wait = STEADY if away < STEADY_FOR else BACK_OFF[-1]
    return wait * (0.5 + chance)
