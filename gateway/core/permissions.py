"""The permissions of a session in its room.

Source: reference 8. A session has every permission until Nextcloud sends a list for it. From then on it has exactly the
listed permissions, none if the list is empty.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

PUBLISH_MEDIA = "publish-media"
PUBLISH_AUDIO = "publish-audio"
PUBLISH_VIDEO = "publish-video"
PUBLISH_SCREEN = "publish-screen"
CONTROL = "control"
TRANSIENT_DATA = "transient-data"
HIDE_DISPLAYNAMES = "hide-displaynames"

_PUBLISH_PERMISSIONS = {"audio": PUBLISH_AUDIO, "video": PUBLISH_VIDEO}


class Permissions(Struct, frozen=True):
    """The permissions of one session."""

    listed: frozenset[str] | None = None  # the list that Nextcloud sent last; None: it has sent none
    hides_names: bool = False  # whether the names of other participants are hidden from the session

    @classmethod
    def of(cls, names: Iterable[str]) -> Permissions:
        """Create permissions from a list of Nextcloud's; unknown names have no effect."""
        listed = frozenset(names)
        return cls(listed, HIDE_DISPLAYNAMES in listed)

    def allows(self, name: str) -> bool:
        """Return whether the session has this permission (not for ``hide-displaynames``, which is a restriction)."""
        return self.listed is None or name in self.listed

    def may_publish_screen(self) -> bool:
        """Return whether the session may share its screen."""
        return self.allows(PUBLISH_SCREEN)

    def may_publish(self, media_kinds: Iterable[str]) -> bool:
        """Return whether the session may publish these media kinds; data channels need either audio or video."""
        if self.allows(PUBLISH_MEDIA):
            return True
        return all(
            self.allows(_PUBLISH_PERMISSIONS[kind])
            if kind in _PUBLISH_PERMISSIONS
            else self.may_publish_audio_or_video()
            for kind in media_kinds
        )

    def may_publish_audio_or_video(self) -> bool:
        """Return whether the session may publish audio or video, and so negotiate a PeerConnection for its camera."""
        return self.allows(PUBLISH_MEDIA) or self.allows(PUBLISH_AUDIO) or self.allows(PUBLISH_VIDEO)
