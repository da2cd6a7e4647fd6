"""Frames of the server, and the undocumented behaviour of aiohttp's parser that is relied on."""

from __future__ import annotations

import asyncio
import logging
import struct

import pytest
from aiohttp import WSMessage, WSMsgType
from aiohttp.http_websocket import WebSocketReader

from gateway.edge.clients.frames import CallbackQueue, frame
from tests.gateway.edge.raw_client import BINARY, CLOSE, PING, masked


class Parser:
    """The parser, set up as in a connection."""

    def __init__(self, limit: int = 100) -> None:
        self.messages: list[WSMessage] = []
        self.errors: list[int] = []
        self.sizes: list[int] = []
        self.reader = WebSocketReader(CallbackQueue(self._take, self.errors.append), limit + 1, False, True)

    def _take(self, message: WSMessage, size: int) -> None:
        self.messages.append(message)
        self.sizes.append(size)


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
    assert frame(b"x" * length) == head + b"x" * length


def test_control_frames_carry_their_opcode() -> None:
    assert frame(b"12", PING) == b"\x89\x0212"
    assert frame(b"", CLOSE) == b"\x88\x00"


async def test_messages_are_passed_on_at_once_and_decoded() -> None:
    parser = Parser()
    parser.reader.feed_data(masked("ä") + masked(b"\x00", BINARY) + masked(b"1", PING))
    assert [(it.type, it.data) for it in parser.messages] == [
        (WSMsgType.TEXT, "ä"),
        (WSMsgType.BINARY, b"\x00"),
        (WSMsgType.PING, b"1"),
    ]


async def test_fragments_become_one_message_with_control_frames_between() -> None:
    parser = Parser()
    for part in (masked("a", final=False), masked("p", PING), masked("b", 0, final=False), masked("c", 0)):
        parser.reader.feed_data(part)
    assert [it.data for it in parser.messages] == [b"p", "abc"]


@pytest.mark.parametrize(
    ("octets", "code"),
    [
        (masked("x" * 101), 1009),
        (masked("x" * 60, final=False) + masked("x" * 60, 0), 1009),
        (masked(b"\xff"), 1007),
        (masked(b"\xed\xa0\x80"), 1007),
        (masked(b"\xe2\x82", final=False) + masked(b"x", 0), 1007),
        (masked("x", 3), 1002),
        (masked("x", reserved=4), 1002),
        (masked("x", PING, final=False), 1002),
        (masked("x" * 126, PING), 1002),
        (masked("x", 0), 1002),
        (masked(b"\x03", CLOSE), 1002),
        (masked(struct.pack("!H", 1005), CLOSE), 1002),
    ],
    ids=lambda it: str(it) if isinstance(it, int) else "frame",  # masks are random
)
async def test_protocol_errors_have_their_close_codes(octets: bytes, code: int) -> None:
    parser = Parser()
    parser.reader.feed_data(octets + masked("not read"))
    assert parser.errors == [code]
    assert [it for it in parser.messages if it.data == "not read"] == []


async def test_exception_of_the_callback_is_not_a_protocol_error(caplog: pytest.LogCaptureFixture) -> None:
    errors: list[int] = []

    def fail(message: WSMessage, size: int) -> None:
        raise ValueError("a bug")

    reader = WebSocketReader(CallbackQueue(fail, errors.append), 100, False, True)
    reader.feed_data(masked("a") + masked("b"))
    assert errors == []
    assert [it.levelno for it in caplog.records] == [logging.ERROR] * 2


async def test_size_is_counted_in_bytes() -> None:
    parser = Parser()
    parser.reader.feed_data(masked("plain") + masked("Zürich €"))
    assert [it.data for it in parser.messages] == ["plain", "Zürich €"]
    assert parser.sizes == [5, 11]


async def test_end_of_data_calls_nothing() -> None:
    parser = Parser()
    parser.reader.feed_eof()
    await asyncio.sleep(0)
    assert (parser.messages, parser.errors) == ([], [])
