"""Codecs of a media section: list them, order them as a client wishes, take some out.

Source: RFC 8866 6.6 and 6.15 (``rtpmap``, ``fmtp``), RFC 4588 (rtx), RFC 2198 (red), RFC 5109 (ulpfec), RFC 8851 (rid);
the wishes are ``audiocodec``, ``videocodec``, ``vp9profile`` and ``h264profile`` of an ``offer`` (behaviour reference
9.2).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NewType

from sdp.document import Description, MediaSection
from sdp.profiles import mismatch

PayloadType = NewType("PayloadType", int)

_TYPE = re.compile(r"0|[1-9][0-9]{0,2}")
_MAPPING = re.compile(r"([0-9]{1,3}) +([^/\s]+)/([0-9]{1,9})(?:/([0-9]{1,3}))?\s*")
_ABOUT = re.compile(r"a=(?:rtpmap|fmtp|rtcp-fb|imageattr):([0-9]+)(?![0-9])")
_RID = re.compile(r"(?P<head>\S+ +(?:send|recv)) +(?P<restrictions>\S.*)")
_STATIC = {0: ("pcmu", 8000), 3: ("gsm", 8000), 8: ("pcma", 8000), 9: ("g722", 8000), 13: ("cn", 8000)}  # RFC 3551 6
_ALIASES = {"av1x": "av1", "hevc": "h265"}  # names in use before the payload formats were registered
_REPAIR = frozenset(("ulpfec", "flexfec", "flexfec-03"))
_TONES = frozenset(("telephone-event", "cn"))
_HELPERS = _REPAIR | _TONES | {"rtx", "red"}


@dataclass(frozen=True, slots=True)
class Payload:
    """One payload type of a section, with all that the section says about it."""

    type: PayloadType
    codec: str  # lower case; the name in use today where there are several
    clock_rate: int  # Hz
    channels: int
    fmtp: str = ""  # the format parameters as written, "" without
    apt: PayloadType | None = None  # rtx: the payload type that is retransmitted
    feedback: tuple[str, ...] = ()  # "nack pli", ... in order, those for "*" included

    @property
    def is_helper(self) -> bool:
        """Whether this carries no medium of its own but repairs, repeats or accompanies another payload type."""
        return self.codec in _HELPERS

    @property
    def parameters(self) -> dict[str, str]:
        """The format parameters by lower-case name; those that are not ``name=value`` are left out."""
        pairs = (part.partition("=") for part in self.fmtp.split(";"))
        return {name.strip().lower(): value.strip() for name, equals, value in pairs if equals}


@dataclass(frozen=True, slots=True)
class Preference:
    """What a client wishes to send, preferred first; empty: it does not care."""

    audio: tuple[str, ...] = ()  # lower-case codec names
    video: tuple[str, ...] = ()
    vp9profile: str = ""  # "0" to "3"
    h264profile: str = ""  # profile-level-id, six hexadecimal digits

    @classmethod
    def parse(
        cls, audiocodec: str = "", videocodec: str = "", vp9profile: str = "", h264profile: str = ""
    ) -> Preference:
        """Read the comma-separated texts of an ``offer`` message; a codec that does not exist is just never found."""
        return cls(_names(audiocodec), _names(videocodec), vp9profile.strip().lower(), h264profile.strip().lower())

    def codecs(self, kind: str) -> tuple[str, ...]:
        """Return the codecs wished for a kind of media."""
        return {"audio": self.audio, "video": self.video}.get(kind, ())

    def profile(self, codec: str) -> str:
        """Return the profile wished for a codec, "" for any."""
        return {"vp9": self.vp9profile, "h264": self.h264profile}.get(codec, "")


def payloads(section: MediaSection) -> list[Payload]:
    """Return the payload types of the ``m=`` line in its order.

    Those without ``rtpmap`` are known only if RFC 3551 assigns them; the others are left out. Sections that are not
    RTP have none.
    """
    if not section.is_rtp:
        return []
    mappings = _mappings(section)
    formats = _by_type(section, "fmtp")
    feedback = _by_type(section, "rtcp-fb")
    everywhere = feedback.get("*", [])
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
                feedback=(*feedback.get(token, ()), *everywhere),
            )
        )
    return found


def prefer(description: Description, preference: Preference) -> None:
    """Put the payload types of each ``m=`` line into the client's order: wished ones first, the rest behind.

    Only the order changes. Among the payload types of VP9 and H264 those of the wished profile come first; a
    retransmission goes with what it retransmits.
    """
    for section in description.media:
        found = payloads(section)
        if not section.rejected and found:
            section.formats = _ordered(section, found, preference)


def restrict(description: Description, kind: str, codecs: Iterable[str]) -> None:
    """Take all other codecs out of the sections of a kind, with every line about them.

    What accompanies a codec stays or goes with it: rtx with the payload type it repeats, audio red with all it names,
    comfort noise and tones with their clock rate. A section that has none of ``codecs`` stays as it is.
    """
    wanted = {_canonical(codec) for codec in codecs}
    for section in description.media:
        if section.kind != kind or section.rejected:
            continue
        kept = _kept(payloads(section), wanted)
        if kept:
            _strip(section, {str(payload_type) for payload_type in kept})


def _names(text: str) -> tuple[str, ...]:
    names = (_canonical(name) for name in text.split(","))
    return tuple(dict.fromkeys(name for name in names if name))


def _canonical(codec: str) -> str:
    name = codec.strip().lower()
    return _ALIASES.get(name, name)


def _mappings(section: MediaSection) -> dict[str, tuple[str, int, int]]:
    mappings = {str(number): (name, rate, 1) for number, (name, rate) in _STATIC.items()}
    for value in section.attributes("rtpmap"):
        match = _MAPPING.fullmatch(value)
        if match and _TYPE.fullmatch(match[1]) and int(match[1]) < 128:
            mappings[match[1]] = (_canonical(match[2]), int(match[3]), int(match[4] or 1))
    return mappings


def _by_type(section: MediaSection, name: str) -> dict[str, list[str]]:
    """Gather the values of ``a=name:<payload type> <value>`` lines."""
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


def _named_by_red(payload: Payload) -> list[int] | None:
    """Return the payload types within audio red ("111/111"); ``None``: it names none and takes any, as in video."""
    parts = [part.strip() for part in payload.fmtp.split("/")]
    if not all(map(_TYPE.fullmatch, parts)):
        return None
    return [int(part) for part in parts]


def _kept(found: list[Payload], wanted: set[str]) -> set[PayloadType]:
    """Choose the payload types that stay; none if no codec is wanted."""
    kept = {payload.type for payload in found if payload.codec in wanted and not payload.is_helper}
    if not kept:
        return kept
    rates = {payload.clock_rate for payload in found if payload.type in kept}
    for payload in found:
        if payload.codec in _TONES and payload.clock_rate in rates:
            kept.add(payload.type)
    for payload in found:
        if payload.codec in _REPAIR or (payload.codec == "red" and kept.issuperset(_named_by_red(payload) or ())):
            kept.add(payload.type)
    for payload in found:
        if payload.codec == "rtx" and payload.apt in kept:
            kept.add(payload.type)
    return kept


def _strip(section: MediaSection, kept: set[str]) -> None:
    """Leave only these payload types in the section, in their order."""

    def unwanted(line: str) -> bool:
        match = _ABOUT.match(line)
        return match is not None and match[1] not in kept

    section.remove(unwanted)
    section.formats = [token for token in section.formats if token in kept]
    for position, value in section.indexed("rid"):
        section.replace(position, f"a=rid:{_rid(value, kept)}")


def _rid(value: str, kept: set[str]) -> str:
    """Take payload types that are gone out of a ``rid`` restriction (RFC 8851 4); one that names no other goes too."""
    match = _RID.fullmatch(value)
    if match is None:
        return value
    before = match["restrictions"].split(";")
    after = [left for restriction in before if (left := _rid_restriction(restriction, kept)) is not None]
    return value if after == before else " ".join(filter(None, (match["head"], ";".join(after))))


def _rid_restriction(restriction: str, kept: set[str]) -> str | None:
    name, _, listed = restriction.partition("=")
    if name.strip() != "pt":
        return restriction
    left = [token for token in listed.split(",") if token.strip() in kept]
    return f"{name}={','.join(left)}" if left else None


def _ordered(section: MediaSection, found: list[Payload], preference: Preference) -> list[str]:
    """Sort twice, both times stable: by profile within the places of a codec, then by the wish for the codec."""
    mains = {payload.type: payload for payload in found}
    codecs = preference.codecs(section.kind)

    def main(token: str) -> Payload | None:
        payload = mains.get(PayloadType(int(token))) if _TYPE.fullmatch(token) else None
        if payload is not None and payload.codec == "rtx" and payload.apt is not None:
            return mains.get(payload.apt)
        return payload

    def codec(token: str) -> str:
        payload = main(token)
        return "" if payload is None else payload.codec

    def distance(token: str) -> int:
        payload = main(token)
        return 0 if payload is None else mismatch(payload.codec, payload.parameters, preference.profile(payload.codec))

    def rank(token: str) -> int:
        name = codec(token)
        return codecs.index(name) if name in codecs else len(codecs)

    tokens = list(section.formats)
    for name in ("vp9", "h264"):
        if preference.profile(name):
            tokens = _sorted_within(tokens, {token for token in tokens if codec(token) == name}, distance)
    return sorted(tokens, key=rank)


def _sorted_within(tokens: list[str], chosen: set[str], key: Callable[[str], int]) -> list[str]:
    """Sort the chosen ones among the places they hold; the others stay where they are."""
    in_order = iter(sorted((token for token in tokens if token in chosen), key=key))
    return [next(in_order) if token in chosen else token for token in tokens]
