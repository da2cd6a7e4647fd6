"""The media of a publisher, m-line by m-line, as described to a second Janus. Pure.

The first format of each m-line of the answer is the one that is sent (RFC 8829 5.3.1); VideoRoom plugin documentation,
"Remote publishers".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mcu.base import MediaKind
from mcu.janus.streams.descriptions import MEDIA_KINDS
from sdp.document import Description, MediaSection
from sdp.payloads import payloads
from sdp.simulcast import layers

PLACEHOLDER = {
    MediaKind.AUDIO: "opus",
    MediaKind.VIDEO: "vp8",
}  # codecs of m-lines without a codec: Janus requires one
AUDIO_LEVEL = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"
PLAYOUT_DELAY = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay"


@dataclass(frozen=True, slots=True)
class ForwardedMedium:
    """One m-line of a publisher."""

    index: int  # position among the m-lines
    kind: MediaKind
    codec: str = ""  # empty for data
    disabled: bool = False  # a rejected m-line, which only keeps its position
    active: bool = True  # neither rejected nor inactive
    profile: str = ""  # of H.264 and VP9
    flags: frozenset[str] = frozenset()  # of "stereo", "fec", "dtx", "simulcast"
    extensions: dict[str, int] = field(default_factory=dict)

    @property
    def mid(self) -> str:
        """The mid on the second Janus, which is always the position."""
        return str(self.index)

    def replaces(self, before: ForwardedMedium) -> bool:
        """Return whether ``update_remote_publisher`` cannot express the difference to ``before``."""
        return (self.kind, self.codec, self.profile, self.flags) != (
            before.kind,
            before.codec,
            before.profile,
            before.flags,
        )

    def wire(self) -> dict[str, Any]:
        """Return the entry of ``streams`` in a request."""
        stream: dict[str, Any] = {"mid": self.mid, "mindex": self.index, "type": self.kind.value}
        if self.codec:
            stream["codec"] = self.codec
        return stream | {"disabled": self.disabled} | dict.fromkeys(sorted(self.flags), True) | self.extensions


def media_of(offer: Description, answer: Description) -> tuple[ForwardedMedium, ...]:
    """Return the media that a publisher sends after Janus has answered its offer.

    M-lines of a kind that VideoRoom does not know become rejected video, so that all keep their positions.
    """
    offered = offer.media
    return tuple(
        _medium(index, section, offered[index] if index < len(offered) else section)
        for index, section in enumerate(answer.media)
    )


def _medium(index: int, answered: MediaSection, offered: MediaSection) -> ForwardedMedium:
    kind = MEDIA_KINDS.get(answered.kind, MediaKind.VIDEO)
    active = not answered.rejected and answered.direction != "inactive"
    if kind is MediaKind.DATA:
        return ForwardedMedium(index, kind, disabled=answered.rejected, active=active)
    payload = next((payload for payload in payloads(answered) if not payload.is_auxiliary), None)
    if answered.rejected or payload is None:
        return ForwardedMedium(index, kind, PLACEHOLDER[kind], disabled=True, active=False)
    parameters = payload.parameters
    if kind is MediaKind.AUDIO:
        parameter_of = {"stereo": "stereo", "fec": "useinbandfec", "dtx": "usedtx"}
        flags = frozenset(flag for flag, parameter in parameter_of.items() if parameters.get(parameter) == "1")
        extensions = _extensions(answered, audiolevel_ext_id=AUDIO_LEVEL)
        return ForwardedMedium(index, kind, payload.codec, active=active, flags=flags, extensions=extensions)
    profile = {"h264": "profile-level-id", "vp9": "profile-id"}.get(payload.codec, "")
    return ForwardedMedium(
        index,
        kind,
        payload.codec,
        active=active,
        profile=parameters.get(profile, ""),
        flags=frozenset({"simulcast"} if _is_simulcast(answered, offered) else ()),
        extensions=_extensions(answered, playoutdelay_ext_id=PLAYOUT_DELAY),
    )


def _is_simulcast(answered: MediaSection, offered: MediaSection) -> bool:
    grouped = any(group.startswith("SIM ") for group in offered.attributes("ssrc-group"))
    return grouped or len(layers(answered, "recv")) > 1


def _extensions(section: MediaSection, **wanted: str) -> dict[str, int]:
    """Return the ids of header extensions by Janus' names; malformed lines are left out."""
    found = {}
    for value in section.attributes("extmap"):
        number, _, uri = value.partition(" ")
        number = number.partition("/")[0]
        for name, wanted_uri in wanted.items():
            if uri.split(" ")[0] == wanted_uri and number.isdecimal():
                found[name] = int(number)
    return found
