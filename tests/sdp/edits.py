"""Every edit that the package offers, and the lines that it may remove and add."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from sdp.bitrate import limit_media
from sdp.candidates import CandidateFilter, filter_description
from sdp.codecs import CodecPreference, payloads, prefer, restrict
from sdp.document import Description, MediaSection

NOTHING = re.compile(r"(?!)")
FORMATS = re.compile(r"m=")
CODEC_LINES = re.compile(r"m=|a=(rtpmap|fmtp|rtcp-fb|imageattr|rid):")
BANDWIDTH = re.compile(r"b=(AS|TIAS):")
CANDIDATE = re.compile(r"(?is)a=.*candidate:")
_ABOUT = re.compile(r"a=(rtpmap|fmtp|rtcp-fb):([0-9]+)(?![0-9])")
STATIC_TYPES = {"0", "3", "8", "9", "13"}  # payload types of RFC 3551 that need no rtpmap


@dataclass(frozen=True, slots=True)
class Edit:
    """An edit of a description, and patterns of the lines that it may remove and add."""

    name: str
    apply: Callable[[Description], object]
    removes: re.Pattern[str]
    adds: re.Pattern[str]


def _prefer(name: str, audio: str = "", video: str = "", vp9: str = "", h264: str = "") -> Edit:
    preference = CodecPreference.parse(audio, video, vp9, h264)
    return Edit(f"prefer-{name}", lambda description: prefer(description, preference), FORMATS, FORMATS)


def _restrict(kind: str, *codecs: str) -> Edit:
    name = f"restrict-{kind}-{'-'.join(codecs)}"
    return Edit(name, lambda description: restrict(description, kind, codecs), CODEC_LINES, CODEC_LINES)


def _limit(rate: int, *kinds: str) -> Edit:
    name = f"limit-{'-'.join(kinds)}-{rate}"
    return Edit(name, lambda description: limit_media(description, kinds, rate), BANDWIDTH, BANDWIDTH)


def _filter(name: str, candidate_filter: CandidateFilter) -> Edit:
    return Edit(
        f"filter-{name}", lambda description: filter_description(description, candidate_filter), CANDIDATE, NOTHING
    )


EDITS = [
    _prefer("empty"),
    _prefer("offered-by-none", "nonsense", "nonsense", "9", "nonsense"),
    _prefer("pcmu-opus", audio="pcmu,opus"),
    _prefer("red", audio="red"),
    _prefer("vp8", video="vp8"),
    _prefer("h264", video="h264,vp8", h264="42e01f"),
    _prefer("h264-main", video="h264", h264="4d0028"),
    _prefer("vp9-2", video="vp9", vp9="2"),
    _prefer("profiles-only", vp9="2", h264="42e01f"),
    _prefer("av1", video="av1,vp9,h264,vp8"),
    _restrict("audio", "opus"),
    _restrict("audio", "pcmu", "g722"),
    _restrict("audio", "nonsense"),
    _restrict("video", "vp8"),
    _restrict("video", "vp9"),
    _restrict("video", "h264"),
    _restrict("video", "av1", "h265"),
    _restrict("video", "red", "rtx"),
    _limit(1, "audio"),
    _limit(1, "video"),
    _limit(200_000, "video"),
    _limit(2**40, "audio", "video", "application"),
    _filter("unusable", CandidateFilter()),
    _filter("blocked", CandidateFilter(allowed=["127.0.0.1"], blocked=["0.0.0.0/0", "::/0"])),
    _filter("everything", CandidateFilter(blocked=["0.0.0.0/0", "::/0"])),
]


def problems(section: MediaSection) -> set[str]:
    """Return the inconsistencies among the payload types of a media section."""
    if not section.is_rtp or section.rejected:
        return set()
    found = payloads(section)
    mapped = {value.split(" ")[0] for value in section.attributes("rtpmap")}
    formats = set(section.formats)
    dangling = {
        f"{match[1]} {match[2]} without payload type"
        for line in section.lines
        if (match := _ABOUT.match(line)) and match[2] not in formats
    }
    unmapped = {f"{token} without rtpmap" for token in formats - mapped - STATIC_TYPES}
    orphans = {
        f"{payload.type} retransmits a removed payload type"
        for payload in found
        if payload.codec == "rtx" and str(payload.apt) not in formats
    }
    reds = {
        f"{payload.type} names a removed payload type"
        for payload in found
        if payload.codec == "red" and not _complete(payload.fmtp, formats)
    }
    return dangling | unmapped | orphans | reds


def _complete(fmtp: str, formats: set[str]) -> bool:
    return not re.fullmatch(r"[0-9/]+", fmtp) or formats.issuperset(fmtp.split("/"))
