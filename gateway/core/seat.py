"""The seat of a session: its place in a room of another signaling server, the host.

A session is in a room of this server (``Session.room``), or has a seat, or neither. A seat gets the messages of its
client instead of the flows of rooms, media and transient data; so these flows have no case for federation.

Source: reference 12.
"""

from __future__ import annotations

from typing import Protocol

from gateway.wire.client import ClientMessage


class JoinElsewhere(Protocol):
    """A session's join of a room of another server that is under way."""

    def withdraw(self) -> None:
        """End the join at once, unless the host has accepted it; its request fails (12.3-e). Idempotent."""


class Seat(Protocol):
    """A session's place in a room of another server."""

    @property
    def room_id(self) -> str:
        """The id of the room at the client's own Nextcloud."""

    @property
    def room_session_id(self) -> str:
        """The Nextcloud session id that the client gave; empty if it gave none."""

    def forward(self, text: str, message: ClientMessage) -> None:
        """Send a client's message to the host; ``message`` is the decoded ``text``.

        Raises:
            ProtocolError: the message is malformed.
        """

    def list_participants(self) -> None:
        """Send the client, which has resumed its session, the last list of participants, if one is known (2.8)."""

    def close(self) -> None:
        """Leave the room at the host, and send the client nothing more. Idempotent."""
