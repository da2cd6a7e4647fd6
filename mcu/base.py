"""The whole SFU interface: the operations that an SFU implementation offers the signaling gateway.

Typed methods that return values; an SFU never sees a signaling message. Each promise made here is kept by each SFU and
tested by one contract suite (docs/mcu.md, tests/mcu/contract).

Session descriptions cross the interface parsed and frozen (``sdp.document.Description.freeze``): to edit a description,
make a ``copy`` of it.

Errors::

    McuError
    +-- NoSuchStream           the stream has no publisher (any more, or by the deadline)
    +-- McuTimeout             the SFU did not answer, or the publisher's transport was not connected, in time
    +-- McuLost                the SFU is unreachable or became so during the call, or the stream has ended
    +-- Rejected               the SFU refused the request: malformed description, unknown codec, limit
    +-- NewConnectionRequired  Publisher.update: the offer restarts ICE or begins another transport
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal, NewType, Protocol

from sdp.document import Description

BackendId = NewType("BackendId", str)  # a Nextcloud backend of the gateway
PublisherId = NewType("PublisherId", str)  # the publishing session


class McuError(Exception):
    """Any failure of an SFU operation; the text is for the operator and holds no SDP, address or token."""


class NoSuchStream(McuError):
    """The stream has no publisher, or its publisher went away during the call."""


class McuTimeout(McuError):
    """The SFU did not answer, or the publisher's transport was not connected, before the deadline."""


class McuLost(McuError):
    """The SFU is unreachable or became so during the call, or the stream has ended."""


class Rejected(McuError):
    """The SFU refused the request."""


class NewConnectionRequired(McuError):
    """The offer restarts ICE or begins another transport, and this SFU needs a new PeerConnection: publish anew."""


class StreamType(Enum):
    """The type of a published stream: camera with microphone, or screen."""

    VIDEO = "video"
    SCREEN = "screen"


class MediaKind(Enum):
    """The media kind of one m-line of a stream."""

    AUDIO = "audio"
    VIDEO = "video"
    DATA = "data"


class CloseReason(Enum):
    """The reason for which the SFU closed a publisher or a subscriber."""

    LOST = "lost"  # the SFU became unreachable; the gateway keeps reconnecting
    REPLACED = "replaced"  # subscribers only: publisher replaced, or subscription broken; the gateway subscribes again
    PUBLISHER_GONE = "publisher_gone"  # subscribers only
    CLIENT_CLOSED = "client_closed"  # the client ended the PeerConnection, as at an ordinary hang-up
    ICE_FAILED = "ice_failed"  # no candidate pair connects client and SFU, or the client vanished
    DTLS_FAILED = "dtls_failed"  # ICE has connected, the DTLS handshake failed
    FAILED = "failed"  # the PeerConnection ended for another or an unknown reason
    DRAINED = "drained"  # the operator moves streams away from this SFU

    @property
    def is_of_connection(self) -> bool:
        """Whether the client's PeerConnection ended, and neither SFU nor publisher nor operator ended it."""
        return self in _OF_CONNECTION

    @property
    def is_of_sfu(self) -> bool:
        """Whether the SFU itself, or its operator, ended the stream."""
        return self in (CloseReason.LOST, CloseReason.DRAINED)


_OF_CONNECTION = frozenset(
    {CloseReason.CLIENT_CLOSED, CloseReason.ICE_FAILED, CloseReason.DTLS_FAILED, CloseReason.FAILED}
)


class TransportState(Enum):
    """The state of the transport of one PeerConnection; its end is a ``CloseReason``."""

    ICE_CONNECTED = "ice_connected"  # ICE has selected a candidate pair; not every SFU reports this before CONNECTED
    CONNECTED = "connected"  # ICE and DTLS are established: media can flow
    SLOW_LINK = "slow_link"  # many packets are lost; reported repeatedly, and not by every SFU


class SfuState(Enum):
    """The state of one SFU."""

    CONNECTING = "connecting"  # not connected (yet or again); retried with back-off
    READY = "ready"
    DRAINING = "draining"  # accepts no new streams; disconnected when its last stream has ended
    REFUSED = "refused"  # reachable, but unusable; ``SfuStatus.reason`` says why
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class StreamKey:
    """Identifies one published stream; it has at most one publisher at a time."""

    backend: BackendId
    publisher: PublisherId
    stream_type: StreamType


