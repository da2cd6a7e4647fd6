"""Frames of the server (RFC 6455 5.2)."""

from __future__ import annotations

import struct

import pytest

from gateway.edge.clients.frames import FrameCache, encode_frame
from tests.gateway.edge.raw_client import CLOSE, PING


@pytest.mark.parametrize(
    ("length", "head"),
    [
        (0, b"\x81\x00"),
        (125, b"\x81\x7d"),
        (126, b"\x81\x7e\x00\x7e"),
        (65535, b"\x81\x7e\xff\xff"),
        (65536, b"\x81\x7f" + struct.pack("!Q", 65536)),
    ],
)
def test_length_is_written_in_the_shortest_form(length: int, head: bytes) -> None:
    assert encode_frame(b"x" * length) == head + b"x" * length


def test_control_frames_carry_their_opcode() -> None:
    assert encode_frame(b"12", PING) == b"\x89\x0212"
    assert encode_frame(b"", CLOSE) == b"\x88\x00"


def test_message_for_several_connections_is_encoded_once() -> None:
    cache, first, second = FrameCache(), b"x" * 200, b"y" * 200
    frame = cache.encode(first)
    assert frame == encode_frame(first)
    assert cache.encode(first) is frame
    assert cache.encode(second) == encode_frame(second)
    assert cache.encode(first) == frame
    cache.clear()
    assert cache.encode(first) == frame
