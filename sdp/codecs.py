"""Codecs of a description: put them into a preferred order, or remove some.

Source: RFC 3264 5.1 (the order of formats is the preference), RFC 8851 4 (rid). A client states its preference in
``audiocodec``, ``videocodec``, ``vp9profile`` and ``h264profile`` of an ``offer`` (reference 9.2).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from sdp.document import Description, MediaSection
from sdp.payloads import REPAIR_CODECS, TONES_AND_NOISE, Payload, PayloadType, canonical, payloads
from sdp.profiles import CODECS_WITH_PROFILES, CONSTRAINED_BASELINE, DEFAULT_PROFILES, OTHER_PROFILE, distance

__all__ = [
    "CodecPreference",
    "Payload",
    "PayloadType",
    "common_h264_profile",
    "listed",
    "payloads",
    "prefer",
    "restrict",
]

_PAYLOAD_TYPE_LINE = re.compile(r"a=(?:rtpmap|fmtp|rtcp-fb|imageattr):([0-9]+)(?![0-9])")
_RID = re.compile(r"(?P<head>\S+ +(?:send|recv)) +(?P<restrictions>\S.*)")


@dataclass(frozen=True, slots=True)
class CodecPreference:
    """The codecs and profiles that a publisher prefers, first preferred; empty: no preference."""

    audio: tuple[str, ...] = ()  # lower-case codec names
    video: tuple[str, ...] = ()
    vp9profile: str = ""  # "0" to "3"
    h264profile: str = ""  # profile-level-id, six hexadecimal digits

    @classmethod
    def parse(
        cls, audiocodec: str = "", videocodec: str = "", vp9profile: str = "", h264profile: str = ""
    ) -> CodecPreference:
        """Parse the comma-separated texts of an ``offer`` message; an unknown codec name has no effect."""
        return cls(_names(audiocodec), _names(videocodec), vp9profile.strip().lower(), h264profile.strip().lower())

    def codecs(self, kind: str) -> tuple[str, ...]:
        """Return the preferred codecs of a media kind."""
        return {"audio": self.audio, "video": self.video}.get(kind, ())

    def profile(self, codec: str) -> str:
        """Return the preferred profile of a codec, by default the one that all its receivers decode; "" accepts any."""
        return {"vp9": self.vp9profile, "h264": self.h264profile}.get(codec, "") or DEFAULT_PROFILES.get(codec, "")


def prefer(description: Description, preference: CodecPreference) -> None:
    """Reorder the payload types of each ``m=`` line: preferred codecs first, the others behind.

    Only the order changes. Among the payload types of a codec those of the preferred profile come first; an rtx
    payload type moves with its original payload type.
    """
    ranks = {kind: _ranks(preference.codecs(kind)) for kind in ("audio", "video")}
    for section in description.media:
        found = payloads(section)
        if not section.rejected and found:
            section.formats = _ordered(section.formats, found, preference, ranks.get(section.kind, {}))


def restrict(description: Description, kind: str, codecs: Iterable[str]) -> None:
    """Remove all codecs but ``codecs``, with all their lines, from the sections of a media kind.

    An auxiliary payload type is kept or removed with the codec that it belongs to: rtx with the payload type that it
    retransmits, audio red with all payload types that it encloses, comfort noise and tones with their clock rate.
    Video red and error correction are kept with any codec. A section that has none of ``codecs`` stays as it is.
    """
    wanted = {canonical(codec) for codec in codecs}
    for section in description.media:
        if section.kind != kind or section.rejected:
            continue
        kept = _kept_types(payloads(section), wanted)
        if kept:
            _strip(section, {str(payload_type) for payload_type in kept})


def listed(description: Description, kind: str) -> tuple[str, ...]:
    """Return the codecs of a media kind's sections in order, without rejected sections and auxiliary payload types."""
    sections = (section for section in description.media if section.kind == kind and not section.rejected)
    found = (payload.codec for section in sections for payload in payloads(section) if not payload.is_auxiliary)
    return tuple(dict.fromkeys(found))


def common_h264_profile(description: Description) -> str:
    """Return the ``profile-level-id`` of the offered H264 that every WebRTC endpoint decodes; empty if there is none.

    That is constrained baseline (RFC 7742 6.2), preferably in packetization mode 1.
    """
    found = [
        (not _is_non_interleaved(payload), payload.parameters["profile-level-id"])
        for section in description.media
        for payload in payloads(section)
        if payload.codec == "h264"
        and distance("h264", payload.parameters, CONSTRAINED_BASELINE) != OTHER_PROFILE
        and "profile-level-id" in payload.parameters
    ]
    return min(found, key=lambda entry: entry[0])[1].lower() if found else ""


