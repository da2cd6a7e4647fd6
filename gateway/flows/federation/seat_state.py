"""The state of a seat, which decides how the messages of its client and of the host are handled.

Source: reference 12.1, 12.3.
"""

from __future__ import annotations

from enum import Enum, auto


class SeatState(Enum):
    """The state of a seat."""

    ENTERING = auto()  # the host has not accepted a join: there is nothing to relay
    SEATED = auto()  # relays all messages
    DELETED = auto()  # relays all messages; the host has announced that the room is deleted
    RENEWING = auto()  # drops all messages until the remote session has ended; then opens another one
    CLOSED = auto()  # drops all messages
