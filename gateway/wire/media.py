"""The ``data`` of media messages: what the gateway must look at, and what it sends itself.

Source: signaling API, Media publishing; behaviour reference 5.2 and 9.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from gateway.wire.client import ABSENT, given, has_lone_surrogate, without_lone_surrogates

CONSUMED = frozenset({"offer", "answer", "candidate", "endOfCandidates", "selectStream", "requestoffer", "sendoffer"})
ROOM_TYPES = frozenset({"audio", "video", "screen"})


class Head(Struct, frozen=True):
    """The known fields of ``data``; everything else is none of our business."""

    type: str | None = None
    sid: str | None = None
    roomType: str | None = None  # noqa: N815 - the wire's name
    payload: Raw = ABSENT
    bitrate: int | float | None = None  # bit/s
    audiocodec: str | None = None
    videocodec: str | None = None
    vp9profile: str | None = None
    h264profile: str | None = None


_decoder = msgspec.json.Decoder(Head)
_payload_decoder = msgspec.json.Decoder(dict[str, Raw])
_string_decoder = msgspec.json.Decoder(str)


def decode_head(data: Raw) -> Head | None:
    """Read the known fields; ``None`` when ``data`` does not have that shape and is to be relayed unchecked (5.2)."""
    head: Head | None
    try:
        head = _decoder.decode(data)
    except msgspec.ValidationError:
        return None
    except msgspec.DecodeError:
        head = _decode_lenient(data)
    if head is None:
        return None
    if given(head.payload) and bytes(head.payload)[:1] != b"{":
        return None
    return head


def _decode_lenient(data: Raw) -> Head | None:
    text = bytes(data).decode()
    if not has_lone_surrogate(text):
        return None
    try:
        return _decoder.decode(without_lone_surrogates(text))
    except msgspec.DecodeError:
        return None


def payload_string(payload: Raw, name: str) -> str | None:
    """Return the string member ``name`` of a payload; ``None`` when absent or no string."""
    member = payload_member(payload, name)
    if member is None:
        return None
    try:
        return _string_decoder.decode(member)
    except msgspec.DecodeError:
        return None


def payload_member(payload: Raw, name: str) -> Raw | None:
    """Return the member ``name`` of a payload as it stands; ``None`` when absent or ``null``."""
    if not given(payload):
        return None
    try:
        member = _payload_decoder.decode(payload).get(name)
    except msgspec.DecodeError:
        return None
    return member if member is not None and given(member) else None


class CandidateInit(Struct, frozen=True, rename={"sdp_mid": "sdpMid", "sdp_mline_index": "sdpMLineIndex"}):
    """A trickled candidate as browsers write it."""

    candidate: str
    sdp_mid: str | None = None
    sdp_mline_index: int | None = None


class SelectPayload(Struct, frozen=True):
    """What a subscriber wants to receive (9.6)."""

    substream: int | None = None
    temporal: int | None = None
    audio: bool | None = None
    video: bool | None = None


class DescriptionPayload(Struct, frozen=True):
    """An offer or an answer."""

    type: str
    sdp: str


class CandidatePayload(Struct, frozen=True):
    """A candidate of the SFU."""

    candidate: CandidateInit


class MediaData(Struct, frozen=True, rename={"sender": "from", "room_type": "roomType"}):
    """The ``data`` of a media message of the gateway (9.2-9.4)."""

    to: str
    sender: str
    type: str
    room_type: str
    payload: DescriptionPayload | CandidatePayload
    sid: str


_encoder = msgspec.json.Encoder()


def encode_data(data: MediaData) -> Raw:
    """Write ``data`` for use in a message."""
    return Raw(_encoder.encode(data))
