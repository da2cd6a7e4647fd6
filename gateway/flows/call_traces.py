"""Begins the traces of hellos, joins and streams, with the short ids of the log.

Source: docs/tracing.md. An attribute is a word of this program, the id of a backend, or a short id; an error is a
code of the protocol (invariant 7).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from gateway.core.room import RoomKey
from gateway.core.session import Session
from gateway.flows.call_log import CallLog
from gateway.tracing import Span, Tracer, running
from gateway.wire.errors import Code, ProtocolError
from mcu.base import McuError, StreamType
from mcu.request_trace import RequestTrace

BACKEND, SESSION, ROOM, CLIENT_TYPE = "portunus.backend", "portunus.session", "portunus.room", "portunus.client_type"
PUBLISHER, STREAM = "portunus.publisher", "portunus.stream"

# Codes of Talk in answers that are passed on to clients (reference 3.2, 4.1).
_CODES_OF_TALK = frozenset({"invalid_request", "invalid_ticket", "no_such_room", "duplicate_session"})
_CODES = _CODES_OF_TALK | {code.error().code for code in Code}


class CallTraces:
    """Begins a trace for each hello, join and request for a stream."""

    def __init__(self, tracer: Tracer, calls: CallLog) -> None:
        self._tracer = tracer
        self._calls = calls

    async def hello(self, opening: Awaitable[Session | None]) -> Session | None:
        """Trace the opening of a session by a hello, and return the session."""
        with running(self._tracer.begin("hello"), protocol_code) as span:
            session = await opening
            if session is None:
                span.event("client gone")
                return None
            span.set(BACKEND, session.backend.id)
            span.set(SESSION, self._calls.short(session.id))
            span.set(CLIENT_TYPE, session.client_type.value)
            return session

    async def join(self, session: Session, roomid: str, joining: Awaitable[None]) -> None:
        """Trace the join of a room of this server."""
        attributes = self._attributes(session, RoomKey(session.backend.id, roomid))
        with running(self._tracer.begin("join", attributes), protocol_code):
            await joining

    def stream(self, name: str, session: Session, publisher: str, stream_type: StreamType | None) -> Span:
        """Begin the trace of a session's request for a stream of ``publisher``."""
        attributes = self._attributes(session, session.room)
        attributes[STREAM] = "unknown" if stream_type is None else stream_type.value
        if publisher != session.id:
            attributes[PUBLISHER] = self._calls.short(publisher)
        return self._tracer.begin(name, attributes)

    def _attributes(self, session: Session, room: RoomKey | None) -> dict[str, str | int]:
        attributes: dict[str, str | int] = {
            BACKEND: session.backend.id,
            SESSION: self._calls.short(session.id),
        }
        if room is not None:
            attributes[ROOM] = self._calls.room_id(room)
        return attributes


def protocol_code(error: BaseException) -> str:
    """Return the code of the error that the client gets; "cancelled" if it gets none."""
    if isinstance(error, ProtocolError):
        return known_code(error.error.code)
    if isinstance(error, asyncio.CancelledError):
        return "cancelled"
    return (Code.PROCESSING_FAILED if isinstance(error, McuError) else Code.INTERNAL_ERROR).error().code


def known_code(code: str) -> str:
    """Return an error code of the protocol or of Talk; "error" for any other text."""
    return code if code in _CODES else "error"


def exception_name(error: BaseException) -> str:
    """Return the name of an exception of the SFU, for the span of one request to it."""
    return "cancelled" if isinstance(error, asyncio.CancelledError) else type(error).__name__


def requests_of(span: Span) -> RequestTrace:
    """Return a function that begins a child of ``span`` for a request to the SFU, and returns how to end it."""

    def begin(name: str) -> Callable[[str], None]:
        if span.ended:  # the request is of a task that runs longer than the operation
            return lambda error: None
        request = span.child(name, remote=True)

        def end(error: str) -> None:
            if error:
                request.fail(error)
            request.end()

        return end

    return begin
