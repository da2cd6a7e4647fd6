"""What a media message must look like when an SFU is configured.

Source: reference 5.2.
"""

from __future__ import annotations

from gateway.wire.client import given
from gateway.wire.errors import Code, Error
from gateway.wire.media import ROOM_TYPES, Head, member, string
from sdp import candidates, document
from sdp.candidates import CandidateError
from sdp.document import Description, SdpError


def check(head: Head) -> Error | None:
    """Return what is wrong with a message's known fields, or ``None``."""
    if not head.type or (head.roomType and head.roomType not in ROOM_TYPES):
        return Code.INVALID_FORMAT.error()
    if head.type in ("offer", "answer"):
        found = description(head)
        return None if isinstance(found, Description) else found
    if head.type == "candidate":
        return _check_candidate(head)
    return None


def description(head: Head) -> Description | Error:
    """Read the description of an offer or answer, its candidates included."""
    sdp = None if head.payload is None else string(head.payload.sdp)
    if sdp is None:
        return Code.NO_SDP.error()
    try:
        parsed = document.parse(sdp)
        candidates.check(parsed)
    except CandidateError as error:
        details = {"media": error.kind, "idx": error.index, "error": error.text}
        return Code.INVALID_SDP_CANDIDATE.error(details)
    except SdpError as error:
        return Code.INVALID_SDP.error({"error": str(error)})
    return parsed


def _check_candidate(head: Head) -> Error | None:
    if head.payload is None or not given(head.payload.candidate):
        return Code.NO_CANDIDATE.error()
    text = string(member(head.payload.candidate, "candidate"))
    if text is None:
        return Code.INVALID_CANDIDATE.error()
    if not text:
        return None  # the end of the candidates
    try:
        candidates.parse(text)
    except SdpError as error:
        return Code.UNPARSABLE_CANDIDATE.error({"error": str(error)})
    return None
