"""The whole SFU interface: what a backend of ``mcu`` promises to the signaling gateway.

Typed verbs that return values; a backend never sees a signaling message. Every promise made here is kept by each
backend and tested by one contract suite (docs/mcu.md, tests/mcu/contract).

Errors::

    McuError
    +-- NoSuchStream       nobody publishes that stream (any more, or by the deadline)
    +-- McuTimeout         the SFU, or the publisher's media, did not come up in time
    +-- McuLost            the SFU is gone or went away during the call
    +-- Rejected           the SFU refused the request: bad description, unknown codec, limit
    +-- NewPeerConnection  Publisher.update was given an offer of another PeerConnection
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal, NewType, Protocol

BackendId = NewType("BackendId", str)
PublisherId = NewType("PublisherId", str)


class McuError(Exception):
    """Any failure of an SFU verb; the text is for the operator and holds no SDP, address or token."""


class NoSuchStream(McuError):
    """Nobody publishes the stream, or its publisher went away while we waited."""


class McuTimeout(McuError):
    """The SFU did not answer, or the publisher's media did not flow, before the deadline."""


class McuLost(McuError):
    """The connection to the SFU is gone."""


class Rejected(McuError):
    """The SFU refused the request."""


class NewPeerConnection(McuError):
    """The offer belongs to another PeerConnection than the publisher's: publish it anew."""


class StreamType(Enum):
    """What a session may publish: camera with microphone, or its screen."""

    VIDEO = "video"
    SCREEN = "screen"


class MediaKind(Enum):
    """A kind of media within a stream."""

    AUDIO = "audio"
    VIDEO = "video"
    DATA = "data"


class CloseReason(Enum):
    """Why a stream ended without its owner closing it."""

    LOST = "lost"  # the SFU went away; it will be back
    REPLACED = "replaced"  # subscribers only: by another publisher, or the connection is spoilt; subscribe again
    PUBLISHER_GONE = "publisher_gone"  # subscribers only
    FAILED = "failed"  # ICE or DTLS gave up, or the SFU hung up
    DRAINED = "drained"  # the operator moves streams away from this SFU


class SfuState(Enum):
    """Where one SFU stands."""

    CONNECTING = "connecting"  # not there (yet or again); tried with back-off
    READY = "ready"
    DRAINING = "draining"  # takes no new streams; those that run go on, and it is left when the last one ends
    REFUSED = "refused"  # reachable, but not usable as it is; ``reason`` says why
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class StreamKey:
    """Names one published stream: at most one publisher exists for it."""

    backend: BackendId
    publisher: PublisherId
    stream_type: StreamType


@dataclass(frozen=True, slots=True)
class Candidate:
    """One ICE candidate; ``candidate`` is the text after ``a=``, as browsers give it (``candidate:…``)."""

    candidate: str
    sdp_mid: str | None = None
    sdp_mline_index: int | None = None


@dataclass(frozen=True, slots=True)
class MediaSelection:
    """What a subscriber wants to receive; ``None`` leaves a setting as it is."""

    substream: int | None = None  # simulcast layer, 0 = lowest
    temporal: int | None = None  # temporal layer, 0 = lowest
    audio: bool | None = None
    video: bool | None = None


@dataclass(frozen=True, slots=True)
class PublishOptions:
    """What a published stream is limited to; codecs are lower-case names, preferred first."""

    bitrate: int = 0  # bit/s, the stream's ceiling; 0 = no limit
    audiocodecs: tuple[str, ...] = ()  # preferred first; empty = the backend's order
    videocodecs: tuple[str, ...] = ()
    vp9profile: str = ""
    h264profile: str = ""
    timeout: float = 10.0  # seconds for the whole verb, waiting for an SFU that is away included
    country: str = ""  # the client's, as an ISO 3166 code, for the choice among several SFUs; empty = unknown
    continent: str = ""  # "EU", "NA", …; empty = unknown


@dataclass(frozen=True, slots=True)
class SubscribeOptions:
    """How long to wait for the publisher, and what to receive from the start."""

    timeout: float = 10.0  # seconds for the whole verb
    selection: MediaSelection = MediaSelection()
    country: str = ""  # the client's, as in PublishOptions
    continent: str = ""


@dataclass(frozen=True, slots=True)
class SfuStatus:
    """A snapshot of one SFU."""

    url: str  # empty for an SFU in this process
    state: SfuState
    name: str = ""
    version: str = ""
    reason: str = ""  # one clear sentence when not READY
    publishers: int = 0
    subscribers: int = 0
    load: float = 0.0  # comparable among the SFUs of one backend (docs/mcu.md)
    connected_since: float = 0.0  # unix time, seconds; 0 = not connected
    log_name: str = ""  # what the log calls it, where it is one of several
    details: Mapping[str, Any] = field(default_factory=dict)  # what else it says of itself: names and plain JSON values


@dataclass(frozen=True, slots=True)
class McuStatus:
    """A snapshot of a backend with all its SFUs."""

    type: str  # "janus", "inprocess"
    sfus: tuple[SfuStatus, ...] = ()

    @property
    def ready(self) -> bool:
        """Whether at least one SFU takes streams now."""
        return any(sfu.state is SfuState.READY for sfu in self.sfus)


@dataclass(frozen=True, slots=True)
class StreamReport:
    """One stream as the SFU sees it; a figure that the SFU does not tell is ``None``."""

    key: StreamKey
    subscriber: bool  # False: the publisher's own leg
    kind: MediaKind
    codec: str = ""
    bits_per_second: int | None = None
    lost: int | None = None  # packets
    round_trip: float | None = None  # seconds


