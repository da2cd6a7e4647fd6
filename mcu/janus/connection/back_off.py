"""Pauses between attempts to connect to a Janus. Pure: no loop, no clock."""

from __future__ import annotations

QUICK_PAUSE = 0.25  # seconds between attempts at first, before jitter: Janus may be restarting
QUICK_PERIOD = 30.0  # seconds
STEADY_PAUSE = 2.0  # seconds between attempts while participants may still wait in their calls
STEADY_PERIOD = 600.0  # seconds
# Seconds between attempts with a Janus that answers but cannot be used; the last also after STEADY_PERIOD.
BACK_OFF = (1.0, 2.0, 4.0, 8.0, 16.0)


def back_off(disconnected_for: float, refusals: int, jitter: float) -> float:
    """Return the pause before the next attempt to connect, in seconds.

    ``disconnected_for``: seconds since the last session, or since the start; ``refusals``: number of consecutive
    attempts that found a Janus which cannot be used. ``jitter``, a uniform random number in 0 … 1, scales the pause by
    0.5 … 1.5, so that many gateways do not reconnect at the same moment.
    """
    if refusals:
        pause = BACK_OFF[min(refusals, len(BACK_OFF)) - 1]
    elif disconnected_for < QUICK_PERIOD:
        pause = QUICK_PAUSE
    else:
        pause = STEADY_PAUSE if disconnected_for < STEADY_PERIOD else BACK_OFF[-1]
    return pause * (0.5 + jitter)
