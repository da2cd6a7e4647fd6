"""The normal form of a client's description: one spelling for each token, so that gateway and SFU read it alike.

SFUs differ in the spellings that they accept: Janus ignores the case of media types, attribute names and some values,
and ends a line at any CR; the in-process SFU compares exactly. A spelling that only the SFU accepts must not evade the
gateway's checks; so descriptions of clients are brought into this form before any check, and the SFU receives this
form.

Source: RFC 8866 5 (lower-case types, ``token``), 5.14 (media types), RFC 4855 3 (encoding names ignore case), RFC 5888,
RFC 8851, RFC 8853, RFC 4145 (values).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sdp.document import Description, MediaSection, SdpError, Section

MEDIA_TYPES = frozenset(("audio", "video", "application"))
MAX_LINES = 2500  # about the lines of a browser's description that fill a message of 64 KiB
MAX_SECTIONS = 128  # a publisher has three; a subscriber's answer has as many as the SFU offered
MAX_GROUPS = 16  # "a=group" lines; a browser writes one

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ENCODING_NAME = re.compile(r"(a=rtpmap: *[0-9]+ +)([^/\s]+)")
_REGISTERED = ["opus", "PCMU", "PCMA", "G722", "CN", "telephone-event", "red", "VP8", "VP9", "H264", "AV1", "H265"]
_ENCODINGS = {name.lower(): name for name in [*_REGISTERED, "rtx", "ulpfec", "flexfec-03"]}
_LOWER_CASE_WORDS = {
    "setup": 0,
    "rid": 1,
    "simulcast": None,
}  # index of the word to rewrite; None: 0, 2, 4, …


def check_size(text: str) -> None:
    """Check the number of lines and media sections before a description is parsed.

    Raises:
        SdpError: ``MAX_LINES`` or ``MAX_SECTIONS`` is exceeded.
    """
    if text.count("\n") > MAX_LINES:
        raise SdpError("Too many lines.")
    if text.count("\nm=") > MAX_SECTIONS:
        raise SdpError("Too many media descriptions.")


def normalise(description: Description) -> None:
    """Bring a description into normal form, in place; a description in normal form stays the same byte for byte.

    Media types, attribute names and the values of ``setup``, ``rid`` and ``simulcast`` get lower case, transport
    protocols and group semantics upper case, encoding names the spelling of their registration.

    Raises:
        SdpError: a media type is unknown, a line type is in upper case, a line has a control character, or there are
            more groups than ``MAX_GROUPS``, or more members in one than ``MAX_SECTIONS``.
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
    groups = description.session.attributes("group")
    if len(groups) > MAX_GROUPS or any(len(group.split(None, MAX_SECTIONS + 1)) > MAX_SECTIONS + 1 for group in groups):
        raise SdpError("Too many groups of media descriptions, or too many members in one.")


def _normalise_media(section: MediaSection) -> None:
    kind, protocol = section.kind.lower(), section.protocol.upper()
    if kind not in MEDIA_TYPES:
        raise SdpError("A media type that no SFU supports.")
    if (kind, protocol) != (section.kind, section.protocol):
        section.rename(kind, protocol)


def _changed_lines(section: Section) -> Iterator[tuple[int, str]]:
    for position, line in enumerate(section.lines):
        content = line.removesuffix("\r")
        if content.startswith("a=") and (normal := _attribute(content)) != content:
            yield position, normal


def _attribute(line: str) -> str:
    name, colon, value = line[2:].partition(":")
    name = name.lower()
    if name == "rtpmap":
        line = f"a={name}{colon}{value}"
        return _ENCODING_NAME.sub(lambda match: match[1] + _ENCODINGS.get(match[2].lower(), match[2]), line)
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