@dataclass(frozen=True, slots=True)
class HistogramSample:
    """What a histogram holds: (upper bound, observations up to it) with ``+Inf`` last, and the sum of all."""

    buckets: tuple[tuple[str, float], ...]
    sum: float


@dataclass(frozen=True, slots=True)
class Metric:
    """One measure of an SFU for its operator; ``samples`` are by the values of ``labels``, in their order.

    The name stands alone (``media_rtt``); the gateway puts before it what Prometheus wants (docs/operations.md). A
    counter's ends with ``_total``. Values of labels come from small sets: no ids, addresses or names of people.
    """

    name: str
    help: str
    type: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    samples: Mapping[tuple[str, ...], float | HistogramSample]


def stream_gauges(
    publishing: Iterable[tuple[StreamType, MediaKind]], receiving: Iterable[tuple[StreamType, MediaKind]]
) -> tuple[Metric, Metric]:
    """Return how many media are published and received: "audio", "video", or "screen" for the picture of a screen."""
    return _gauge("publisher_streams", "Media published", publishing), _gauge(
        "subscriber_streams", "Media sent to subscribers", receiving
    )


def _gauge(name: str, help: str, media: Iterable[tuple[StreamType, MediaKind]]) -> Metric:
    counts = Counter(
        StreamType.SCREEN.value if kind is MediaKind.VIDEO and of is StreamType.SCREEN else kind.value
        for of, kind in media
        if kind is not MediaKind.DATA
    )
    return Metric(name, help, "gauge", ("type",), {(medium,): count for medium, count in counts.items()})


class StreamListener(Protocol):
    """Hears what happens to one stream.

    Synchronous, brief, never raises. Not called before ``publish``/``subscribe`` has returned, nor after ``on_closed``,
    nor after its owner closed the stream.
    """

    def on_candidate(self, candidate: Candidate | None) -> None:
        """Take a candidate of the SFU; ``None`` ends the list."""

    def on_offer(self, sdp: str) -> None:
        """Take a new offer (subscribers only): the SFU renegotiates; answer with ``Subscriber.accept``."""

    def on_media(self, kind: MediaKind, flowing: bool) -> None:
        """Learn that media of a kind starts or stops to flow."""

    def on_closed(self, reason: CloseReason) -> None:
        """Learn that the stream is gone; the object is closed already."""


class Publisher(Protocol):
    """One published stream: one PeerConnection between the client and the SFU."""

    async def update(self, offer: str) -> str:
        """Renegotiate on the same PeerConnection and return the answer.

        Raises:
            NewPeerConnection: ufrag and fingerprint are not the running PeerConnection's; nothing has changed.
            McuError: otherwise; the stream goes on as it was.
        """

    async def limit(self, bits_per_second: int) -> None:
        """Cap what the publisher sends from now on, without renegotiation; 0 lifts the cap."""

    async def request_keyframe(self) -> None:
        """Ask the publisher for a keyframe."""

    async def add_candidate(self, candidate: Candidate | None) -> None:
        """Hand over a candidate of the client; ``None`` ends the list. Unusable ones are ignored."""

    async def close(self) -> None:
        """End the stream; its subscribers hear ``PUBLISHER_GONE``. Idempotent; returns when the SFU is clean."""


class Subscriber(Protocol):
    """One subscription: one PeerConnection between the SFU and the client."""

    async def accept(self, answer: str) -> None:
        """Take the client's answer to the last offer.

        Raises:
            McuError: the answer does not fit; the subscription stays as it was.
        """

    async def refresh(self) -> str:
        """Return a new offer for the same PeerConnection."""

    async def select(self, selection: MediaSelection) -> None:
        """Choose simulcast and temporal layer, switch audio and video on and off."""

    async def add_candidate(self, candidate: Candidate | None) -> None:
        """Hand over a candidate of the client; ``None`` ends the list. Unusable ones are ignored."""

    async def close(self) -> None:
        """End the subscription. Idempotent; returns when the SFU is clean."""


class Mcu(Protocol):
    """A backend: one SFU or several that act as one."""

    async def start(self, on_state: Callable[[McuStatus], None]) -> None:
        """Begin to connect and return at once; ``on_state`` hears every change of state."""

    async def publish(
        self, key: StreamKey, offer: str, options: PublishOptions, listener: StreamListener
    ) -> tuple[Publisher, str]:
        """Publish a stream and return it with the SFU's answer.

        A running publisher of ``key`` is replaced: its connection is closed on the SFU first, its own listener hears
        nothing, its subscribers hear ``REPLACED``. Calls for one key are carried out one after another. A call that
        fails or is cancelled leaves nothing on the SFU, also when the SFU answers later.

        Raises:
            McuError: see the tree at the top of this module.
        """

    async def subscribe(
        self, key: StreamKey, options: SubscribeOptions, listener: StreamListener
    ) -> tuple[Subscriber, str]:
        """Subscribe to a stream and return the subscription with the SFU's offer.

        Waits, woken and not polling, for a publisher whose media transport is up.

        Raises:
            NoSuchStream: by the deadline nobody published the stream.
            McuTimeout: a publisher was there by the deadline, but no connection to it.
            McuError: otherwise.
        """

    def status(self) -> McuStatus:
        """Return a snapshot of the SFUs."""

    def streams(self) -> Iterable[StreamReport]:
        """Return a report for each stream and kind."""

    def metrics(self) -> Iterable[Metric]:
        """Return what the SFU measures beyond the gateway's own counters; nothing where it measures nothing."""

    def feed(self, frame: bytes) -> None:
        """Take one frame of the SFU's own event feed; ignored where there is none."""

    async def reconfigure(self, settings: object) -> None:
        """Take changed settings of the backend's own type."""

    async def stop(self) -> None:
        """Close every stream on the SFU and disconnect. Idempotent."""
