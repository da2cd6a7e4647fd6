"""Parameters that a client and the in-process SFU negotiate: codecs, header extensions, RTP streams, transports."""

from __future__ import annotations

from dataclasses import dataclass, field

from mcu.base import MediaKind
from sdp.candidates import Candidate
from sdp.codecs import Payload
from sdp.document import Description, MediaSection

# URIs of RTP header extensions (RFC 8285)
MID = "urn:ietf:params:rtp-hdrext:sdes:mid"
AUDIO_LEVEL = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
ABS_SEND_TIME = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"
ORIENTATION = "urn:3gpp:video-orientation"
RID = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"
REPAIRED_RID = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"
EXTENSION_IDS = {
    "audio": {MID: 1, AUDIO_LEVEL: 2},
    "video": {MID: 1, ABS_SEND_TIME: 3, ORIENTATION: 4},
}  # by media kind and URI, in the SFU's offers
FORWARDED_CODECS = {
    "audio": ("opus", "g722", "pcmu", "pcma"),
    "video": ("vp8", "vp9", "h264", "av1", "h265"),
}
SUPPORTED_FEEDBACK = frozenset(("nack", "nack pli", "ccm fir", "goog-remb"))
SCTP_PORT = 5000
OLD_SCTP_PROTOCOL = "DTLS/SCTP"  # of descriptions with ``a=sctpmap``, older than RFC 8841
MAX_LAYERS = 4  # simulcast layers of one media section
MAX_SECTIONS = 31  # media sections of one offer
MAX_MESSAGE_SIZE = 65536  # bytes, the limit of aiortc's SCTP
DEFAULT_MAX_MESSAGE_SIZE = 65536  # bytes, without ``a=max-message-size`` (RFC 8841, 6.1)


@dataclass(frozen=True, slots=True)
class LocalTransportDescription:
    """ICE and DTLS parameters of the SFU's side of a connection."""

    ufrag: str
    password: str
    fingerprint: str  # "sha-256 AB:CD:…"
    candidates: tuple[str, ...]  # "candidate:…"
    session_id: int  # in the o= line


@dataclass(frozen=True, slots=True)
class RemoteTransportDescription:
    """ICE, DTLS and SCTP parameters of a client's side of a connection."""

    ufrag: str
    password: str
    fingerprints: tuple[tuple[str, str], ...]  # algorithm and value
    setup: str  # "actpass", "active", "passive"
    candidates: tuple[Candidate, ...]
    ice_lite: bool = False
    sctp_port: int | None = None
    max_message_size: int = DEFAULT_MAX_MESSAGE_SIZE


@dataclass(frozen=True, slots=True)
class NegotiatedCodec:
    """The codec of a media section and its retransmission format."""

    payload: Payload
    rtx: Payload | None = None

    @property
    def format(self) -> tuple[str, int, str]:
        """Codec, clock rate and parameters, which must be equal for publisher and subscriber."""
        return self.payload.codec, self.payload.clock_rate, self.payload.fmtp

    @property
    def feedback(self) -> tuple[str, ...]:
        """The RTCP feedback types that both the client and the SFU support."""
        return tuple(entry for entry in dict.fromkeys(self.payload.feedback) if entry in SUPPORTED_FEEDBACK)


@dataclass(frozen=True, slots=True)
class OfferedStream:
    """One RTP stream of a media section of an offer."""

    name: str = ""  # the layer's RID, or "#0", "#1", … of an SSRC group; empty without simulcast
    ssrc: int | None = None  # None where the offer does not name it
    rtx_ssrc: int | None = None


@dataclass(frozen=True, slots=True)
class PublisherSection:
    """One media section of a publisher's offer."""

    kind: MediaKind
    mid: str  # unique; generated where the section has none
    section: MediaSection
    sends: bool  # whether its direction lets the client send
    codec: NegotiatedCodec | None = None  # None for data channels
    extensions: dict[str, int] = field(default_factory=dict)  # header extension ids by URI
    streams: tuple[OfferedStream, ...] = (OfferedStream(),)  # one, or the simulcast layers, lowest first
    rids: tuple[str, ...] = ()  # of the simulcast layers, in the offer's order
    paused_rids: frozenset[str] = frozenset()
    other_ssrcs: frozenset[int] = frozenset()  # in the offer, but of none of ``streams``


@dataclass(frozen=True, slots=True)
class PublisherOffer:
    """A publisher's offer; ``None`` stands for a media section that the SFU rejects."""

    description: Description
    sections: tuple[PublisherSection | None, ...]
    transport: RemoteTransportDescription | None  # None: all sections are rejected


@dataclass(frozen=True, slots=True)
class SubscriberSection:
    """One media section of an offer to a subscriber."""

    kind: MediaKind
    mid: str
    sends: bool = True  # whether the SFU sends it
    codec: NegotiatedCodec | None = None  # None for data channels
    ssrc: int = 0
    rtx_ssrc: int = 0
    cname: str = ""
    stream_id: str = ""  # of the MediaStream (RFC 8830)
    track_id: str = ""  # of the MediaStreamTrack
    rejected: bool = False  # offered with port 0: its medium has ended


@dataclass(frozen=True, slots=True)
class AnsweredSection:
    """One media section of a subscriber's answer."""

    receives: bool  # whether the subscriber receives it
    payload_type: int = 0
    rtx_payload_type: int | None = None
    rejected: bool = False  # answered with port 0
