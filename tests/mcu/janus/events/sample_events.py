"""Builders of the events that Janus 1.1.2 sends to its event handlers."""

from __future__ import annotations

from typing import Any

OWN_OPAQUE_ID = "portunus|tests|cloud|anna|video"


def janus_event(
    type: int, subtype: int | None, session: int = 1, handle: int = 7, opaque_id: str = OWN_OPAQUE_ID, /, **event: Any
) -> Any:
    """Return an event with ``event`` as its body; a ``None`` leaves its member out."""
    members = {
        "emitter": "portunus",
        "type": type,
        "subtype": subtype,
        "timestamp": 1795370372031692,
        "session_id": session,
        "handle_id": handle,
        "opaque_id": opaque_id,
        "event": event,
    }
    return {name: value for name, value in members.items() if value is not None}


def statistics_event(
    session: int = 1,
    handle: int = 7,
    opaque_id: str = OWN_OPAQUE_ID,
    /,
    media: str = "video",
    mid: str = "1",
    **counters: Any,
) -> Any:
    """Return the media statistics of one m-line; ``counters``: Janus' names with ``_`` for ``-``, default 0."""
    zero = {"rtt": 0, "lost": 0, "lost-by-remote": 0, "jitter-local": 0, "jitter-remote": 0, "packets-received": 0}
    zero |= {"packets-sent": 0, "bytes-received": 0, "bytes-sent": 0, "bytes-received-lastsec": 0}
    zero |= {"bytes-sent-lastsec": 0, "nacks-received": 0, "nacks-sent": 0, "retransmissions-received": 0}
    given = {name.replace("_", "-"): value for name, value in counters.items()}
    event = {"mid": mid, "mindex": int(mid), "media": media, "codec": "vp8", "base": 90000} | zero | given
    return janus_event(32, 3, session, handle, opaque_id, **event)  # media, statistics
