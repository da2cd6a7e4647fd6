"""What is agreed between a client and the in-process SFU: codecs, header extensions, media, transports."""

from __future__ import annotations

from dataclasses import dataclass, field

from mcu.base import MediaKind
from sdp.candidates import Candidate
from sdp.codecs import Payload
from sdp.document import Description, MediaSection

MID = "urn:ietf:params:rtp-hdrext:sdes:mid"
AUDIO_LEVEL = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
ABS_SEND_TIME = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"
ORIENTATION = "urn:3gpp:video-orientation"
RID = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"
REPAIRED_RID = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"
EXTENSIONS = {
    "audio": {MID: 1, AUDIO_LEVEL: 2},
    "video": {MID: 1, ABS_SEND_TIME: 3, ORIENTATION: 4},
}  # the numbers stand in our own offers
FORWARDED = {
    "audio": ("opus", "g722", "pcmu", "pcma"),
    "video": ("vp8", "vp9", "h264", "av1", "h265"),
}
FEEDBACK = frozenset(("nack", "nack pli", "ccm fir", "goog-remb"))
SCTP_PORT = 5000
MAX_LAYERS = 4  # of simulcast in one medium
MAX_MEDIA = 31  # m= lines of one offer
MAX_MESSAGE_SIZE = 65536  # bytes, what aiortc's SCTP takes
DEFAULT_MESSAGE_SIZE = 65536  # RFC 8841, 6.1


@dataclass(frozen=True, slots=True)
class LocalTransportDescription:
    """What a client must know to reach our side of a connection."""

    ufrag: str
    password: str
    fingerprint: str  # "sha-256 AB:CD:…"
    candidates: tuple[str, ...]  # "candidate:…"
    session: int  # number of the o= line


@dataclass(frozen=True, slots=True)
class RemoteTransportDescription:
    """What a client says of its side of a connection."""

    ufrag: str
    password: str
    fingerprints: tuple[tuple[str, str], ...]  # algorithm and value
    setup: str  # "actpass", "active", "passive"
    candidates: tuple[Candidate, ...]
    lite: bool = False
    sctp_port: int | None = None
    max_message_size: int = DEFAULT_MESSAGE_SIZE


@dataclass(frozen=True, slots=True)
class NegotiatedCodec:
    """What is agreed for a medium."""

    payload: Payload
    rtx: Payload | None = None

    @property
    def format(self) -> tuple[str, int, str]:
        """What must be the same on both sides of a forwarder."""
        return self.payload.codec, self.payload.clock_rate, self.payload.fmtp

    @property
    def feedback(self) -> tuple[str, ...]:
        """The feedback that the client offers and we give."""
        return tuple(entry for entry in dict.fromkeys(self.payload.feedback) if entry in FEEDBACK)


@dataclass(frozen=True, slots=True)
class OfferedStream:
    """One RTP stream that a client sends, as far as the offer tells."""

    name: str = ""  # of the layer: that which packets bear, or one of our own; empty where there is one rtp_stream
    ssrc: int | None = None
    rtx_ssrc: int | None = None


@dataclass(frozen=True, slots=True)
class PublisherSection:
    """One ``m=`` line of a publisher's offer, as a forwarder sees it."""

    kind: MediaKind
    mid: str
    section: MediaSection
    sends: bool  # whether the client means to send
    codec: NegotiatedCodec | None = None  # media only
    extensions: dict[str, int] = field(default_factory=dict)  # by URI; media only
    sources: tuple[OfferedStream, ...] = (OfferedStream(),)  # one, or the layers of simulcast, lowest first
    rids: tuple[str, ...] = ()  # the layers that packets bear the names of, as offered
    others: frozenset[int] = frozenset()  # SSRCs that are none of these


@dataclass(frozen=True, slots=True)
class PublisherOffer:
    """A publisher's offer; ``None`` stands for a medium to reject."""

    description: Description
    media: tuple[PublisherSection | None, ...]
    transport: RemoteTransportDescription


@dataclass(frozen=True, slots=True)
class SubscriberSection:
    """One ``m=`` line of an offer to a subscriber."""

    kind: MediaKind
    mid: str
    sends: bool = True
    codec: NegotiatedCodec | None = None
    ssrc: int = 0
    rtx_ssrc: int = 0
    cname: str = ""
    stream: str = ""
    track: str = ""


@dataclass(frozen=True, slots=True)
class AcceptedSection:
    """What a subscriber's answer says about one section."""

    receives: bool
    payload_type: int = 0
    rtx_payload_type: int | None = None
