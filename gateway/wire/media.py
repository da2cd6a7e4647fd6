"""The ``data`` of media messages: the fields that the gateway reads, and the messages that it sends.

Source: signaling API, Media publishing; reference 5.2 and 9.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Raw, Struct

from gateway.wire.client import ABSENT, has_lone_surrogate, is_given, without_lone_surrogates

# Types of messages to the SFU.
SFU_TYPES = frozenset({"offer", "answer", "candidate", "endOfCandidates", "selectStream", "requestoffer", "sendoffer"})
CONTROL = "control"  # type of ``data`` that clients obey in a ``message`` as in a ``control`` message (5.3)
ROOM_TYPES = frozenset({"audio", "video", "screen"})


class MediaPayload(Struct, frozen=True, gc=False):
    """The members of ``payload`` that the gateway reads; undecoded, because each has its own error (5.2, 9.6)."""

    sdp: Raw = ABSENT
    candidate: Raw = ABSENT
    substream: Raw = ABSENT
    temporal: Raw = ABSENT
    audio: Raw = ABSENT
    video: Raw = ABSENT


class MediaMessage(Struct, frozen=True, gc=False):
    """The fields of ``data`` that the gateway reads; all others are relayed without being read."""

    type: str | None = None
    sid: str | None = None
    roomType: str | None = None  # noqa: N815 - its name on the wire
    payload: MediaPayload | None = None
    bitrate: int | float | None = None  # bit/s
    audiocodec: str | None = None
    videocodec: str | None = None
    vp9profile: str | None = None
    h264profile: str | None = None


class _TypeAndPayload(Struct):
    type: str | None = None
    payload: Raw = ABSENT


_NICK_CHANGED = "nickChanged"
_decode = msgspec.json.Decoder(MediaMessage).decode
_type_decoder = msgspec.json.Decoder(_TypeAndPayload)
_object_decoder = msgspec.json.Decoder(dict[str, Raw])
_string_decoder = msgspec.json.Decoder(str)
_number_decoder = msgspec.json.Decoder(Annotated[int, msgspec.Meta(ge=0, le=32767)])  # more layers than any codec has
_boolean_decoder = msgspec.json.Decoder(bool)


def decode_media_message(data: bytes) -> MediaMessage | None:
    """Return the known fields, or ``None`` if a field has a wrong type: ``data`` is then relayed unchecked (5.2).

    For ``nickChanged``, ``control`` and media messages with a ``payload`` object the type is returned even then: the
    recipient's client may accept such ``data``, so the permissions to send and receive it still apply (5.3, 5.4).
    ``structure.media_data`` has checked that ``type`` stands once.
    """
    try:
        return _decode(data)
    except msgspec.DecodeError:
        return _decode_lenient(data)


def _decode_lenient(data: bytes) -> MediaMessage | None:
    """Decode ``data`` with an escaped lone surrogate or a field of a wrong type; see ``decode_media_message``."""
    text = data.decode()
    if has_lone_surrogate(text):
        text = without_lone_surrogates(text)
        try:
            return _decode(text)
        except msgspec.DecodeError:
            pass
    try:
        found = _type_decoder.decode(text)
    except msgspec.DecodeError:
        return None
    if found.type in (CONTROL, _NICK_CHANGED):
        return MediaMessage(found.type)
    return MediaMessage(found.type) if found.type in SFU_TYPES and bytes(found.payload)[:1] == b"{" else None


def read_string(raw: Raw) -> str | None:
    """Decode a string; return ``None`` if it is absent or of another type."""
    if not is_given(raw):
        return None
    try:
        return _string_decoder.decode(raw)
    except msgspec.DecodeError:
        return None


def read_member(raw: Raw, name: str) -> Raw:
    """Return a member of an object, not decoded; ``ABSENT`` if it is missing or ``raw`` is not an object."""
    try:
        return _object_decoder.decode(raw).get(name, ABSENT)
    except msgspec.DecodeError:
        return ABSENT


class CandidateInit(Struct, frozen=True, rename={"sdp_mid": "sdpMid", "sdp_mline_index": "sdpMLineIndex"}):
    """A trickled candidate, as in W3C's ``RTCIceCandidateInit``."""

    candidate: str
    sdp_mid: str | None = None
    sdp_mline_index: int | None = None


class SelectionPayload(Struct, frozen=True):
    """The simulcast layer, temporal layer and media that a subscriber selects (9.6); ``None``: no change."""

    substream: int | None = None
    temporal: int | None = None
    audio: bool | None = None
    video: bool | None = None


def decode_selection(payload: MediaPayload | None) -> SelectionPayload:
    """Decode the selection of a subscriber.

    Raises:
        msgspec.DecodeError: a value has a wrong type.
    """
    if payload is None:
        return SelectionPayload()
    numbers = [_number_decoder.decode(raw) if is_given(raw) else None for raw in (payload.substream, payload.temporal)]
    booleans = [_boolean_decoder.decode(raw) if is_given(raw) else None for raw in (payload.audio, payload.video)]
    return SelectionPayload(numbers[0], numbers[1], booleans[0], booleans[1])


class DescriptionPayload(Struct, frozen=True):
    """An offer or an answer."""

    type: str
    sdp: str


class CandidatePayload(Struct, frozen=True):
    """A candidate of the SFU."""

    candidate: CandidateInit


class MediaData(Struct, frozen=True, rename={"sender": "from", "room_type": "roomType"}):
    """The ``data`` of a media message that the gateway sends (9.2-9.4)."""

    to: str
    sender: str
    type: str
    room_type: str
    payload: DescriptionPayload | CandidatePayload
    sid: str


_encoder = msgspec.json.Encoder()


def encode_data(data: MediaData) -> Raw:
    """Encode ``data`` for use in a message."""
    return Raw(_encoder.encode(data))
