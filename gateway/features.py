"""The feature ids that are announced: exactly those whose promise holds.

Source: reference 13.1. They stand in the welcome message, in the hello reply, and in the header
``X-Spreed-Signaling-Features`` of every response and of every request to Nextcloud.
"""

from __future__ import annotations

_ALWAYS = (
    "ack",
    "audio-video-permissions",
    "chat-relay",
    "dialout",
    "hello-v2",
    "incall-all",
    "join-features",
    "recipient-call",
    "serverinfo",
    "switchto",
    "transient-data",
    "transient-sessiondata",
    "welcome",
)
_WITH_MCU = ("mcu", "offer-codecs", "republish", "simulcast", "update-sdp")


_VIRTUAL_SESSIONS = "virtual-sessions"  # what internal clients may add, and everybody is welcomed with
_NOT_INTERNAL = frozenset({"audio-video-permissions"})


def internal(mcu: str) -> tuple[str, ...]:
    """Return the ids for internal clients, sorted."""
    return tuple(sorted({*announced(mcu), _VIRTUAL_SESSIONS} - _NOT_INTERNAL))


def welcome(mcu: str) -> tuple[str, ...]:
    """Return the ids of the welcome message, sorted."""
    return tuple(sorted((*announced(mcu), _VIRTUAL_SESSIONS)))


def announced(mcu: str) -> tuple[str, ...]:
    """Return the ids for a gateway with this type of SFU (``none``: without), sorted."""
    if mcu == "none":
        return _ALWAYS
    return tuple(sorted((*_ALWAYS, *_WITH_MCU)))
