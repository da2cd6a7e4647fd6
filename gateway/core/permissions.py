"""The permissions of a session in its room.

Source: reference 8. A session without a received list has every permission; once a list was received, even
an empty one, the session has exactly the listed ones.
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
    hides_names: bool = False  # whether the session must not see the names of other participants

    @classmethod
    def of(cls, names: Iterable[str]) -> Permissions:
        """Create permissions from a received list; unknown names have no effect."""
        listed = frozenset(names)
        return cls(listed, HIDE_DISPLAYNAMES in listed)

    def allows(self, name: str) -> bool:
        """Return whether the session has this permission (not for ``hide-displaynames``, which restricts)."""
        return self.listed is None or name in self.listed

    def may_publish_screen(self) -> bool:
        """Return whether the session may share its screen."""
        return self.allows(PUBLISH_SCREEN)

    def may_publish(self, sections: Iterable[str]) -> bool:
        """Return whether the session may publish sections of these kinds; data channels need any media permission."""
        if self.allows(PUBLISH_MEDIA):
            return True
        return all(
            self.allows(_OF_SECTION[section]) if section in _OF_SECTION else self.may_publish_something()
            for section in sections
        )

    def may_publish_something(self) -> bool:
        """Return whether the session may publish audio or video, and so negotiate a connection."""
        return self.allows(PUBLISH_MEDIA) or self.allows(PUBLISH_AUDIO) or self.allows(PUBLISH_VIDEO)
