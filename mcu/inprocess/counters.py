"""The counters that the test controls show (docs/testing.md).

All count from the beginning of the connection. ``lost`` counts the packets that did not arrive, or only as a
retransmission; for a subscriber, as of its last receiver report.
"""

from __future__ import annotations

from msgspec import Struct

from mcu.inprocess.forwarding.down_track import DownTrack
from mcu.inprocess.forwarding.receive_track import ReceiveTrack
from mcu.inprocess.forwarding.rtp_stream import RtpStream
from mcu.inprocess.transport.impairment import Impairment


class LayerCounters(Struct, frozen=True):
    """One RTP stream as received from the publisher."""

    substream: int  # 0 = the lowest simulcast layer
    rid: str  # empty where packets have none
    packets: int  # without duplicates
    bytes: int  # of payloads
    lost: int
    repaired: int  # packets that arrived first as a retransmission
    keyframe_requests: int  # sent to the publisher


class ReceivedMediaCounters(Struct, frozen=True):
    """One medium of a publisher."""

    mid: str  # the publisher's
    kind: str  # "audio", "video"
    codec: str
    layers: tuple[LayerCounters, ...]


class SentMediaCounters(Struct, frozen=True):
    """One medium as sent to a subscriber."""

    mid: str  # the subscriber's
    kind: str
    packets: int
    bytes: int
    repaired: int  # packets retransmitted
    keyframe_requests: int  # received
    lost: int | None  # None before the first report
    round_trip: float | None  # seconds
    estimate: int | None  # bit/s, the subscriber's last REMB
    substream: int | None  # forwarded now; None = nothing


class SubscriberCounters(Struct, frozen=True):
    """One subscription."""

    number: int  # in the order of subscribing, over all streams
    connected: bool
    media: tuple[SentMediaCounters, ...]


class ImpairmentSettings(Struct, frozen=True):
    """The settings of a leg's impairment; units as in ``Impairment``."""

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
    silent: bool  # whether the publisher's datagrams are dropped
    impairments: dict[str, ImpairmentSettings]  # by leg
    media: tuple[ReceivedMediaCounters, ...]
    subscribers: tuple[SubscriberCounters, ...]


def received_media_counters(mid: str, track: ReceiveTrack) -> ReceivedMediaCounters:
    """Return the counters of one medium of a publisher."""
    layers = tuple(_layer_counters(substream, rtp_stream) for substream, rtp_stream in enumerate(track.rtp_streams))
    return ReceivedMediaCounters(mid, track.kind.value, track.codec.payload.codec, layers)


def _layer_counters(substream: int, rtp_stream: RtpStream) -> LayerCounters:
    return LayerCounters(
        substream=substream,
        rid=rtp_stream.name if rtp_stream.name.isalnum() else "",
        packets=rtp_stream.packets,
        bytes=rtp_stream.octets,
        lost=rtp_stream.lost,
        repaired=rtp_stream.recovered,
        keyframe_requests=rtp_stream.keyframe_requests,
    )


def sent_media_counters(mid: str, down_track: DownTrack) -> SentMediaCounters:
    """Return the counters of one medium sent to a subscriber."""
    return SentMediaCounters(
        mid=mid,
        kind=down_track.track.kind.value,
        packets=down_track.packets,
        bytes=down_track.octets,
        repaired=down_track.retransmissions,
        keyframe_requests=down_track.keyframe_requests,
        lost=down_track.lost,
        round_trip=down_track.round_trip,
        estimate=down_track.estimate,
        substream=down_track.substream,
    )


def impairment_settings(impairment: Impairment) -> ImpairmentSettings:
    """Return the settings of an impairment as the test controls show them."""
    return ImpairmentSettings(impairment.loss, impairment.delay, impairment.jitter, impairment.seed)
