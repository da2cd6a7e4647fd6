"""The permissions of a received list (reference 8)."""

from __future__ import annotations

import pytest

from gateway.core.permissions import Permissions


# reference 8-a
def test_everything_is_allowed_before_a_list_is_received() -> None:
    permissions = Permissions()
    assert permissions.may_publish(["audio", "video"])
    assert permissions.may_publish_screen()
    assert permissions.may_publish_audio_or_video()
    assert not permissions.hides_names


# reference 8-a
def test_empty_list_allows_nothing() -> None:
    permissions = Permissions.of([])
    assert not permissions.may_publish(["audio"])
    assert not permissions.may_publish(["video"])
    assert not permissions.may_publish_screen()
    assert not permissions.may_publish_audio_or_video()
    assert not permissions.hides_names


@pytest.mark.parametrize(
    ("names", "sections", "allowed"),
    [
        (["publish-media"], ["audio", "video"], True),
        (["publish-audio"], ["audio"], True),
        (["publish-audio"], ["audio", "video"], False),
        (["publish-audio", "publish-video"], ["audio", "video"], True),
        (["publish-video"], ["audio"], False),
        (["publish-screen"], ["video"], False),
        ([], ["application"], False),
        (["publish-screen"], ["application"], False),
        (["publish-video"], ["application"], True),
        ([], [], True),
        (["publish-audio"], ["application", "audio"], True),
    ],
)
def test_each_section_needs_its_permission(names: list[str], sections: list[str], allowed: bool) -> None:
    assert Permissions.of(names).may_publish(sections) is allowed


@pytest.mark.parametrize("name", ["publish-media", "publish-audio", "publish-video"])
def test_permission_for_one_media_kind_is_enough_to_negotiate(name: str) -> None:
    assert Permissions.of([name]).may_publish_audio_or_video()


def test_screen_needs_its_own_permission() -> None:
    assert Permissions.of(["publish-screen"]).may_publish_screen()
    assert not Permissions.of(["publish-media"]).may_publish_screen()
    assert not Permissions.of(["publish-screen"]).may_publish_audio_or_video()


# reference 8-c
def test_hide_displaynames_hides_names_and_an_unknown_permission_allows_nothing() -> None:
    assert Permissions.of(["hide-displaynames"]).hides_names
    assert not Permissions.of(["fly"]).hides_names
    assert not Permissions.of(["fly"]).may_publish_audio_or_video()
