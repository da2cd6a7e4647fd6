"""The interface of the flow that gives sessions their seats (``rooms``), as the seats use it.

Source: reference 12.1, 12.3.
"""

from __future__ import annotations

from typing import Protocol

from gateway.core.seat import Seat
from gateway.core.session import Session


class SeatOwner(Protocol):
    """The flow that gives sessions their seats."""

    def take_seat(self, session: Session, seat: Seat) -> None:
        """Move a session from its present room, or another seat, to this seat: the host has accepted its join."""

    def leave_seat(self, session: Session, seat: Seat) -> None:
        """Remove a session from this seat: the session is in no room any more. No effect if it has another seat."""

    def ended_by_host(self, session: Session, reason: str) -> None:
        """End a session whose remote session the host has ended; ``reason``: of the host's ``bye``, or empty."""

    def end_disinvited(self, session: Session, event: bytes) -> None:
        """End a session that was disinvited from the host's room, once its client has the encoded ``event``."""
