"""Codecs of a description: ordered as a client wishes, or taken out.

Source: RFC 3264 5.1 (the order of formats is the preference), RFC 8851 4 (rid). The wishes are ``audiocodec``,
``videocodec``, ``vp9profile`` and ``h264profile`` of an ``offer`` (reference 9.2).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sdp.document import Description, MediaSection
from sdp.payloads import REPAIR, TONES, Payload, PayloadType, canonical, payloads
from sdp.profiles import mismatch

__all__ = ["Payload", "PayloadType", "Preference", "listed", "payloads", "prefer", "restrict"]

_ABOUT = re.compile(r"a=(?:rtpmap|fmtp|rtcp-fb|imageattr):([0-9]+)(?![0-9])")
_RID = re.compile(r"(?P<head>\S+ +(?:send|recv)) +(?P<restrictions>\S.*)")


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


def prefer(description: Description, preference: Preference) -> None:
    """Put the payload types of each ``m=`` line into the client's order: wished ones first, the rest behind.

    Only the order changes. Among the payload types of VP9 and H264 those of the wished profile come first; a
    retransmission goes with what it retransmits.
    """
    ranks = {kind: _ranks(preference.codecs(kind)) for kind in ("audio", "video")}
    for section in description.media:
        found = payloads(section)
        if not section.rejected and found:
            section.formats = _ordered(section.formats, found, preference, ranks.get(section.kind, {}))


def restrict(description: Description, kind: str, codecs: Iterable[str]) -> None:
    """Take all other codecs out of the sections of a kind, with every line about them.

    What accompanies a codec stays or goes with it: rtx with the payload type it repeats, audio red with all it names,
    comfort noise and tones with their clock rate. A section that has none of ``codecs`` stays as it is.
    """
    wanted = {canonical(codec) for codec in codecs}
    for section in description.media:
        if section.kind != kind or section.rejected:
            continue
        kept = _kept(payloads(section), wanted)
        if kept:
            _strip(section, {str(payload_type) for payload_type in kept})


def listed(description: Description, kind: str) -> tuple[str, ...]:
    """Return the codecs of the sections of a kind that are not rejected, in their order, helpers left out."""
    sections = (section for section in description.media if section.kind == kind and not section.rejected)
    found = (payload.codec for section in sections for payload in payloads(section) if not payload.is_helper)
    return tuple(dict.fromkeys(found))


def _names(text: str) -> tuple[str, ...]:
    names = (canonical(name) for name in text.split(","))
    return tuple(dict.fromkeys(name for name in names if name))


def _kept(found: list[Payload], wanted: set[str]) -> set[PayloadType]:
    """Choose the payload types that stay; none if no codec is wanted."""
    kept = {payload.type for payload in found if payload.codec in wanted and not payload.is_helper}
    if not kept:
        return kept
    rates = {payload.clock_rate for payload in found if payload.type in kept}
    for payload in found:
        if payload.codec in TONES and payload.clock_rate in rates:
            kept.add(payload.type)
    for payload in found:
        if payload.codec in REPAIR or (payload.codec == "red" and kept >= payload.redundant):
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


def _ranks(codecs: tuple[str, ...]) -> dict[str, int]:
    return {codec: rank for rank, codec in enumerate(dict.fromkeys(codecs))}


def _ordered(
    formats: tuple[str, ...], found: list[Payload], preference: Preference, ranks: dict[str, int]
) -> list[str]:
    """Sort twice, both times stable: by profile within the places of a codec, then by the wish for the codec."""
    by_type = {payload.type: payload for payload in found}
    mains = {str(payload.type): by_type.get(payload.repeats, payload) for payload in found}
    distances = {
        token: mismatch(main.codec, main.parameters, preference.profile(main.codec)) for token, main in mains.items()
    }
    tokens = list(formats)
    for codec in ("vp9", "h264"):
        places = {token for token, main in mains.items() if main.codec == codec}
        tokens = _sorted_within(tokens, places, distances.__getitem__)
    by_token = {token: ranks.get(main.codec, len(ranks)) for token, main in mains.items()}
    return sorted(tokens, key=lambda token: by_token.get(token, len(ranks)))


def _sorted_within(tokens: list[str], chosen: set[str], key: Callable[[str], int]) -> list[str]:
    """Sort the chosen ones among the places they hold; the others stay where they are."""
    in_order = iter(sorted((token for token in tokens if token in chosen), key=key))
    return [next(in_order) if token in chosen else token for token in tokens]
