"""Labels of Janus rooms and handles: written, and parsed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcu.base import BackendId, PublisherId, StreamKey, StreamType
from mcu.janus.labels import INSTANCE_PATTERN, JanusLabel, control_label, parse_label, stream_label
from mcu.janus.settings import instance_name

KEY = StreamKey(BackendId("cloud"), PublisherId("someone"), StreamType.SCREEN)


def test_a_label_has_the_instance_backend_publisher_and_stream_type() -> None:
    assert stream_label("a1", KEY) == "portunus|a1|cloud|someone|screen"
    assert stream_label("a1", KEY, remote=True) == "portunus|a1|cloud|someone|screen|remote"
    assert control_label("a1") == "portunus|a1"


@given(
    st.from_regex(INSTANCE_PATTERN, fullmatch=True), st.text(), st.text(), st.sampled_from(StreamType), st.booleans()
)
def test_a_label_is_parsed_into_the_fields_that_it_was_written_from(
    name: str, backend: str, publisher: str, type: StreamType, remote: bool
) -> None:
    key = StreamKey(BackendId(backend), PublisherId(publisher), type)
    assert parse_label(stream_label(name, key, remote=remote)) == JanusLabel(name, key, remote)
    assert parse_label(control_label(name)) == JanusLabel(name)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "somebody else's room",
        "portunus",
        "portunus|",
        "portunus|a b",
        "portunus|cloud|someone|screen",  # the form of earlier versions, without an instance
        "portunus|a1|cloud|someone|audio",
        "portunus|a1|cloud|someone|screen|more",
        "Portunus|a1",
    ],
)
def test_other_text_is_not_a_label(text: str) -> None:
    assert parse_label(text) is None


def test_an_instance_name_is_generated_if_none_is_configured() -> None:
    assert instance_name("gateway-1") == "gateway-1"
    assert INSTANCE_PATTERN.fullmatch(instance_name(""))
    assert instance_name("") != instance_name("")
    with pytest.raises(ValueError, match="1 to 32 letters"):
        instance_name("a|b")
