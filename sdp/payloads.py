"""Payload types of a media section, each with its codec, format parameters and feedback.

Source: RFC 8866 6.6 and 6.15 (``rtpmap``, ``fmtp``), RFC 3551 6 (types that need no ``rtpmap``), RFC 4585 4.2
(``rtcp-fb``), RFC 4588 8.6 (rtx), RFC 2198 5 (red), RFC 5109 (ulpfec).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NewType

from sdp.document import MediaSection

PayloadType = NewType("PayloadType", int)

MAX_PARAMETERS = 64  # of a payload type that are read; H264 has the most, about ten

REPAIR_CODECS = frozenset(("ulpfec", "flexfec", "flexfec-03"))
TONES_AND_NOISE = frozenset(("telephone-event", "cn"))
AUXILIARY_CODECS = REPAIR_CODECS | TONES_AND_NOISE | {"rtx", "red"}

_TYPE = re.compile(r"0|[1-9][0-9]{0,2}")
_MAPPING = re.compile(r"([0-9]{1,3}) +([^/\s]+)/([0-9]{1,9})(?:/([0-9]{1,3}))?\s*")
_STATIC_TYPES = {0: ("pcmu", 8000), 3: ("gsm", 8000), 8: ("pcma", 8000), 9: ("g722", 8000), 13: ("cn", 8000)}
_ALIASES = {"av1x": "av1", "hevc": "h265"}  # names in use before the payload formats were registered


@dataclass(frozen=True, slots=True)
class Payload:
    """One payload type of a media section, with its codec, format parameters and feedback."""

    type: PayloadType
    codec: str  # canonical name
    clock_rate: int  # Hz
    channels: int
    fmtp: str = ""  # the format parameters as written, "" without
    apt: PayloadType | None = None  # rtx: the payload type that is retransmitted
    feedback: tuple[str, ...] = ()  # "nack pli", ... in order, including feedback for "*"

    @property
    def is_auxiliary(self) -> bool:
        """Whether the payload type repairs, retransmits or accompanies another payload type."""
        return self.codec in AUXILIARY_CODECS

    @property
    def parameters(self) -> dict[str, str]:
        """The first ``MAX_PARAMETERS`` format parameters by lower-case name, without entries that have no value."""
        pairs = (part.partition("=") for part in self.fmtp.split(";", MAX_PARAMETERS)[:MAX_PARAMETERS])
        return {name.strip().lower(): value.strip() for name, equals, value in pairs if equals}

    @property
    def original_type(self) -> PayloadType:
        """The payload type that this rtx retransmits; for any other codec the payload type itself."""
        return self.type if self.apt is None else self.apt

    @property
    def enclosed_types(self) -> frozenset[PayloadType]:
        """The payload types that audio red encloses ("111/111"); none for video, whose red may enclose any."""
        parts = [part.strip() for part in self.fmtp.split("/")] if self.codec == "red" else []
        return frozenset(PayloadType(int(part)) for part in parts) if all(map(_TYPE.fullmatch, parts)) else frozenset()


def payloads(section: MediaSection) -> tuple[Payload, ...]:
    """Return the payload types of the ``m=`` line in its order.

    A payload type without ``rtpmap`` is returned only if RFC 3551 assigns it. A section that is not RTP has none.
    """
    return section.derive(_payloads)


def _payloads(section: MediaSection) -> tuple[Payload, ...]:
    if not section.is_rtp:
        return ()
    mappings = _mappings(section)
    formats = _by_type(section, "fmtp")
    feedback = _by_type(section, "rtcp-fb")
    for_all_types = feedback.get("*", [])
    found = []
    for token in dict.fromkeys(section.formats):
        if token not in mappings:
            continue
        codec, clock_rate, channels = mappings[token]
        fmtp = "; ".join(formats.get(token, []))
        found.append(
            Payload(
                type=PayloadType(int(token)),
                codec=codec,
                clock_rate=clock_rate,
                channels=channels,
                fmtp=fmtp,
                apt=_apt(fmtp) if codec == "rtx" else None,
                feedback=(*feedback.get(token, ()), *for_all_types),
            )
        )
    return tuple(found)


def canonical(codec: str) -> str:
    """Return a codec's registered name in lower case, also for a name from before the registration."""
    name = codec.strip().lower()
    return _ALIASES.get(name, name)


def _mappings(section: MediaSection) -> dict[str, tuple[str, int, int]]:
    mappings = {str(number): (name, rate, 1) for number, (name, rate) in _STATIC_TYPES.items()}
    for value in section.attributes("rtpmap"):
        match = _MAPPING.fullmatch(value)
        if match and _TYPE.fullmatch(match[1]) and int(match[1]) < 128:
            codec = canonical(match[2])
            channels = 2 if codec == "opus" else int(match[4] or 1)  # RFC 7587 4.1; some clients leave it out
            mappings[match[1]] = (codec, int(match[3]), channels)
    return mappings


def _by_type(section: MediaSection, name: str) -> dict[str, list[str]]:
    """Return the values of all ``a=name:<payload type> <value>`` lines by payload type."""
    values: dict[str, list[str]] = {}
    for line in section.attributes(name):
        payload_type, _, value = line.partition(" ")
        values.setdefault(payload_type, []).append(value.strip())
    return values


def _apt(fmtp: str) -> PayloadType | None:
    for part in fmtp.split(";"):
        name, _, value = part.strip().partition("=")
        if name.lower() == "apt" and _TYPE.fullmatch(value):
            return PayloadType(int(value))
    return None