def _names(text: str) -> tuple[str, ...]:
    names = (canonical(name) for name in text.split(","))
    return tuple(dict.fromkeys(name for name in names if name))


def _kept_types(found: Sequence[Payload], wanted: set[str]) -> set[PayloadType]:
    """Return the payload types of one section to keep; none if it has no wanted codec."""
    kept = {payload.type for payload in found if payload.codec in wanted and not payload.is_auxiliary}
    if not kept:
        return kept
    rates = {payload.clock_rate for payload in found if payload.type in kept}
    for payload in found:
        if payload.codec in TONES_AND_NOISE and payload.clock_rate in rates:
            kept.add(payload.type)
    for payload in found:
        if payload.codec in REPAIR_CODECS or (payload.codec == "red" and kept >= payload.enclosed_types):
            kept.add(payload.type)
    for payload in found:
        if payload.codec == "rtx" and payload.apt in kept:
            kept.add(payload.type)
    return kept


def _strip(section: MediaSection, kept: set[str]) -> None:
    """Remove all payload types but ``kept`` from the section."""

    def unwanted(line: str) -> bool:
        match = _PAYLOAD_TYPE_LINE.match(line)
        return match is not None and match[1] not in kept

    section.remove(unwanted)
    section.formats = [token for token in section.formats if token in kept]
    for position, value in section.indexed("rid"):
        section.replace(position, f"a=rid:{_strip_rid(value, kept)}")


def _strip_rid(value: str, kept: set[str]) -> str:
    """Remove payload types that are not kept from a ``pt`` restriction (RFC 8851 4), and the restriction if empty."""
    match = _RID.fullmatch(value)
    if match is None:
        return value
    before = match["restrictions"].split(";")
    after = [left for restriction in before if (left := _strip_restriction(restriction, kept)) is not None]
    return value if after == before else " ".join(filter(None, (match["head"], ";".join(after))))


def _strip_restriction(restriction: str, kept: set[str]) -> str | None:
    name, _, listed = restriction.partition("=")
    if name.strip() != "pt":
        return restriction
    left = [token for token in listed.split(",") if token.strip() in kept]
    return f"{name}={','.join(left)}" if left else None


def _ranks(codecs: tuple[str, ...]) -> dict[str, int]:
    return {codec: rank for rank, codec in enumerate(dict.fromkeys(codecs))}


def _ordered(
    formats: tuple[str, ...], found: Sequence[Payload], preference: CodecPreference, ranks: dict[str, int]
) -> list[str]:
    """Sort payload types by profile within the positions of their codec, then, stably, by the codec's rank.

    An rtx payload type sorts as the payload type that it retransmits.
    """
    by_type = {payload.type: payload for payload in found}
    originals = {str(payload.type): by_type.get(payload.original_type, payload) for payload in found}
    by_original = {original.type: _distance(original, preference) for original in set(originals.values())}
    distances = {token: by_original[original.type] for token, original in originals.items()}
    tokens = list(formats)
    for codec in CODECS_WITH_PROFILES:
        of_codec = {token for token, original in originals.items() if original.codec == codec}
        tokens = _sorted_within(tokens, of_codec, distances.__getitem__)
    rank_of = {token: ranks.get(original.codec, len(ranks)) for token, original in originals.items()}
    return sorted(tokens, key=lambda token: rank_of.get(token, len(ranks)))


def _distance(payload: Payload, preference: CodecPreference) -> tuple[int, bool]:
    """Return the distance from the preferred profile and, if one of H264 is preferred, whether the mode is not 1."""
    profile_distance = distance(payload.codec, payload.parameters, preference.profile(payload.codec))
    return profile_distance, bool(preference.h264profile) and not _is_non_interleaved(payload)


def _is_non_interleaved(payload: Payload) -> bool:
    """Return whether H264 has packetization mode 1 (RFC 6184 6), as browsers send it; true for other codecs."""
    return payload.codec != "h264" or payload.parameters.get("packetization-mode") == "1"


def _sorted_within(tokens: list[str], chosen: set[str], key: Callable[[str], tuple[int, bool]]) -> list[str]:
    """Sort the chosen tokens among the positions that they hold; all others keep their position."""
    in_order = iter(sorted((token for token in tokens if token in chosen), key=key))
    return [next(in_order) if token in chosen else token for token in tokens]
