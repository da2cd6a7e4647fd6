"""The steps of all calls: each is one line of the log, with a short session id, and one recorded event.

Source: docs/operations.md, "The story of a call". ``grep`` on a short session id finds all lines of a session, on a
short room id those of a call. Messages are not logged, except refused requests about streams; steps of which there are
many in a large call are logged at DEBUG. A step consists of words of this file, numbers, ids of backends, and short
ids, so that no text of a client or of Nextcloud can reach the log or the recorder (invariant 7).
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from enum import Enum, StrEnum

from gateway.core.ids import SessionIds
from gateway.core.limits import AUDIO_CODECS, VIDEO_CODECS
from gateway.core.room import Room, RoomKey
from gateway.core.session import Session
from gateway.flows.call_recorder import CallEvent, CallRecorder
from gateway.wire.errors import Code
from mcu.base import CloseReason, StreamKey, TransportState

MAX_STEPS = 60  # of one session and ``CallStep`` in a minute; further ones are left out
MAX_STEPS_OF_OTHERS = 3000  # the same for streams of other sessions: each one of a call of 1,000 three times
SHORT = 8  # characters of a session id in the log, as in ``portunus explain``; a full one must not appear (invariant 7)

REFUSAL_PERIOD = 60.0  # seconds between two ``REFUSED`` steps of one session, request and error
MAX_REFUSALS = 4096  # refusals that are remembered for this

log = logging.getLogger("portunus.calls")


class CallStep(StrEnum):
    """The steps; the value names a step in the timeline."""

    HELLO = "hello"
    RESUMED = "resumed"
    JOINED = "joined"
    LEFT_ROOM = "left room"
    ENTERED = "entered call"
    LEFT = "left call"
    PUBLISHED = "published"
    SUBSCRIBED = "subscribed"
    ICE = "ice connected"
    CONNECTED = "connected"
    MEDIA = "media"
    SLOW_LINK = "slow link"
    LIMITED = "limited"
    CLOSED = "stream ended"
    REFUSED = "refused"
    ENDED = "session ended"


class SessionEnd(Enum):
    """The reason for the end of a session, in words."""

    BYE = "its client said bye"
    AWAY = "its client did not come back"
    JOIN_TIMEOUT = "it joined no room in time (room_join_timeout)"
    RECONNECTED = "its client has joined again in another session (room_session_reconnected)"
    REMOVED = "it was removed from its room"
    HOST = "the server that hosts its room ended it"
    BACKEND_CHANGED = "its backend was removed from the configuration, or is another Nextcloud now"
    OUTBOX_FULL = "too many messages wait for its client"
    STREAMS_LOST = "its streams were lost with their SFU"


class StreamEnd(Enum):
    """The reason for which the gateway ends a stream, in words."""

    LEFT_CALL = "its session left the call"
    LEFT_ROOM = "its session left the room"
    ELSEWHERE = "its session joined a room of another server"
    REMOVED = "its session was removed from the room"
    ROOM_DELETED = "the room was deleted"
    SESSION_ENDED = "its session ended"
    GATEWAY_ENDS = "the gateway ends"
    UNSHARED = "its client has unshared it"
    REVOKED = "the permission to publish it was withdrawn"
    NOT_IN_CALL = "its subscriber is not in the publisher's call any more"
    UNUSED = "it is not used any more"


_CLOSE_REASONS = {
    CloseReason.LOST: "its SFU was lost",
    CloseReason.REPLACED: "it was replaced",
    CloseReason.PUBLISHER_GONE: "its publisher has left",
    CloseReason.CLIENT_CLOSED: "its client has closed the connection",
    CloseReason.ICE_FAILED: "ICE failed: client and SFU do not reach each other",
    CloseReason.DTLS_FAILED: "the DTLS handshake failed",
    CloseReason.FAILED: "its connection has ended, the SFU does not know how",
    CloseReason.DRAINED: "its SFU is being drained",
}
_TRANSPORT_STEPS = {
    TransportState.ICE_CONNECTED: (CallStep.ICE, "ICE connected, DTLS begins"),
    TransportState.CONNECTED: (CallStep.CONNECTED, "connected (ICE and DTLS)"),
    TransportState.SLOW_LINK: (CallStep.SLOW_LINK, "slow link: many packets are lost"),
}
_ONCE = frozenset({CallStep.HELLO, CallStep.ENDED})  # steps of which each session has one: they need not be counted
# Reasons that are logged at INFO also for subscriptions.
_FAILURES = frozenset(
    {CloseReason.LOST, CloseReason.ICE_FAILED, CloseReason.DTLS_FAILED, CloseReason.FAILED, CloseReason.DRAINED}
)
_CODECS = AUDIO_CODECS | VIDEO_CODECS
_ERRORS = frozenset(code.error().code for code in Code)
_REQUESTS = frozenset({"offer", "answer", "candidate", "endOfCandidates", "requestoffer", "sendoffer", "selectStream"})


class CallLog:
    """Writes the steps of all calls to the log and to the recorder; ``clock`` returns the unix time."""

    def __init__(self, ids: SessionIds, clock: Callable[[], float], recorder: CallRecorder) -> None:
        self._ids = ids
        self._clock = clock
        self.recorder = recorder
        self._gateway_ends = False
        # Unix times of the last refusals, oldest first, by short session id, request and error.
        self._refusals: dict[tuple[str, str, str], float] = {}
        self._minute = 0  # of the unix time
        # Steps in that minute, by short session id, step, and whether it is about a stream of another session.
        self._counts: Counter[tuple[str, CallStep, bool]] = Counter()

    # -- short ids

    def short(self, id: str) -> str:
        """Return the beginning of a session id; "unknown" for any other text."""
        return id[:SHORT] if self._ids.is_session_id(id) else "unknown"

    def room_id(self, room: RoomKey | None) -> str:
        """Return the short id of a room; empty for no room. The room's own id cannot be found from it."""
        return "" if room is None else self._ids.short_room_id(room.backend, room.id)

    # -- sessions

    def opened(self, session: Session) -> None:
        """Log the opening of a session by a hello."""
        participant = session.client_type.value if session.is_internal else "user" if session.userid else "guest"
        self._log_step(session, CallStep.HELLO, f"hello of a {participant}, backend {session.backend.id}")

    def resumed(self, session: Session) -> None:
        """Log that a client has resumed its session."""
        self._log_step(session, CallStep.RESUMED, "resumed")

    def joined(self, session: Session, room: Room) -> None:
        """Log that a session has joined a room."""
        text = f"joined room {self.room_id(room.key)} of backend {room.key.backend}, members: {len(room.members)}"
        self._log_step(session, CallStep.JOINED, text, room.key)

    def joined_elsewhere(self, session: Session) -> None:
        """Log that a session has joined a room of another server."""
        self._log_step(session, CallStep.JOINED, "joined a room of another server")

    def left_room(self, session: Session, room: RoomKey) -> None:
        """Log that a session has left a room."""
        self._log_step(session, CallStep.LEFT_ROOM, f"left room {self.room_id(room)}", room, level=logging.DEBUG)

    def call_changed(self, room: Room, entered: Iterable[str], left: Iterable[str]) -> None:
        """Log which sessions entered the call of a room, and which left it."""
        for ids, step, verb in ((entered, CallStep.ENTERED, "entered"), (left, CallStep.LEFT, "left")):
            for id in ids:
                text = f"{verb} the call in room {self.room_id(room.key)}"
                self._write(self.short(id), room.key.backend, step, text, self.room_id(room.key))

    def ended(self, session: Session, reason: SessionEnd) -> None:
        """Log the end of a session."""
        self._log_step(session, CallStep.ENDED, f"ended: {reason.value}")

    # -- streams

    def published(
        self, session: Session, key: StreamKey, room: RoomKey | None, bitrate: int, codecs: Iterable[str]
    ) -> None:
        """Log that the SFU has accepted a stream, with its limit in bit/s (0: none) and its codecs."""
        limit = f"at most {bitrate // 1000} kbit/s" if bitrate else "no limit"
        names = ", ".join(codec for codec in codecs if codec in _CODECS) or "any codec"
        text = f"publishes {key.stream_type.value}{self._in_room(room)} ({limit}, {names})"
        self._log_step(session, CallStep.PUBLISHED, text, room)

    def subscribed(self, session: Session, key: StreamKey, room: RoomKey | None) -> None:
        """Log that a session subscribes to the stream of another session."""
        text = f"subscribes to {self._stream_name(session, key)}{self._in_room(room)}"
        self._log_step(session, CallStep.SUBSCRIBED, text, room, key)

    def transport(self, session: Session, key: StreamKey, room: RoomKey | None, state: TransportState) -> None:
        """Log the new state of a stream's connection to the SFU."""
        step, words = _TRANSPORT_STEPS[state]
        level = logging.DEBUG if state is TransportState.ICE_CONNECTED else logging.INFO
        text = f"{self._stream_name(session, key)}{self._in_room(room)}: {words}"
        self._log_step(session, step, text, room, key, level=level)

    def media(self, session: Session, key: StreamKey, room: RoomKey | None) -> None:
        """Log that the first media of a published stream have arrived at the SFU."""
        text = f"{self._stream_name(session, key)}{self._in_room(room)}: media arrive"
        self._log_step(session, CallStep.MEDIA, text, room, key)

    def limited(self, session: Session, key: StreamKey, room: RoomKey | None, bitrate: int) -> None:
        """Log the new limit that the policy sets a published stream, in bit/s; 0: no limit."""
        limit = f"at most {bitrate // 1000} kbit/s from now on" if bitrate else "no limit from now on"
        text = f"{self._stream_name(session, key)}{self._in_room(room)}: {limit}"
        self._log_step(session, CallStep.LIMITED, text, room, key, level=logging.DEBUG)

    def stream_closed(
        self, session: Session, key: StreamKey, room: RoomKey | None, reason: CloseReason | StreamEnd
    ) -> None:
        """Log the end of a stream that was on the SFU."""
        if self._gateway_ends and reason is CloseReason.LOST:
            reason = StreamEnd.GATEWAY_ENDS
        words = reason.value if isinstance(reason, StreamEnd) else _CLOSE_REASONS[reason]
        level = logging.INFO if _is_own(session, key) or reason in _FAILURES else logging.DEBUG
        text = f"{self._stream_name(session, key)}{self._in_room(room)} ended: {words}"
        self._log_step(session, CallStep.CLOSED, text, room, key, level=level)

    def gateway_ends(self) -> None:
        """Log streams that the SFU ends from now on as ended by the gateway, which stops its SFU."""
        self._gateway_ends = True

    def refused(self, session: Session, key: StreamKey, room: RoomKey | None, request: str | None, code: str) -> None:
        """Log that a request about a stream was refused; once a minute for each session, request and ``code``."""
        name = request if request in _REQUESTS else "a request"
        known = code if code in _ERRORS else "error"
        text = f"{name} for {self._stream_name(session, key)}{self._in_room(room)} was refused: {known}"
        if self._is_repeated((self.short(session.id), name, known)):
            return
        self._log_step(session, CallStep.REFUSED, text, room, key)

    def _is_repeated(self, refusal: tuple[str, str, str]) -> bool:
        """Return whether a refusal was logged lately, otherwise remember it: errors must not fill the recorder."""
        now = self._clock()
        while self._refusals:
            oldest, at = next(iter(self._refusals.items()))
            if at <= now < at + REFUSAL_PERIOD and len(self._refusals) < MAX_REFUSALS:
                break
            del self._refusals[oldest]
        repeated = refusal in self._refusals
        if not repeated:
            self._refusals[refusal] = now
        return repeated

    # -- writing

    def _stream_name(self, session: Session, key: StreamKey) -> str:
        own = _is_own(session, key)
        return key.stream_type.value if own else f"{key.stream_type.value} of session {self.short(key.publisher)}"

    def _in_room(self, room: RoomKey | None) -> str:
        return "" if room is None else f" in room {self.room_id(room)}"

    def _log_step(
        self,
        session: Session,
        step: CallStep,
        text: str,
        room: RoomKey | None = None,
        key: StreamKey | None = None,
        *,
        level: int = logging.INFO,
    ) -> None:
        publisher = "" if key is None or _is_own(session, key) else self.short(key.publisher)
        room_id = self.room_id(room)
        # The id of a session was made here: its signature, whose check costs 4 % of a hello, tells nothing new.
        self._write(session.id[:SHORT], session.backend.id, step, text, room_id, publisher, level=level)

    def _write(
        self,
        session: str,
        backend: str,
        step: CallStep,
        text: str,
        room: str = "",
        publisher: str = "",
        *,
        level: int = logging.INFO,
    ) -> None:
        now = self._clock()
        if step not in _ONCE:
            left = self._steps_left(now, session, step, publisher)
            if left < 0:
                return
            if not left:
                text += "; further steps of this type are left out for up to a minute"
        log.log(level, "session %s: %s", session, text)
        self.recorder.add(CallEvent(round(now, 3), session, step, text, backend, room, publisher))

    def _steps_left(self, now: float, session: str, step: CallStep, publisher: str) -> int:
        """Count a step of a session; return how many more of its type are written in this minute, -1: not even this."""
        if int(now // 60) != self._minute:
            self._minute, self._counts = int(now // 60), Counter()
        key, limit = (session, step, bool(publisher)), MAX_STEPS_OF_OTHERS if publisher else MAX_STEPS
        self._counts[key] += 1
        return limit - self._counts[key]


def _is_own(session: Session, key: StreamKey) -> bool:
    return str(key.publisher) == session.id
