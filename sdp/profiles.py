"""The profiles of video codecs: whether two payload types are one format, and the distance from a preferred profile.

Source: RFC 6184 8.1 (``profile-level-id``) and 8.2.2 (the profile counts more than the level; the packetization mode is
symmetric), RFC 9628 6.1 (VP9's ``profile-id``), the RTP payload format for AV1 7.2.1 (``profile``), RFC 7798 7.1
(H265's ``profile-id`` and ``tx-mode``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

SAME_LEVEL, SAME_PROFILE, OTHER_PROFILE = 0, 1, 2  # distance from the preferred profile

CONSTRAINED_BASELINE = "42e01f"  # H264 that every WebRTC endpoint decodes (RFC 7742 6.2), at level 3.1

_PROFILE_LEVEL_ID = re.compile(r"[0-9a-f]{6}")
_H264_DEFAULT = "42000a"  # Baseline, level 1: the default of RFC 6184 8.1
DEFAULT_PROFILES = {"vp9": "0", "av1": "0", "h265": "1"}  # every receiver of the codec decodes them
CODECS_WITH_PROFILES = frozenset((*DEFAULT_PROFILES, "h264"))
_PROFILE_PARAMETERS = {"vp9": "profile-id", "av1": "profile", "h265": "profile-id"}
# profile_idc, mask and value of profile-iop: RFC 6184 table 5, and the two High profiles of H.264 A.2
_H264_PROFILES = (
    (0x42, 0x4F, 0x40, "constrained baseline"),
    (0x4D, 0x8F, 0x80, "constrained baseline"),
    (0x58, 0xCF, 0xC0, "constrained baseline"),
    (0x42, 0x4F, 0x00, "baseline"),
    (0x58, 0xCF, 0x80, "baseline"),
    (0x4D, 0xAF, 0x00, "main"),
    (0x58, 0xCF, 0x00, "extended"),
    (0x64, 0xFF, 0x00, "high"),
    (0x64, 0xFF, 0x0C, "constrained high"),
)


def distance(codec: str, parameters: Mapping[str, str], preferred: str) -> int:
    """Return ``SAME_LEVEL``, ``SAME_PROFILE`` or ``OTHER_PROFILE`` for a payload type's format parameters.

    ``SAME_PROFILE`` is H264 of the preferred profile at another level. The result is ``SAME_LEVEL`` for a codec without
    profiles, and if no profile is preferred.
    """
    if not preferred:
        return SAME_LEVEL
    if codec in DEFAULT_PROFILES:
        return SAME_LEVEL if _profile(codec, parameters) == preferred else OTHER_PROFILE
    if codec == "h264":
        return _h264_distance(_h264_profile_level_id(parameters), preferred.lower())
    return SAME_LEVEL


def same_format(codec: str, offered: Mapping[str, str], answered: Mapping[str, str]) -> bool:
    """Return whether the format parameters of an offer and an answer name one format of a codec with profiles.

    Browsers take a payload type of another profile, or H264 in another packetization mode, for another codec.
    """
    if codec in DEFAULT_PROFILES:
        same_tx_mode = codec != "h265" or _tx_mode(offered) == _tx_mode(answered)
        return same_tx_mode and _profile(codec, offered) == _profile(codec, answered)
    if offered.get("packetization-mode", "0") != answered.get("packetization-mode", "0"):
        return False
    return _h264_profile(_h264_profile_level_id(offered)) == _h264_profile(_h264_profile_level_id(answered))


def _profile(codec: str, parameters: Mapping[str, str]) -> str:
    return parameters.get(_PROFILE_PARAMETERS[codec], DEFAULT_PROFILES[codec])


def _tx_mode(parameters: Mapping[str, str]) -> str:
    return parameters.get("tx-mode", "SRST").upper()


def _h264_profile_level_id(parameters: Mapping[str, str]) -> str:
    return parameters.get("profile-level-id", _H264_DEFAULT).lower()


def _h264_distance(offered: str, preferred: str) -> int:
    if offered[:6] == preferred[:6]:
        return SAME_LEVEL
    return SAME_PROFILE if _h264_profile(offered) == _h264_profile(preferred) else OTHER_PROFILE


def _h264_profile(profile_level_id: str) -> str:
    """Return the profile's name; an unknown id counts as a profile of its own."""
    if _PROFILE_LEVEL_ID.fullmatch(profile_level_id[:6]) is None:
        return profile_level_id
    number, constraints = int(profile_level_id[:2], 16), int(profile_level_id[2:4], 16)
    for profile, mask, value, name in _H264_PROFILES:
        if number == profile and constraints & mask == value:
            return name
    return profile_level_id[:4]
