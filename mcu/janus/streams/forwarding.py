"""What a publisher sends, m-line by m-line, as a second Janus has to be told of it. Pure.

The first format of each m-line of the answer is what is sent (RFC 8829 5.3.1); VideoRoom plugin documentation,
"Remote publishers".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mcu.base import MediaKind
from mcu.janus.streams.descriptions import KINDS
from sdp.document import Description, MediaSection
from sdp.payloads import payloads

PLACEHOLDER = {
    MediaKind.AUDIO: "opus",
    MediaKind.VIDEO: "vp8",
}  # for an m-line without a codec: Janus wants one of each
AUDIO_LEVEL = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
PLAYOUT_DELAY = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay"


@dataclass(frozen=True, slots=True)
class ForwardedMedium:
    """One m-line of a publisher."""

    index: int
    kind: MediaKind
    codec: str = ""  # of data: none
    disabled: bool = False  # the m-line was rejected: it only holds its place
    flows: bool = True  # neither rejected nor switched off
    profile: str = ""  # of H.264 and VP9
    flags: frozenset[str] = frozenset()  # of "stereo", "fec", "dtx", "simulcast"
    extensions: dict[str, int] = field(default_factory=dict)

    @property
    def mid(self) -> str:
        """How the second Janus calls it: always by its place."""
        return str(self.index)

    def differs(self, before: ForwardedMedium) -> bool:
        """Whether it has become something that a second Janus cannot be told of in an update."""
        return (self.kind, self.codec, self.profile, self.flags) != (
            before.kind,
            before.codec,
            before.profile,
            before.flags,
        )

    def wire(self) -> dict[str, Any]:
        """Return what Janus is told."""
        told: dict[str, Any] = {"mid": self.mid, "mindex": self.index, "type": self.kind.value}
        if self.codec:
            told["codec"] = self.codec
        return told | {"disabled": self.disabled} | dict.fromkeys(sorted(self.flags), True) | self.extensions


def media_of(offer: Description, answer: Description) -> tuple[ForwardedMedium, ...]:
    """Return the media that a publisher sends after Janus has answered its offer.

    M-lines of a kind that VideoRoom does not know are held as rejected video: so all keep their places.
    """
    offered = offer.media
    return tuple(
        _medium(place, section, offered[place] if place < len(offered) else section)
        for place, section in enumerate(answer.media)
    )


def _medium(place: int, answered: MediaSection, offered: MediaSection) -> ForwardedMedium:
    kind = KINDS.get(answered.kind, MediaKind.VIDEO)
    flows = not answered.rejected and answered.direction != "inactive"
    if kind is MediaKind.DATA:
        return ForwardedMedium(place, kind, disabled=answered.rejected, flows=flows)
    payload = next((payload for payload in payloads(answered) if not payload.is_auxiliary), None)
    if answered.rejected or payload is None:
        return ForwardedMedium(place, kind, PLACEHOLDER[kind], disabled=True, flows=False)
    parameters = payload.parameters
    if kind is MediaKind.AUDIO:
        switches = {"stereo": "stereo", "fec": "useinbandfec", "dtx": "usedtx"}
        flags = frozenset(name for name, parameter in switches.items() if parameters.get(parameter) == "1")
        extensions = _extensions(answered, audiolevel_ext_id=AUDIO_LEVEL)
        return ForwardedMedium(place, kind, payload.codec, flows=flows, flags=flags, extensions=extensions)
    profile = {"h264": "profile-level-id", "vp9": "profile-id"}.get(payload.codec, "")
    flags = frozenset({"simulcast"} if _is_simulcast(answered, offered) else ())
    extensions = _extensions(answered, playoutdelay_ext_id=PLAYOUT_DELAY)
    return ForwardedMedium(
        place, kind, payload.codec, flows=flows, profile=parameters.get(profile, ""), flags=flags, extensions=extensions
    )


def _is_simulcast(answered: MediaSection, offered: MediaSection) -> bool:
    grouped = any(group.startswith("SIM ") for group in offered.attributes("ssrc-group"))
    return grouped or answered.attribute("simulcast") is not None


def _extensions(section: MediaSection, **wanted: str) -> dict[str, int]:
    """Return the ids of header extensions; those of other forms than ``<id> <uri>`` are left out."""
    found = {}
    for value in section.attributes("extmap"):
        number, _, uri = value.partition(" ")
        number = number.partition("/")[0]
        for name, wanted_uri in wanted.items():
            if uri.split(" ")[0] == wanted_uri and number.isdecimal():
                found[name] = int(number)
    return found
