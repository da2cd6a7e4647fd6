"""Janus' event feed: what a frame of its WebSocket event handler says, as typed events. Pure.

Janus documentation, "Event handlers"; measured with Janus 1.1.2 (docs/janus.md). A frame is one event or a list of
them. Types and members that are not known are passed over; of a list with a broken event the others count.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct

_EMPTY = Raw(b"{}")

Word = Annotated[str, Meta(max_length=64)]  # what is remembered of a stream must not be long
Number = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]  # what Janus counts with: sums of it fit into a float


class JanusEvent(Struct, frozen=True):
    """What is around each event."""

    type: int
    subtype: int = 0
    timestamp: int = 0  # microseconds of Janus' clock
    session_id: Number = 0
    handle_id: Number = 0
    opaque_id: str = ""  # what the owner of the handle called it
    event: Raw = _EMPTY


class HandleStateEvent(Struct, frozen=True):
    """A handle came or went."""

    name: str  # "attached", "detached"


class IceStateEvent(Struct, frozen=True):
    """ICE of a PeerConnection is in another state."""

    ice: str  # "gathering", "connecting", "connected", "ready", "failed", …


class SelectedCandidate(Struct, frozen=True):
    """One side of a selected pair; its address is not read."""

    type: str = ""  # "host", "srflx", "prflx", "relay"
    transport: str = ""  # "udp", "tcp"
    family: int = 0  # 4, 6


class CandidatePair(Struct, frozen=True):
    """The two sides of a selected pair."""

    local: SelectedCandidate = SelectedCandidate()
    remote: SelectedCandidate = SelectedCandidate()


class SelectedPairEvent(Struct, frozen=True):
    """ICE has chosen a pair of candidates."""

    candidates: CandidatePair = CandidatePair()


class DtlsStateEvent(Struct, frozen=True):
    """DTLS of a PeerConnection is in another state."""

    dtls: str  # "created", "trying", "connected", "failed"


class ConnectionStateEvent(Struct, frozen=True):
    """A PeerConnection is up, or over."""

    connection: str  # "webrtcup", "hangup"
    reason: str = ""


class SlowLinkEvent(Struct, frozen=True):
    """More packets were lost in a second than ``slowlink_threshold``."""

    media: str = ""
    slow_link: str = ""  # "uplink": from Janus to the client; "downlink": from the client to Janus


class MediaStatsEvent(Struct, frozen=True, rename="kebab"):
    """The counters of one medium of a handle since its PeerConnection began, told once in ``stats_period``."""

    media: Word = ""  # "audio", "video", "data"; "video-sim1", "video-sim2": further layers of simulcast
    mid: Word = ""
    codec: Word = ""
    rtt: Number = 0  # milliseconds; 0 = not known
    jitter_local: Number = 0  # milliseconds
    jitter_remote: Number = 0
    lost: Number = 0  # packets on the way to Janus
    lost_by_remote: Number = 0  # packets on the way to the client
    packets_received: Number = 0
    packets_sent: Number = 0
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

HANDLE, WEBRTC, MEDIA = 2, 16, 32  # types
KINDS: dict[tuple[int, int], type[Any]] = {
    (HANDLE, 0): HandleStateEvent,
    (WEBRTC, 1): IceStateEvent,
    (WEBRTC, 4): SelectedPairEvent,
    (WEBRTC, 5): DtlsStateEvent,
    (WEBRTC, 6): ConnectionStateEvent,
    (MEDIA, 2): SlowLinkEvent,
    (MEDIA, 3): MediaStatsEvent,
}

BROKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)  # the last: nested without end

_frames = msgspec.json.Decoder(list[JanusEvent] | JanusEvent)
_loose = msgspec.json.Decoder(list[Raw] | Raw)
_single = msgspec.json.Decoder(JanusEvent)
_bodies: dict[tuple[int, int], msgspec.json.Decoder[EventBody]] = {
    kind: msgspec.json.Decoder(struct) for kind, struct in KINDS.items()
}


def read(frame: bytes) -> Iterator[JanusEvent | None]:
    """Yield the events of a frame in their order; ``None`` for each one that is broken."""
    try:
        found = _frames.decode(frame)
    except BROKEN:
        yield from _read_loosely(frame)
        return
    if isinstance(found, list):
        yield from found
    else:
        yield found


def _read_loosely(frame: bytes) -> Iterator[JanusEvent | None]:
    for raw in _apart(frame):
        try:
            yield _single.decode(raw)
        except BROKEN:
            yield None


def _apart(frame: bytes) -> Iterable[bytes | Raw]:
    try:
        parts = _loose.decode(frame)
    except BROKEN:
        return [frame]
    return parts if isinstance(parts, list) else [parts]


def body(event: JanusEvent) -> EventBody | None:
    """Return what an event says; ``None`` when it is of a type that we do not know.

    Raises:
        msgspec.DecodeError, RecursionError: it is broken (``BROKEN``).
    """
    decoder = _bodies.get((event.type, event.subtype))
    return None if decoder is None else decoder.decode(event.event)
