"""The story of a call in the log, at INFO: one line for each step of a session, which begins with its short id.

Source: docs/operations.md, "The story of a call". ``grep`` on a short session id finds all lines of a session, on a
room id those of a call. There are no lines for single messages.
"""

from __future__ import annotations

import logging

from gateway.core.room import Room
from gateway.core.session import Session
from mcu.base import CloseReason

SHORT = 8  # characters of an id in the log, as in ``portunus explain``; a full session id must not appear (invariant 7)

_CLOSED = {
    CloseReason.LOST: "its SFU was lost",
    CloseReason.REPLACED: "it was replaced",
    CloseReason.PUBLISHER_GONE: "its publisher has left",
    CloseReason.FAILED: "its connection has ended: hung up, or ICE or DTLS failed",
    CloseReason.DRAINED: "its SFU is being drained",
}
log = logging.getLogger("portunus.calls")


def short(id: str) -> str:
    """Return the beginning of a session or room id, as it appears in the log."""
    return id[:SHORT]


def opened(session: Session) -> None:
    """Log a successful hello."""
    kind = "user" if session.userid else "guest"
    log.info(
        "session %s: hello of a %s, backend %s",
        short(session.id),
        session.client_type.value if session.is_internal else kind,
        session.backend.id,
    )


def resumed(session: Session) -> None:
    """Log that a client has resumed its session."""
    log.info("session %s: resumed", short(session.id))


def joined(session: Session, room: Room) -> None:
    """Log that a session has joined a room."""
    log.info(
        "session %s: joined room %s of backend %s, which has %d members",
        short(session.id),
        short(room.key.id),
        room.key.backend,
        len(room.members),
    )


def call_changed(room: Room, entered: list[str], left: list[str]) -> None:
    """Log the sessions that entered the call of a room, or left it."""
    for ids, verb in ((entered, "entered"), (left, "left")):
        for id in ids:
            log.info("session %s: %s the call in room %s", short(id), verb, short(room.key.id))


def published(session: Session, stream_type: str, room: str, policy: str) -> None:
    """Log that the SFU has accepted a stream; ``policy``: its bitrate limit and codecs, in words."""
    log.info("session %s: publishes %s in room %s (%s)", short(session.id), stream_type, short(room), policy)


def subscribed(session: Session, publisher: str, stream_type: str, room: str) -> None:
    """Log that a session receives the stream of another one."""
    text = "session %s: subscribes to %s of session %s in room %s"
    log.info(text, short(session.id), stream_type, short(publisher), short(room))


def connected(session: Session, stream_type: str, room: str) -> None:
    """Log that ICE and DTLS of a publisher have succeeded and its media arrive."""
    text = "session %s: %s connected (ICE and DTLS) in room %s, media arrive"
    log.info(text, short(session.id), stream_type, short(room))


def stream_closed(session: Session, stream_type: str, room: str, reason: CloseReason) -> None:
    """Log that the SFU has closed a published stream."""
    text = "session %s: %s in room %s ended: %s"
    log.info(text, short(session.id), stream_type, short(room), _CLOSED[reason])


def ended(session: Session, reason: str) -> None:
    """Log the end of a session."""
    log.info("session %s: ended: %s", short(session.id), reason)
