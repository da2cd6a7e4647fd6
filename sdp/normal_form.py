"""The normal form of a client's description: one spelling for each token, so that gateway and SFU read it alike.

SFUs differ in the spellings that they accept: Janus ignores the case of media types, attribute names and some values,
ends a line at any CR, searches for codec names anywhere in an ``rtpmap``, also of payload types that the ``m=`` line
does not list, reads numbers with ``atoi``, and knows no direction of the session level; the in-process SFU compares
exactly. A spelling that only the SFU accepts must not evade the gateway's checks; so descriptions of clients are
brought into this form before any check, and the SFU receives this form.

Source: RFC 8866 5 (lower-case types, ``token``), 5.14 (media types), RFC 4855 3 (encoding names ignore case), RFC 5888,
RFC 8851, RFC 8853, RFC 4145 (values), RFC 8866 6.6 (``rtpmap``), 6.7 (directions).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import count

from sdp.document import DIRECTIONS, Description, MediaSection, SdpError, Section

MAX_LINES = 2500  # about as many as a message of 64 KiB holds of a browser's description
MAX_SECTIONS = 32  # a publisher has three; a subscriber's answer has as many as the SFU offered
MAX_MEDIA_LINE = 1024  # characters of an "m=" line; with all 128 payload types it has about 500
MAX_GROUPS = 16  # "a=group" lines; a browser writes one

_RTP = re.compile(r"(?:(?:UDP|TCP)/(?:TLS|DTLS)/)?RTP/S?AVPF?")
_SCTP = re.compile(r"(?:(?:UDP|TCP)/)?DTLS/SCTP")
_SUPPORTED_PROTOCOLS = {"audio": _RTP, "video": _RTP, "application": _SCTP}
_REGISTERED_MEDIA_TYPES = frozenset((*_SUPPORTED_PROTOCOLS, "image", "message", "text"))  # IANA, SDP Parameters
# Other protocols that are registered, of fax, floor control, instant messages, speech control, remote camera control, …
_OTHER_PROTOCOL = re.compile(
    r"(?:(?:UDP|TCP|DCCP)/)?(?:(?:TLS|DTLS|WS|WSS)/)?(?:RTP/S?AVPF?|UDP|TCP|UDPTL|BFCP|MSRP|MRCPV2|SCTP|CCMP|FEC)|SCTP/DTLS"
)
_PAYLOAD_TYPE = re.compile(r"[1-9]?[0-9]|1[01][0-9]|12[0-7]")
_MAPPING = re.compile(r" *(0|[1-9][0-9]*) +([^/\s]+)/([0-9]{1,9}(?:/[0-9]{1,3})?) *")
_LONG_MEDIA_LINE = re.compile(rf"\nm=[^\n]{{{MAX_MEDIA_LINE - 1}}}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ENCODING_NAME = re.compile(r"(a=rtpmap: *[0-9]+ +)([^/\s]+)")
_REGISTERED_NAMES = [
    "opus",
    "PCMU",
    "PCMA",
    "G722",
    "CN",
    "telephone-event",
    "red",
    "VP8",
    "VP9",
    "H264",
    "AV1",
    "H265",
]
_SPELLINGS = {name.lower(): name for name in [*_REGISTERED_NAMES, "rtx", "ulpfec", "flexfec-03"]}
# Names that an SFU finds within a longer one.
_KNOWN_NAME = re.compile("opus|pcm[ua]|g722|l16|isac|vp[89]|h26[45]|av1", re.IGNORECASE)
_EXACT_NAMES = frozenset((*_SPELLINGS, "isac", "l16", "av1x"))  # lower-case names that no SFU takes for another codec
_LOWER_CASE_WORDS = {
    "setup": 0,
    "rid": 1,
    "simulcast": None,
}  # index of the word to rewrite; None: 0, 2, 4, …


def check_size(text: str) -> None:
    """Check the number of lines, media sections and formats before a description is parsed.

    Raises:
        SdpError: ``MAX_LINES``, ``MAX_SECTIONS`` or ``MAX_MEDIA_LINE`` is exceeded.
    """
    if text.count("\n") > MAX_LINES:
        raise SdpError("Too many lines.")
    if text.count("\nm=") > MAX_SECTIONS:
        raise SdpError("Too many media descriptions.")
    if _LONG_MEDIA_LINE.search(text):
        raise SdpError("Too many formats of a medium.")


def normalise(description: Description) -> None:
    """Bring a description into normal form, in place; a description in normal form stays the same byte for byte.

    A section of a registered media type or protocol that no SFU supports gets port 0, by which it is rejected
    (RFC 3264 5.1 and 6), while the others are negotiated.

    Media types, attribute names, the value of ``setup`` and the directions of ``rid`` and ``simulcast`` get lower case,
    transport protocols and group semantics upper case, encoding names the spelling of their registration. Each media
    section states its direction itself, once; ``rtpmap`` lines that only an SFU would read are removed.

    Raises:
        SdpError: a media type is unknown, or the transport protocol of a section in use; a format is no payload type, a
            line type is in upper case, a line has a control character, or there are more groups than ``MAX_GROUPS``, or
            more members in one than ``MAX_SECTIONS``.
    """
    number = 0
    for section in description.sections():
        for line in section.lines:
            number += 1
            content = line.removesuffix("\r")
            if content[:1].isupper() or _CONTROL.search(content):
                raise SdpError(f"Line {number}: not a line of a session description.")
        if isinstance(section, MediaSection):
            _normalise_media(section)
        for position, line in _changed_lines(section):
            section.replace(position, line)
    for section in description.media:
        _normalise_direction(section)
        if section.is_rtp:
            _normalise_mappings(section)
    groups = description.session.attributes("group")
    if len(groups) > MAX_GROUPS or any(len(group.split(None, MAX_SECTIONS + 1)) > MAX_SECTIONS + 1 for group in groups):
        raise SdpError("Too many groups of media descriptions, or too many members in one.")


def _normalise_media(section: MediaSection) -> None:
    kind, protocol = section.kind.lower(), section.protocol.upper()
    if kind not in _REGISTERED_MEDIA_TYPES:
        raise SdpError("A media type that is not registered.")
    if not _is_supported(kind, protocol):
        _reject(section, kind)
        return
    if kind != "application" and not all(map(_PAYLOAD_TYPE.fullmatch, section.formats)):
        raise SdpError("A format that is no payload type.")
    section.rewrite(kind, protocol)


def is_supported(section: MediaSection) -> bool:
    """Return whether an SFU may know a section's media type and transport protocol, both in normal form."""
    return _is_supported(section.kind, section.protocol)


