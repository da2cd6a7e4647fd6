"""The counters of the traffic with clients.

Source: docs/operations.md, "Metrics".
"""

from __future__ import annotations

from typing import Any, Protocol


class TrafficCounters(Protocol):
    """The counters of messages and bytes that connections increment."""

    messages_in: int
    messages_out: int
    bytes_in: int
    bytes_out: int

    @property
    def round_trip(self) -> Any:
        """The histogram of round-trip times, with ``observe(milliseconds)``."""
