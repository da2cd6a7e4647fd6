"""Frames of Janus' WebSocket event handler, decoded into typed events. Pure.

Janus documentation, "Event handlers"; measured with Janus 1.1.2 (docs/janus.md). A frame is one event or a list of
them. Unknown types and members are ignored; a broken event in a list does not affect the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct

MAX_EVENTS = 500  # of one frame; Janus sends up to 100, and each broken event takes an exception

_EMPTY_OBJECT = Raw(b"{}")

ShortText = Annotated[str, Meta(max_length=64)]  # bounds the memory for one m-line in the statistics
Number = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]  # Janus' integers: sums of them are finite floats


class JanusEvent(Struct, frozen=True):
    """The members that all events have."""

    type: int
    subtype: int = 0
    timestamp: int = 0  # microseconds of Janus' clock
    session_id: Number = 0
    handle_id: Number = 0
    opaque_id: str = ""  # the name that the creator of the handle gave it
    event: Raw = _EMPTY_OBJECT


class HandleStateEvent(Struct, frozen=True):
    """A handle was attached or detached."""

    name: str  # "attached", "detached"


class IceStateEvent(Struct, frozen=True):
    """The ICE state of a PeerConnection changed."""

    ice: str  # "gathering", "connecting", "connected", "ready", "failed", …


class SelectedCandidate(Struct, frozen=True):
    """One side of a selected pair; its address is not decoded."""

    type: str = ""  # "host", "srflx", "prflx", "relay"
    transport: str = ""  # "udp", "tcp"
    family: int = 0  # 4, 6


class CandidatePair(Struct, frozen=True):
    """The two sides of a selected pair."""

    local: SelectedCandidate = SelectedCandidate()
    remote: SelectedCandidate = SelectedCandidate()


class SelectedPairEvent(Struct, frozen=True):
    """ICE selected a candidate pair."""

    candidates: CandidatePair = CandidatePair()


class DtlsStateEvent(Struct, frozen=True):
    """The DTLS state of a PeerConnection changed."""

    dtls: str  # "created", "trying", "connected", "failed"


class ConnectionStateEvent(Struct, frozen=True):
    """A PeerConnection came up or was hung up."""

    connection: str  # "webrtcup", "hangup"
    reason: str = ""


class SlowLinkEvent(Struct, frozen=True):
    """More packets than ``slowlink_threshold`` were lost in a second."""

    media: str = ""
    slow_link: str = ""  # "uplink": from Janus to the client; "downlink": from the client to Janus


class MediaStatsEvent(Struct, frozen=True, rename="kebab"):
    """The counters of one m-line, or of one simulcast layer of it, since the PeerConnection began.

    Sent once per ``stats_period``.
    """

    media: ShortText = ""  # "audio", "video", "data"; "video-sim1", "video-sim2": further simulcast layers
    mid: ShortText = ""
    codec: ShortText = ""
    rtt: Number = 0  # milliseconds; 0 = not known
    jitter_local: Number = 0  # milliseconds
    jitter_remote: Number = 0
    lost: Number = 0  # packets on the way to Janus
    lost_by_remote: Number = 0  # packets on the way to the client
    bytes_received: Number = 0
    bytes_sent: Number = 0
    bytes_received_lastsec: Number | None = None  # absent for data channels
    bytes_sent_lastsec: Number | None = None
    nacks_received: Number = 0
    nacks_sent: Number = 0
    retransmissions_received: Number = 0


EventBody = (
    HandleStateEvent
    | IceStateEvent
    | SelectedPairEvent
    | DtlsStateEvent
    | ConnectionStateEvent
    | SlowLinkEvent
    | MediaStatsEvent
)

HANDLE, WEBRTC, MEDIA = 2, 16, 32  # types of events
BODIES: dict[tuple[int, int], type[Any]] = {  # by type and subtype
    (HANDLE, 0): HandleStateEvent,
    (WEBRTC, 1): IceStateEvent,
    (WEBRTC, 4): SelectedPairEvent,
    (WEBRTC, 5): DtlsStateEvent,
    (WEBRTC, 6): ConnectionStateEvent,
    (MEDIA, 2): SlowLinkEvent,
    (MEDIA, 3): MediaStatsEvent,
}

DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # the last: nested too deeply

_frame_decoder = msgspec.json.Decoder(Annotated[list[JanusEvent], Meta(max_length=MAX_EVENTS)] | JanusEvent)
_raw_frame_decoder = msgspec.json.Decoder(Annotated[list[Raw], Meta(max_length=MAX_EVENTS)] | Raw)
_event_decoder = msgspec.json.Decoder(JanusEvent)
_body_decoders: dict[tuple[int, int], msgspec.json.Decoder[EventBody]] = {
    types: msgspec.json.Decoder(struct) for types, struct in BODIES.items()
}


def read(frame: bytes) -> Iterator[JanusEvent | None]:
    """Yield the events of a frame in their order; ``None`` for each broken one.

    A frame that is not JSON, or has more than ``MAX_EVENTS``, is one broken event.
    """
    try:
        found = _frame_decoder.decode(frame)
    except DECODE_ERRORS:
        yield from _read_one_by_one(frame)
        return
    if isinstance(found, list):
        yield from found
    else:
        yield found


def _read_one_by_one(frame: bytes) -> Iterator[JanusEvent | None]:
    try:
        parts = _raw_frame_decoder.decode(frame)
    except DECODE_ERRORS:
        yield None
        return
    for raw in parts if isinstance(parts, list) else [parts]:
        try:
            yield _event_decoder.decode(raw)
        except DECODE_ERRORS:
            yield None


def body(event: JanusEvent) -> EventBody | None:
    """Return the body of an event; ``None``: its type is unknown.

    Raises:
        msgspec.DecodeError, UnicodeDecodeError, RecursionError: the body is broken (``DECODE_ERRORS``).
    """
    decoder = _body_decoders.get((event.type, event.subtype))
    return None if decoder is None else decoder.decode(event.event)
