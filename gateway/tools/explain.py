"""``portunus explain ROOM``: shows the bitrate and codecs that each publisher may send, and why.

Source: docs/operations.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gateway.edge.operator.explain_api import PublisherExplanation, RoomExplanation
from gateway.tools import admin_requests


def ask(socket: Path, room: str, backend: str = "") -> RoomExplanation:
    """Request the explanation of a room from the gateway behind an admin socket.

    Raises:
        GatewayUnreachable: no gateway answers there.
        CommandRefused: there is no such backend, none has such a room, or several have.
    """
    return admin_requests.request(socket, "GET", "/explain", {"room": room, "backend": backend}, RoomExplanation)


def lines(room: RoomExplanation) -> Iterator[str]:
    """Yield the lines of text that describe an explanation."""
    count = len(room.publishers)
    publishers = "no publishers" if not count else "1 publisher" if count == 1 else f"{count} publishers"
    yield f"Room {room.room} of backend {room.backend} (in the log: {room.short_id}): {publishers}."
    for publisher in room.publishers:
        yield f"{publisher.session}… {_application_note(publisher)}{' '.join(publisher.reasons)}"


def _application_note(publisher: PublisherExplanation) -> str:
    return "" if publisher.applied else "(not applied yet) "