@dataclass(frozen=True, slots=True)
class IceCandidate:
    """One ICE candidate; ``candidate`` is the text after ``a=``, as browsers give it (``candidate:…``)."""

    candidate: str
    sdp_mid: str | None = None
    sdp_mline_index: int | None = None


@dataclass(frozen=True, slots=True)
class MediaSelection:
    """The simulcast layer and the media that a subscriber receives; ``None`` leaves a setting unchanged."""

    substream: int | None = None  # simulcast layer, 0 = lowest resolution
    temporal: int | None = None  # temporal layer, 0 = lowest frame rate
    audio: bool | None = None
    video: bool | None = None


@dataclass(frozen=True, slots=True)
class PublishOptions:
    """Limits and preferences of a published stream; codecs are lower-case names."""

    bitrate: int = 0  # bit/s, the stream's ceiling; 0 = no limit
    audiocodecs: tuple[str, ...] = ()  # first preferred; empty = the SFU's order
    videocodecs: tuple[str, ...] = ()
    vp9profile: str = ""
    h264profile: str = ""
    timeout: float = 10.0  # seconds for the whole call, including the wait for an unreachable SFU
    country: str = ""  # the client's, as an ISO 3166 code, to choose among several SFUs; empty = unknown
    continent: str = ""  # "EU", "NA", …; empty = unknown


@dataclass(frozen=True, slots=True)
class SubscribeOptions:
    """The time limit of a subscription, and the media that it receives at first."""

    timeout: float = 10.0  # seconds for the whole call
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
    load: float = 0.0  # comparable among the SFUs of one ``Mcu`` (docs/mcu.md)
    connected_since: float = 0.0  # unix time, seconds; 0 = not connected
    log_name: str = ""  # its name in log lines; empty: the only SFU, without a configured name
    details: Mapping[str, Any] = field(default_factory=dict)  # further facts about it, as plain JSON values
    restriction: str = ""  # one clear sentence when READY and something does not work


@dataclass(frozen=True, slots=True)
class McuStatus:
    """A snapshot of all SFUs of an ``Mcu``."""

    type: str  # the SFU type: "janus", "inprocess"
    sfus: tuple[SfuStatus, ...] = ()
    capacity: int = 0  # PeerConnections that the SFUs can hold together; 0 = not known

    @property
    def ready(self) -> bool:
        """Whether at least one SFU accepts new streams now."""
        return any(sfu.state is SfuState.READY for sfu in self.sfus)


@dataclass(frozen=True, slots=True)
class StreamReport:
    """The SFU's figures of one m-line of a publisher or subscriber, or of all its m-lines of one media kind.

    ``None``: the SFU does not know the figure.
    """

    key: StreamKey
    subscriber: bool  # False: the publisher's own PeerConnection
    kind: MediaKind
    codec: str = ""
    bits_per_second: int | None = None
    lost: int | None = None  # packets, in all: on the way to the SFU, or of a subscriber on the way to the client
    round_trip: float | None = None  # seconds


