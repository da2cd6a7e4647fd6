"""The pauses before the attempts of a seat to connect to its host again."""

from __future__ import annotations

from collections.abc import Callable

FIRST_PAUSE = 0.1  # seconds before the first attempt; doubled after each attempt
LONGEST_PAUSE = 8.0  # seconds
STABLE_DURATION = 10.0  # seconds; after a connection that lasted so long, the pauses begin with ``FIRST_PAUSE`` again


class ReconnectPauses:
    """Pauses that grow, and vary by half, so that seats do not connect all at once; ``entropy`` gives random bytes."""

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        self._entropy = entropy
        self._pause = FIRST_PAUSE

    def note_connection(self, duration: float) -> None:
        """Note a connection that has ended after ``duration`` seconds."""
        if duration >= STABLE_DURATION:
            self._pause = FIRST_PAUSE

    def next(self) -> float:
        """Return the seconds before the next attempt."""
        pause, self._pause = self._pause, min(2 * self._pause, LONGEST_PAUSE)
        return pause * (0.5 + self._entropy(1)[0] / 256)
