"""``mcu.janus.labels``: what is written into Janus' views can be read there again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcu.base import BackendId, PublisherId, StreamKey, StreamType
from mcu.janus.labels import INSTANCE, JanusLabel, control, label, read
from mcu.janus.settings import instance

KEY = StreamKey(BackendId("cloud"), PublisherId("someone"), StreamType.SCREEN)


def test_a_label_names_instance_backend_session_and_type() -> None:
    assert label("a1", KEY) == "portunus|a1|cloud|someone|screen"
    assert label("a1", KEY, remote=True) == "portunus|a1|cloud|someone|screen|remote"
    assert control("a1") == "portunus|a1"


@given(st.from_regex(INSTANCE, fullmatch=True), st.text(), st.text(), st.sampled_from(StreamType), st.booleans())
def test_a_label_says_what_it_was_made_of(
    name: str, backend: str, publisher: str, type: StreamType, remote: bool
) -> None:
    key = StreamKey(BackendId(backend), PublisherId(publisher), type)
    assert read(label(name, key, remote=remote)) == JanusLabel(name, key, remote)
    assert read(control(name)) == JanusLabel(name)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "somebody else's room",
        "portunus",
        "portunus|",
        "portunus|a b",
        "portunus|cloud|someone|screen",  # before there were instances
        "portunus|a1|cloud|someone|audio",
        "portunus|a1|cloud|someone|screen|more",
        "Portunus|a1",
    ],
)
def test_what_is_no_label_says_nothing(text: str) -> None:
    assert read(text) is None


def test_an_instance_is_drawn_where_none_is_given() -> None:
    assert instance("gateway-1") == "gateway-1"
    assert INSTANCE.fullmatch(instance(""))
    assert instance("") != instance("")
    with pytest.raises(ValueError, match="1 to 32 letters"):
        instance("a|b")
