"""The ``data`` of media messages: what the gateway must look at, and what it sends itself.

Source: signaling API, Media publishing; reference 5.2 and 9.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Raw, Struct

from gateway.wire.client import ABSENT, given, has_lone_surrogate, without_lone_surrogates

CONSUMED = frozenset({"offer", "answer", "candidate", "endOfCandidates", "selectStream", "requestoffer", "sendoffer"})
ROOM_TYPES = frozenset({"audio", "video", "screen"})


class Payload(Struct, frozen=True, gc=False):
    """The known members of ``payload``, each as it stands: a wrong type there is an error of its own (5.2, 9.6)."""

    sdp: Raw = ABSENT
    candidate: Raw = ABSENT
    substream: Raw = ABSENT
    temporal: Raw = ABSENT
    audio: Raw = ABSENT
    video: Raw = ABSENT


class Head(Struct, frozen=True, gc=False):
    """The known fields of ``data``; everything else is none of our business."""

    type: str | None = None
    sid: str | None = None
    roomType: str | None = None  # noqa: N815 - the wire's name
    payload: Payload | None = None
    bitrate: int | float | None = None  # bit/s
    audiocodec: str | None = None
    videocodec: str | None = None
    vp9profile: str | None = None
    h264profile: str | None = None


class _Kind(Struct):
    type: str | None = None


_NICK_CHANGED = "nickChanged"
_decoder = msgspec.json.Decoder(Head)
_kind_decoder = msgspec.json.Decoder(_Kind)
_object_decoder = msgspec.json.Decoder(dict[str, Raw])
_string_decoder = msgspec.json.Decoder(str)
_number_decoder = msgspec.json.Decoder(Annotated[int, msgspec.Meta(ge=0, le=32767)])  # no layer is numbered higher
_switch_decoder = msgspec.json.Decoder(bool)


def decode_head(data: Raw) -> Head | None:
    """Read the known fields; ``None`` when ``data`` does not have that shape and is to be relayed unchecked (5.2).

    A change of a name is known as one whatever its shape: it is not for everybody (5.4).
    """
    try:
        return _decoder.decode(data)
    except msgspec.DecodeError:
        return _decode_lenient(data)


def _decode_lenient(data: Raw) -> Head | None:
    text = bytes(data).decode()
    if has_lone_surrogate(text):
        text = without_lone_surrogates(text)
        try:
            return _decoder.decode(text)
        except msgspec.DecodeError:
            pass
    try:
        kind = _kind_decoder.decode(text).type
    except msgspec.DecodeError:
        return None
    return Head(_NICK_CHANGED) if kind == _NICK_CHANGED else None


def string(raw: Raw) -> str | None:
    """Read a string; ``None`` when it is absent or anything else."""
    if not given(raw):
        return None
    try:
        return _string_decoder.decode(raw)
    except msgspec.DecodeError:
        return None


def member(raw: Raw, name: str) -> Raw:
    """Return a member of an object as it stands; absent when there is none or ``raw`` is no object."""
    try:
        return _object_decoder.decode(raw).get(name, ABSENT)
    except msgspec.DecodeError:
        return ABSENT


class CandidateInit(Struct, frozen=True, rename={"sdp_mid": "sdpMid", "sdp_mline_index": "sdpMLineIndex"}):
    """A trickled candidate as browsers write it."""

    candidate: str
    sdp_mid: str | None = None
    sdp_mline_index: int | None = None


class Selection(Struct, frozen=True):
    """What a subscriber wants to receive (9.6)."""

    substream: int | None = None
    temporal: int | None = None
    audio: bool | None = None
    video: bool | None = None


def selection(payload: Payload | None) -> Selection:
    """Read what a subscriber wants to receive; nothing given: nothing changes.

    Raises:
        msgspec.DecodeError: a value has a wrong type.
    """
    if payload is None:
        return Selection()
    numbers = [_number_decoder.decode(raw) if given(raw) else None for raw in (payload.substream, payload.temporal)]
    switches = [_switch_decoder.decode(raw) if given(raw) else None for raw in (payload.audio, payload.video)]
    return Selection(numbers[0], numbers[1], switches[0], switches[1])


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
