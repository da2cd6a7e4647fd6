"""Events in the form in which Janus 1.1.2 sends them."""

from __future__ import annotations

from typing import Any

OWN = "portunus|tests|cloud|anna|video"


def envelope(
    type: int, subtype: int | None, session: int = 1, handle: int = 7, opaque: str = OWN, /, **event: Any
) -> Any:
    """Return an event; ``None`` leaves the subtype out."""
    members = {
        "emitter": "portunus",
        "type": type,
        "subtype": subtype,
        "timestamp": 1795370372031692,
        "session_id": session,
        "handle_id": handle,
        "opaque_id": opaque,
        "event": event,
    }
    return {name: value for name, value in members.items() if value is not None}


def statistics(
    session: int = 1, handle: int = 7, opaque: str = OWN, /, media: str = "video", mid: str = "1", **counters: Any
) -> Any:
    """Return the statistics event of one m-line; ``counters`` have Janus' names, with ``_`` for ``-``."""
    zero = {"rtt": 0, "lost": 0, "lost-by-remote": 0, "jitter-local": 0, "jitter-remote": 0, "packets-received": 0}
    zero |= {"packets-sent": 0, "bytes-received": 0, "bytes-sent": 0, "bytes-received-lastsec": 0}
    zero |= {"bytes-sent-lastsec": 0, "nacks-received": 0, "nacks-sent": 0, "retransmissions-received": 0}
    given = {name.replace("_", "-"): value for name, value in counters.items()}
    event = {"mid": mid, "mindex": int(mid), "media": media, "codec": "vp8", "base": 90000} | zero | given
    return envelope(32, 3, session, handle, opaque, **event)
