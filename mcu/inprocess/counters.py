"""What the in-process SFU counts, for whoever tests with it (docs/testing.md).

All figures count from the beginning of the connection. ``lost`` are packets that did not arrive on their own, repaired
or not; where a receiver told it, as of its last report.
"""

from __future__ import annotations

from msgspec import Struct

from mcu.inprocess.encoding import Encoding
from mcu.inprocess.impairment import Impairment
from mcu.inprocess.ingress import Ingress
from mcu.inprocess.sink import Sink


class Received(Struct, frozen=True):
    """One encoding as the publisher sends it."""

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


def received(mid: str, ingress: Ingress) -> ReceivedMedium:
    """Count what a publisher sends of a medium."""
    layers = tuple(_layer(place, encoding) for place, encoding in enumerate(ingress.encodings))
    return ReceivedMedium(mid, ingress.kind.value, ingress.codec.payload.codec, layers)


def _layer(place: int, encoding: Encoding) -> Received:
    return Received(
        substream=place,
        rid=encoding.name if encoding.name.isalnum() else "",
        packets=encoding.packets,
        bytes=encoding.octets,
        lost=encoding.lost,
        repaired=encoding.repaired,
        keyframe_requests=encoding.keyframe_requests,
    )


def sent(mid: str, sink: Sink) -> Sent:
    """Count what a subscriber gets of a medium."""
    return Sent(
        mid=mid,
        kind=sink.ingress.kind.value,
        packets=sink.packets,
        bytes=sink.octets,
        repaired=sink.repairs,
        keyframe_requests=sink.keyframe_requests,
        lost=sink.lost,
        round_trip=sink.round_trip,
        estimate=sink.estimate,
        substream=sink.substream,
    )


def impaired(impairment: Impairment) -> Impaired:
    """Tell how a leg is impaired."""
    return Impaired(impairment.loss, impairment.delay, impairment.jitter, impairment.seed)
