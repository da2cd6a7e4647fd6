"""The feature ids that the gateway announces: exactly the implemented ones.

Source: reference 13.1. They are in the welcome message, in the hello reply, and in the header
``X-Spreed-Signaling-Features`` of every response and of every request to Nextcloud.
"""

from __future__ import annotations

_UNCONDITIONAL = (
    "ack",
    "audio-video-permissions",
    "changed-users",
    "chat-relay",
    "dialout",
    "federation",
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
_VIRTUAL_SESSIONS = "virtual-sessions"  # in the welcome message, and in the hello reply to internal clients
_NOT_INTERNAL = frozenset({"audio-video-permissions"})


def internal(mcu: str) -> tuple[str, ...]:
    """Return the ids in the hello reply to internal clients, sorted."""
    return tuple(sorted({*announced(mcu), _VIRTUAL_SESSIONS} - _NOT_INTERNAL))


def welcome(mcu: str) -> tuple[str, ...]:
    """Return the ids of the welcome message, sorted."""
    return tuple(sorted((*announced(mcu), _VIRTUAL_SESSIONS)))


def announced(mcu: str) -> tuple[str, ...]:
    """Return the ids in the hello reply to regular clients, sorted; ``mcu`` is the SFU's type or ``none``."""
    if mcu == "none":
        return _UNCONDITIONAL
    return tuple(sorted((*_UNCONDITIONAL, *_WITH_MCU)))
