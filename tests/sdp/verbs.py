"""Every verb of the package as it is used, and what each may touch."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from sdp.bitrate import limit_media
from sdp.candidates import CandidateFilter, filter_description
from sdp.codecs import Preference, payloads, prefer, restrict
from sdp.document import Description, MediaSection

NOTHING = re.compile(r"(?!)")
FORMATS = re.compile(r"m=")
CODEC_LINES = re.compile(r"m=|a=(rtpmap|fmtp|rtcp-fb|imageattr|rid):")
BANDWIDTH = re.compile(r"b=(AS|TIAS):")
CANDIDATE = re.compile(r"(?is)a=.*candidate:")
_ABOUT = re.compile(r"a=(rtpmap|fmtp|rtcp-fb):([0-9]+)(?![0-9])")
STATIC = {"0", "3", "8", "9", "13"}  # those of RFC 3551 that sdp.codecs knows without rtpmap


@dataclass(frozen=True, slots=True)
class Verb:
    """An edit, and which lines it may take away and put in."""

    name: str
    edit: Callable[[Description], object]
    takes: re.Pattern[str]
    puts: re.Pattern[str]


def _prefer(name: str, audio: str = "", video: str = "", vp9: str = "", h264: str = "") -> Verb:
    wish = Preference.parse(audio, video, vp9, h264)
    return Verb(f"prefer-{name}", lambda description: prefer(description, wish), FORMATS, FORMATS)


def _restrict(kind: str, *codecs: str) -> Verb:
    name = f"restrict-{kind}-{'-'.join(codecs)}"
    return Verb(name, lambda description: restrict(description, kind, codecs), CODEC_LINES, CODEC_LINES)


def _limit(rate: int, *kinds: str) -> Verb:
    name = f"limit-{'-'.join(kinds)}-{rate}"
    return Verb(name, lambda description: limit_media(description, kinds, rate), BANDWIDTH, BANDWIDTH)


def _filter(name: str, candidate_filter: CandidateFilter) -> Verb:
    return Verb(
        f"filter-{name}", lambda description: filter_description(description, candidate_filter), CANDIDATE, NOTHING
    )


VERBS = [
    _prefer("nothing"),
    _prefer("nobody-has", "nonsense", "nonsense", "9", "nonsense"),
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
    """Say what is inconsistent about the payload types of a section."""
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
    unmapped = {f"{token} without rtpmap" for token in formats - mapped - STATIC}
    orphans = {
        f"{one.type} repeats what is gone" for one in found if one.codec == "rtx" and str(one.apt) not in formats
    }
    reds = {
        f"{one.type} names what is gone" for one in found if one.codec == "red" and not _complete(one.fmtp, formats)
    }
    return dangling | unmapped | orphans | reds


def _complete(fmtp: str, formats: set[str]) -> bool:
    return not re.fullmatch(r"[0-9/]+", fmtp) or formats.issuperset(fmtp.split("/"))
