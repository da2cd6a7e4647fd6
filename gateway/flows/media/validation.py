"""Checks and reads the payloads of media messages when an SFU is configured.

Source: reference 5.2, 9.4, 9.6.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from gateway.wire.client import is_given
from gateway.wire.errors import Code, ProtocolError
from gateway.wire.media import MediaMessage, decode_selection, read_member, read_string
from gateway.wire.structure import media_type
from mcu.base import IceCandidate, MediaSelection, StreamType
from sdp import candidates, document
from sdp.candidates import CandidateError, CandidateFilter
from sdp.document import Description, SdpError
from sdp.normal_form import check_size, normalise

_STREAM_TYPES = {stream_type.value: stream_type for stream_type in StreamType}


class CandidateRefused(Exception):
    """The candidate filter does not let this candidate pass to the SFU; it is dropped without an error (9.4)."""


def check(message: MediaMessage) -> Description | None:
    """Check the known fields of a message and return the parsed description of an offer or answer.

    Raises:
        ProtocolError: a field is missing or malformed.
    """
    type_check = _CHECKS.get(media_type(message))
    return None if type_check is None else type_check(message)


def description_size(message: MediaMessage) -> int:
    """Return the size of the description of an offer or answer in bytes of JSON; 0 for other messages."""
    if message.type not in ("offer", "answer") or message.payload is None:
        return 0
    return memoryview(message.payload.sdp).nbytes


def stream_type_of(message: MediaMessage) -> StreamType | None:
    """Return the type of the stream that a message is about, or ``None`` if no stream can have its room type (9.1)."""
    return _STREAM_TYPES.get(message.roomType or "")


def require_stream_type(message: MediaMessage) -> StreamType:
    """Return the type of the stream that a message is about.

    Raises:
        ProtocolError: ``client_not_found``, no stream can have its room type (9.1).
    """
    stream_type = stream_type_of(message)
    if stream_type is None:
        raise ProtocolError(Code.CLIENT_NOT_FOUND.error())
    return stream_type


def read_candidate(message: MediaMessage, allowed: CandidateFilter) -> IceCandidate | None:
    """Return the candidate of a checked message, or ``None`` for the end of candidates.

    Raises:
        CandidateRefused: its address must not reach the SFU.
    """
    if message.type == "endOfCandidates" or message.payload is None:
        return None
    init = message.payload.candidate
    text = read_string(read_member(init, "candidate"))
    if not text:
        return None
    if not allowed.accepts(text):
        raise CandidateRefused
    index = bytes(read_member(init, "sdpMLineIndex"))
    number = int(index) if index.isdigit() and len(index) < 6 else None
    return IceCandidate(text, read_string(read_member(init, "sdpMid")), number)


def read_selection(message: MediaMessage) -> MediaSelection:
    """Return the simulcast layer and the media that a subscriber selects (9.6).

    Raises:
        ProtocolError: ``processing_failed``, a value has a wrong type.
    """
    try:
        selected = decode_selection(message.payload)
    except msgspec.DecodeError as error:
        raise ProtocolError(Code.PROCESSING_FAILED.error()) from error
    return MediaSelection(selected.substream, selected.temporal, selected.audio, selected.video)


def _description(message: MediaMessage) -> Description:
    """Parse the description of an offer or answer, bring it into normal form, and check its candidates.

    Raises:
        ProtocolError: ``invalid_sdp``, it is missing or malformed.
    """
    sdp = None if message.payload is None else read_string(message.payload.sdp)
    if sdp is None:
        raise ProtocolError(Code.NO_SDP.error())
    try:
        check_size(sdp)
        description = document.parse(sdp)
        normalise(description)
        candidates.drop_excess(description)
        candidates.check(description)
    except CandidateError as error:
        details = {"media": error.kind, "idx": error.index, "error": error.text}
        raise ProtocolError(Code.INVALID_SDP_CANDIDATE.error(details)) from error
    except SdpError as error:
        raise ProtocolError(Code.INVALID_SDP.error({"error": str(error)})) from error
    return description


def _check_candidate(message: MediaMessage) -> None:
    """Check a trickled candidate.

    Raises:
        ProtocolError: it is missing or malformed.
    """
    if message.payload is None or not is_given(message.payload.candidate):
        raise ProtocolError(Code.NO_CANDIDATE.error())
    text = read_string(read_member(message.payload.candidate, "candidate"))
    if text is None:
        raise ProtocolError(Code.INVALID_CANDIDATE.error())
    if not text:
        return  # the end of the candidates
    try:
        candidates.parse(text)
    except SdpError as error:
        raise ProtocolError(Code.UNPARSABLE_CANDIDATE.error({"error": str(error)})) from error


_CHECKS: dict[str, Callable[[MediaMessage], Description | None]] = {
    "offer": _description,
    "answer": _description,
    "candidate": _check_candidate,
}