def _is_supported(kind: str, protocol: str) -> bool:
    form = _SUPPORTED_PROTOCOLS.get(kind)
    return form is not None and form.fullmatch(protocol) is not None


def _reject(section: MediaSection, kind: str) -> None:
    """Give a section of a medium that no SFU supports port 0; its protocol and formats stay as they are.

    Raises:
        SdpError: it is in use, and its transport protocol is unknown.
    """
    if not section.rejected and _OTHER_PROTOCOL.fullmatch(section.protocol.upper()) is None:
        raise SdpError("A transport protocol that is not registered.")
    section.rewrite(kind, section.protocol)
    section.port = 0
    section.remove(lambda line: line.partition(":")[0].lower() == "a=bundle-only")


def _normalise_direction(section: MediaSection) -> None:
    """Write the direction of a section as its only direction attribute."""
    direction = section.direction
    found = [name for name in DIRECTIONS for _ in section.attributes(name)]
    own = [direction] if found or direction != "sendrecv" else []
    if found != own or (own and section.attribute(direction)):
        names = tuple(f"a={name}" for name in DIRECTIONS)
        section.remove(lambda line: line.partition(":")[0] in names)
        section.insert(len(section.lines) - (section.lines[-1] == ""), [f"a={direction}"])


def _normalise_mappings(section: MediaSection) -> None:
    """Write each ``rtpmap`` in the form that the gateway reads; remove each ``rtpmap`` that only an SFU would read."""
    lines: dict[str, tuple[int, int, str]] = {}  # ordinal number, position and text of the last one, by payload type
    mappings = section.indexed("rtpmap")
    for number, (position, value) in enumerate(mappings):
        match = _MAPPING.fullmatch(value)
        if match and match[1] in section.formats and _is_unambiguous(match[2]):
            lines[match[1]] = number, position, f"a=rtpmap:{match[1]} {match[2]}/{match[3]}"
    for _, position, line in lines.values():
        if section.lines[position].removesuffix("\r") != line:
            section.replace(position, line)
    if len(lines) < len(mappings):
        kept, numbers = {number for number, _, _ in lines.values()}, count()
        section.remove(lambda line: line.partition(":")[0] == "a=rtpmap" and next(numbers) not in kept)


def _is_unambiguous(name: str) -> bool:
    """Return whether an SFU that searches for codec names finds the same codec as an SFU that compares names."""
    return name.lower() in _EXACT_NAMES or _KNOWN_NAME.search(name) is None


def _changed_lines(section: Section) -> Iterator[tuple[int, str]]:
    for position, line in enumerate(section.lines):
        content = line.removesuffix("\r")
        if content.startswith("a=") and (normal := _normal_attribute(content)) != content:
            yield position, normal


def _normal_attribute(line: str) -> str:
    name, colon, value = line[2:].partition(":")
    name = name.lower()
    if name == "rtpmap":
        line = f"a={name}{colon}{value}"
        return _ENCODING_NAME.sub(lambda match: match[1] + _SPELLINGS.get(match[2].lower(), match[2]), line)
    if name == "group":
        semantics, space, mids = value.partition(" ")
        value = semantics.upper() + space + mids
    elif name in _LOWER_CASE_WORDS:
        value = _lower_words(value, _LOWER_CASE_WORDS[name])
    return f"a={name}{colon}{value}"


def _lower_words(value: str, position: int | None) -> str:
    words = value.split(" ")
    for index in range(len(words)):
        if index == position or (position is None and index % 2 == 0):
            words[index] = words[index].lower()
    return " ".join(words)
