"""``portunus timeline ROOM|SESSION``: shows the events of a room or session in order.

Source: docs/operations.md, "The timeline".
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from gateway.edge.operator.timeline_api import Timeline
from gateway.tools import admin_requests


def ask(socket: Path, subject: str, backend: str = "") -> Timeline:
    """Request the timeline of a room or session from the gateway behind an admin socket.

    Raises:
        GatewayUnreachable: no gateway answers there.
        CommandRefused: no event of such a room or session is recorded, or several backends have had such a room.
    """
    return admin_requests.request(socket, "GET", "/timeline", {"of": subject, "backend": backend}, Timeline)


def lines(timeline: Timeline) -> Iterator[str]:
    """Yield the lines of text that describe a timeline; times are UTC."""
    subject = f"Room {timeline.room}" if timeline.room else f"Session {timeline.session}"
    count = "1 event" if len(timeline.events) == 1 else f"{len(timeline.events)} events"
    yield f"{subject}: {count}; recorded since {_time(timeline.recorded_since)}."
    for event in timeline.events:
        yield f"{_time(event.at)} session {event.session}: {event.text}"


def to_json(timeline: Timeline) -> bytes:
    """Return a timeline as indented JSON, for a bug report."""
    return msgspec.json.format(msgspec.json.encode(timeline), indent=2) + b"\n"


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
