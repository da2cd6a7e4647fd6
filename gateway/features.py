"""The feature ids that are announced: exactly those whose promise holds.

Source: behaviour reference 13.1. They stand in the welcome message, in the hello reply, and in the header
``X-Spreed-Signaling-Features`` of every response and of every request to Nextcloud.
"""

from __future__ import annotations

_ALWAYS = (
    "audio-video-permissions",
    "chat-relay",
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
_WITH_MCU = ("mcu", "offer-codecs", "update-sdp")
_OF_MCU = {"janus": ("simulcast",)}


def announced(mcu: str) -> tuple[str, ...]:
    """Return the ids for a gateway with this type of SFU (``none``: without), sorted."""
    if mcu == "none":
        return _ALWAYS
    return tuple(sorted((*_ALWAYS, *_WITH_MCU, *_OF_MCU.get(mcu, ()))))
