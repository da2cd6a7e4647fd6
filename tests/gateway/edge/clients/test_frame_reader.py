"""The parser of a client's frames (RFC 6455 5, 8.1)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.edge.clients.frame_reader import (
    BINARY,
    CLOSE,
    FRAGMENT,
    INVALID_TEXT,
    PING,
    PONG,
    PROTOCOL_ERROR,
    SINGLE_FRAME_HEAD_SIZE,
    TEXT,
    TOO_BIG,
    Frame,
    FrameError,
    FrameReader,
    may_be_sent,
)
from tests.gateway.edge.raw_client import masked

_T = TypeVar("_T")

LIMIT = 100  # bytes of a message


def long_form(payload: bytes, size: int) -> bytes:
    """Return a masked frame whose length has 2 or 8 octets, whether it needs them or not."""
    head = struct.pack("!BBH" if size == 2 else "!BBQ", 0x81, 0x80 | (126 if size == 2 else 127), len(payload))
    return head + bytes(4) + payload


def frames(octets: bytes) -> list[Frame]:
    """Return the frames of octets that arrive at once."""
    reader, read = FrameReader(LIMIT), []
    reader.feed(octets)
    while (frame := reader.read()) is not None:
        read.append(frame)
    return read


def test_frames_are_read_one_by_one_and_decoded() -> None:
    assert frames(masked("Zürich €") + masked(b"\x00", BINARY) + masked(b"1", PING) + masked(b"", PONG)) == [
        (TEXT, "Zürich €", 11),
        (BINARY, b"", 1),
        (PING, b"1", 1),
        (PONG, b"", 0),
    ]


def test_masks_are_applied_as_in_rfc_6455() -> None:
    assert frames(bytes.fromhex("818537fa213d7f9f4d5158")) == [(TEXT, "Hello", 5)]  # the example of RFC 6455 5.7


def test_fragments_become_one_message_with_control_frames_between() -> None:
    parts = (masked("a", final=False), masked("p", PING), masked("b", 0, final=False), masked("c", 0), masked("d"))
    assert frames(b"".join(parts)) == [
        (FRAGMENT, b"", 1),
        (PING, b"p", 1),
        (FRAGMENT, b"", 1),
        (TEXT, "abc", 1),
        (TEXT, "d", 1),
    ]


def test_empty_fragments_are_frames_too() -> None:
    octets = masked("", final=False) + masked("", 0, final=False) * 3 + masked("", 0)
    assert frames(octets) == [(FRAGMENT, b"", 0)] * 4 + [(TEXT, "", 0)]


@given(st.lists(st.text(max_size=20), min_size=1, max_size=5), st.data())
def test_octets_may_arrive_in_any_pieces(texts: list[str], data: st.DataObject) -> None:
    octets = b"".join(masked(text) for text in texts)
    reader, read = FrameReader(LIMIT), []
    while octets:
        size = data.draw(st.integers(1, len(octets)))
        reader.feed(octets[:size])
        octets = octets[size:]
        while (frame := reader.read()) is not None:
            read.append(frame[1])
    assert read == texts
    assert not reader.unread


def changed_frame(frame: bytes, at: int, value: int) -> bytes:
    """Return a frame with another value of one of its octets."""
    return frame[:at] + bytes((value,)) + frame[at + 1 :]


def result_of(read: Callable[[], _T]) -> _T | int:
    """Return the result of a call, or the close code of its ``FrameError``."""
    try:
        return read()
    except FrameError as error:
        return error.code


@given(st.text(min_size=100, max_size=600), st.integers(0, 9), st.integers(0, 255), st.integers(-2, 2))
def test_whole_message_is_read_as_any_other_or_not_at_all(text: str, at: int, value: int, more: int) -> None:
    frame = masked(text)
    octets = changed_frame(frame, at, value)
    octets = octets + b"\x81\x80"[:more] if more > 0 else octets[: len(octets) + more]
    reader, whole = FrameReader(500), FrameReader(500)
    reader.feed(octets)
    expected = result_of(reader.read)
    found = result_of(lambda: whole.read_single_frame(octets))
    if found is None:
        assert whole.read() is None  # the reader has kept no octet of it
        assert not whole.unread
        assert octets != frame or not 126 <= len(text.encode()) <= 500
    elif isinstance(found, int):
        assert found == expected
    else:
        assert expected == (TEXT, found, len(octets) - SINGLE_FRAME_HEAD_SIZE)
        assert not reader.unread


def test_message_is_not_read_as_a_whole_while_octets_or_fragments_wait() -> None:
    message = masked("x" * 200)
    reader = FrameReader(1000)
    reader.feed(message[:1])
    assert reader.read_single_frame(message) is None
    reader = FrameReader(1000)
    reader.feed(masked("", final=False))
    reader.read()
    assert reader.read_single_frame(message) is None
    reader.feed(masked("", 0))
    reader.read()
    assert reader.read_single_frame(message) == "x" * 200


def test_longest_whole_message_has_two_octets_of_length() -> None:
    reader = FrameReader(65536)
    assert reader.read_single_frame(masked("x" * 65535)) == "x" * 65535
    assert reader.read_single_frame(masked("x" * 65536)) is None
    assert reader.read_single_frame(b"\x81\xff" + bytes(6 + 65536)) is None  # reads like 65536 in two octets


@pytest.mark.parametrize(
    ("octets", "code"),
    [
        (masked("x" * 101), TOO_BIG),
        (masked("x" * 60, final=False) + masked("x" * 60, 0), TOO_BIG),
        (bytes((0x81, 0xFF)) + struct.pack("!Q", 1 << 62), TOO_BIG),  # refused by its head
        (masked(b"\xff"), INVALID_TEXT),
        (masked(b"\xed\xa0\x80"), INVALID_TEXT),
        (masked(b"\xe2\x82", final=False) + masked(b"x", 0), INVALID_TEXT),
        (masked(b"\x03\xe8\xff", CLOSE), INVALID_TEXT),
        (masked(b"\xff", final=False), INVALID_TEXT),
        (
            masked(b"\xc3", final=False) + masked(b"\xa4\xf4", 0, final=False) + masked(b"\x90", 0, final=False),
            INVALID_TEXT,
        ),
    ],
)
def test_messages_that_are_too_big_or_no_utf_8_are_refused_with_their_close_codes(octets: bytes, code: int) -> None:
    with pytest.raises(FrameError) as error:
        frames(octets)
    assert error.value.code == code


FORBIDDEN = {
    "unmasked text": b"\x81\x01x",
    "unmasked empty text": b"\x81\x00",
    "unmasked binary": b"\x82\x01x",
    "unmasked ping": b"\x89\x00",
    "unmasked pong": b"\x8a\x00",
    "unmasked close": b"\x88\x02\x03\xe8",
    "unmasked with 2 octets of length": b"\x81\x7e\x00\x7e" + b"x" * 126,
    "unmasked with 8 octets of length": b"\x81\x7f" + (70000).to_bytes(8),
    "unmasked continuation": masked("a", final=False) + b"\x80\x01x",
    "text within a message": masked("a", final=False) + masked("b"),
    "text within a message that began empty": masked("", final=False) + masked("b"),
    "binary within a message": masked("", final=False) + masked(b"b", BINARY),
    "continuation without a message": masked("x", 0),
    "length of 2 octets for 125": long_form(b"x" * 125, 2),
    "length of 8 octets for 126": long_form(b"x" * 126, 8),
    "length of 8 octets for 65535": long_form(b"x" * 65535, 8),
    "length with its highest bit": b"\x81\xff" + (1 << 63).to_bytes(8) + bytes(4),
    "unknown opcode": masked("x", 3),
    "unknown control opcode": masked("x", 0xB),
    "reserved bit": masked("x", reserved=4),
    "reserved bit of a ping": masked("x", PING, reserved=4),
    "ping in fragments": masked("x", PING, final=False),
    "long ping": masked("x" * 126, PING),
    "half a close code": masked(b"\x03", CLOSE),
    "reserved close code": masked((1005).to_bytes(2), CLOSE),
}


# reference 2.1-m
@pytest.mark.parametrize("octets", FORBIDDEN.values(), ids=FORBIDDEN)
@pytest.mark.parametrize("whole", [True, False], ids=["at once", "octet by octet"])
def test_forbidden_frame_is_a_protocol_error_at_its_head(octets: bytes, whole: bool) -> None:
    reader, read = FrameReader(70000), []
    sent = masked("before") + octets + masked("behind")
    with pytest.raises(FrameError) as error:  # noqa: PT012
        for part in [sent] if whole else [sent[at : at + 1] for at in range(len(sent))]:
            reader.feed(part)
            while (frame := reader.read()) is not None:
                read.append(frame)
    assert error.value.code == PROTOCOL_ERROR
    assert read[0] == (TEXT, "before", 6)
    assert "behind" not in [frame[1] for frame in read]


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        *((code, True) for code in (1000, 1003, 1007, 1014, 3000, 4999)),
        *((code, False) for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)),
    ],
)
def test_only_assigned_codes_may_be_sent_in_a_close_frame(code: int, allowed: bool) -> None:
    assert may_be_sent(code) is allowed


def test_discarded_octets_are_returned_and_not_parsed() -> None:
    reader = FrameReader(LIMIT)
    reader.feed(masked("a") + b"rest")
    assert reader.read() == (TEXT, "a", 1)
    assert reader.discard() == b"rest"
    assert reader.read() is None
    assert not reader.unread