@dataclass(frozen=True, slots=True)
class HistogramSample:
    """The state of a histogram: (upper bound, observations up to it) with ``+Inf`` last, and the sum of all values."""

    buckets: tuple[tuple[str, float], ...]
    sum: float


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of an SFU for its operator; the keys of ``samples`` are the values of ``labels``, in the same order.

    The gateway adds a prefix to the name (``media_rtt``; docs/operations.md). A counter's name ends with ``_total``.
    Label values come from small sets: no ids, addresses or names of people.
    """

    name: str
    help: str
    type: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    samples: Mapping[tuple[str, ...], float | HistogramSample]


class StreamListener(Protocol):
    """Receives the events of one publisher or subscriber.

    The methods are synchronous, brief and never raise. An SFU calls none of them before ``publish`` or ``subscribe``
    has returned, after ``on_closed``, or after the gateway closed the publisher or subscriber.
    """

    def on_candidate(self, candidate: IceCandidate | None) -> None:
        """Handle a candidate of the SFU; ``None`` is the end of candidates."""

    def on_offer(self, offer: Description) -> None:
        """Handle an offer by which the SFU renegotiates a subscription; answer with ``Subscriber.accept``."""

    def on_media(self, kind: MediaKind, flowing: bool) -> None:
        """Handle the start or the stop of the media of a kind."""

    def on_transport(self, state: TransportState) -> None:
        """Handle a state of the PeerConnection."""

    def on_closed(self, reason: CloseReason) -> None:
        """Handle the closing of the publisher or subscriber by the SFU.

        From now on its methods raise ``McuError`` or do nothing; ``close`` does nothing.
        """


class Publisher(Protocol):
    """One published stream: one PeerConnection between the client and the SFU."""

    async def update(self, offer: Description) -> Description:
        """Renegotiate the running PeerConnection and return the answer.

        ``offer`` has to be of the running PeerConnection (``sdp.document.Identity``); publish any other offer anew.

        Raises:
            NewConnectionRequired: the offer restarts ICE or begins another transport, and this SFU cannot follow;
                nothing has changed.
            McuError: otherwise; the stream goes on unchanged.
        """

    async def limit(self, bits_per_second: int) -> None:
        """Limit the bitrate that the publisher sends from now on, without renegotiation; 0 removes the limit."""

    async def request_keyframe(self) -> None:
        """Request a keyframe from the publisher."""

    async def add_candidate(self, candidate: IceCandidate | None) -> None:
        """Add a candidate of the client; ``None`` is the end of candidates. Unusable candidates are ignored."""

    async def close(self) -> None:
        """Close the stream; its subscribers are closed with ``PUBLISHER_GONE``.

        Idempotent; returns once the SFU has removed it.
        """


class Subscriber(Protocol):
    """One subscription to a stream: one PeerConnection between the SFU and the client."""

    async def accept(self, answer: Description) -> None:
        """Apply the client's answer to the last offer.

        Raises:
            McuError: the answer does not fit the offer; the subscription goes on unchanged.
        """

    async def refresh(self) -> Description:
        """Return a new offer of the same PeerConnection, or the unanswered one again if that has to be answered first.

        The listener may have received the same object by ``on_offer``.
        """

    async def select(self, selection: MediaSelection) -> None:
        """Choose simulcast and temporal layer, switch audio and video on and off."""

    async def add_candidate(self, candidate: IceCandidate | None) -> None:
        """Add a candidate of the client; ``None`` is the end of candidates. Unusable candidates are ignored."""

    async def close(self) -> None:
        """Close the subscription. Idempotent; returns once the SFU has removed it."""


class Mcu(Protocol):
    """One SFU, or several that act as one."""

    async def start(self, on_state: Callable[[McuStatus], None]) -> None:
        """Begin to connect and return at once; call ``on_state`` at each change of a state."""

    async def publish(
        self, key: StreamKey, offer: Description, options: PublishOptions, listener: StreamListener
    ) -> tuple[Publisher, Description]:
        """Publish a stream and return its publisher and the SFU's answer.

        Replaces a running publisher of ``key``: its PeerConnection is closed on the SFU first, its own listener is not
        called, its subscribers are closed with ``REPLACED``. Calls for one key are carried out one after another. A
        call that fails or is cancelled leaves nothing on the SFU, even if the SFU answers later.

        Raises:
            McuError: see the tree at the top of this module.
        """

    async def subscribe(
        self, key: StreamKey, options: SubscribeOptions, listener: StreamListener
    ) -> tuple[Subscriber, Description]:
        """Subscribe to a stream and return the subscriber and the SFU's offer.

        Waits for a publisher whose transport is connected, without polling.

        Raises:
            NoSuchStream: the stream had no publisher by the deadline.
            McuTimeout: the stream had a publisher by the deadline, whose transport was not connected.
            McuError: otherwise.
        """

    def status(self) -> McuStatus:
        """Return a snapshot of the SFUs."""

    def streams(self) -> Iterable[StreamReport]:
        """Return the reports of all publishers and subscribers."""

    def metrics(self) -> Iterable[Metric]:
        """Return the SFU's own metrics, beyond the gateway's counters, if it has any."""

    def reconfigure(self, settings: object) -> None:
        """Apply changed settings, which are of this SFU's own type.

        Raises:
            ValueError: they cannot be used; nothing has changed.
        """

    async def stop(self) -> None:
        """Close every stream on the SFU and disconnect. Idempotent."""
