"""Events as Janus 1.1.2 writes them, for tests that stand in for Janus."""

from __future__ import annotations

from typing import Any

OURS = "portunus|tests|cloud|anna|video"


def envelope(
    type: int, subtype: int | None, session: int = 1, handle: int = 7, opaque: str = OURS, /, **event: Any
) -> Any:
    """Return an event; ``subtype`` ``None`` leaves it out."""
    around = {
        "emitter": "portunus",
        "type": type,
        "subtype": subtype,
        "timestamp": 1795370372031692,
        "session_id": session,
        "handle_id": handle,
        "opaque_id": opaque,
        "event": event,
    }
    return {name: value for name, value in around.items() if value is not None}


def statistics(
    session: int = 1, handle: int = 7, opaque: str = OURS, /, media: str = "video", mid: str = "1", **counters: Any
) -> Any:
    """Return what Janus tells of one medium each second; ``counters`` with underscores."""
    zero = {"rtt": 0, "lost": 0, "lost-by-remote": 0, "jitter-local": 0, "jitter-remote": 0, "packets-received": 0}
    zero |= {"packets-sent": 0, "bytes-received": 0, "bytes-sent": 0, "bytes-received-lastsec": 0}
    zero |= {"bytes-sent-lastsec": 0, "nacks-received": 0, "nacks-sent": 0, "retransmissions-received": 0}
    given = {name.replace("_", "-"): value for name, value in counters.items()}
    event = {"mid": mid, "mindex": int(mid), "media": media, "codec": "vp8", "base": 90000} | zero | given
    return envelope(32, 3, session, handle, opaque, **event)
