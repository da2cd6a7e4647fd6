"""What a session may do in its room.

Source: reference 8. A session that never received a list may do everything; once a list came, also an empty
one, exactly what it names.
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

_OF_SECTION = {"audio": PUBLISH_AUDIO, "video": PUBLISH_VIDEO}


class Permissions(Struct, frozen=True):
    """A received list of permissions, or ``None`` when none was received."""

    listed: frozenset[str] | None = None

    @classmethod
    def of(cls, names: Iterable[str]) -> Permissions:
        """Make the permissions of a received list; unknown names have no effect."""
        return cls(frozenset(names))

    def allows(self, name: str) -> bool:
        """Whether a positive permission is given."""
        return self.listed is None or name in self.listed

    @property
    def hides_names(self) -> bool:
        """Whether the names of others are hidden from this session."""
        return self.listed is not None and HIDE_DISPLAYNAMES in self.listed

    def may_publish_screen(self) -> bool:
        """Whether the session may share its screen."""
        return self.allows(PUBLISH_SCREEN)

    def may_publish(self, sections: Iterable[str]) -> bool:
        """Whether the session may publish a description with these media sections (``audio``, ``video``, …)."""
        if self.allows(PUBLISH_MEDIA):
            return True
        return all(self.allows(_OF_SECTION[section]) for section in sections if section in _OF_SECTION)

    def may_publish_something(self) -> bool:
        """Whether the session may publish audio or video at all, and so negotiate."""
        return self.allows(PUBLISH_MEDIA) or self.allows(PUBLISH_AUDIO) or self.allows(PUBLISH_VIDEO)
