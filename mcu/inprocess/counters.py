"""What the in-process SFU counts, for whoever tests with it (docs/testing.md).

All figures count from the beginning of the connection. ``lost`` are packets that did not arrive on their own, repaired
or not; where a receiver told it, as of its last report.
"""

from __future__ import annotations

from msgspec import Struct

from mcu.inprocess.forwarding.down_track import DownTrack
from mcu.inprocess.forwarding.receive_track import ReceiveTrack
from mcu.inprocess.forwarding.rtp_stream import RtpStream
from mcu.inprocess.transport.impairment import Impairment


class Received(Struct, frozen=True):
    """One RTP stream as the publisher sends it."""

    substream: int  # 0 = the lowest
    rid: str  # empty where packets bear none
    packets: int  # each once
    bytes: int  # of payloads
    lost: int
    repaired: int  # packets that came first as a retransmission
    keyframe_requests: int  # sent to the publisher


class ReceivedMedium(Struct, frozen=True):
    """One medium of a publisher."""

    mid: str  # the publisher's
    kind: str  # "audio", "video"
    codec: str
    layers: tuple[Received, ...]


class Sent(Struct, frozen=True):
    """One medium as a subscriber gets it."""

    mid: str  # the subscriber's
    kind: str
    packets: int
    bytes: int
    repaired: int  # packets sent again
    keyframe_requests: int  # of the subscriber
    lost: int | None  # None before the first report
    round_trip: float | None  # seconds
    estimate: int | None  # bit/s, the subscriber's last REMB
    substream: int | None  # forwarded now; None = nothing


class SubscriberCounters(Struct, frozen=True):
    """One subscription."""

    number: int  # in the order of subscribing, over all streams
    connected: bool
    media: tuple[Sent, ...]


class Impaired(Struct, frozen=True):
    """How a leg is impaired."""

    loss: float
    delay: float
    jitter: float
    seed: int | None


class StreamCounters(Struct, frozen=True):
    """One published stream with its subscriptions."""

    backend: str
    publisher: str
    type: str  # "video", "screen"
    connected: bool
    silent: bool  # switched dead
    impairments: dict[str, Impaired]  # by leg
    media: tuple[ReceivedMedium, ...]
    subscribers: tuple[SubscriberCounters, ...]


def received(mid: str, track: ReceiveTrack) -> ReceivedMedium:
    """Count what a publisher sends of a medium."""
    layers = tuple(_layer(place, rtp_stream) for place, rtp_stream in enumerate(track.rtp_streams))
    return ReceivedMedium(mid, track.kind.value, track.codec.payload.codec, layers)


def _layer(place: int, rtp_stream: RtpStream) -> Received:
    return Received(
        substream=place,
        rid=rtp_stream.name if rtp_stream.name.isalnum() else "",
        packets=rtp_stream.packets,
        bytes=rtp_stream.octets,
        lost=rtp_stream.lost,
        repaired=rtp_stream.repaired,
        keyframe_requests=rtp_stream.keyframe_requests,
    )


def sent(mid: str, down_track: DownTrack) -> Sent:
    """Count what a subscriber gets of a medium."""
    return Sent(
        mid=mid,
        kind=down_track.track.kind.value,
        packets=down_track.packets,
        bytes=down_track.octets,
        repaired=down_track.repairs,
        keyframe_requests=down_track.keyframe_requests,
        lost=down_track.lost,
        round_trip=down_track.round_trip,
        estimate=down_track.estimate,
        substream=down_track.substream,
    )


def impaired(impairment: Impairment) -> Impaired:
    """Tell how a leg is impaired."""
    return Impaired(impairment.loss, impairment.delay, impairment.jitter, impairment.seed)
