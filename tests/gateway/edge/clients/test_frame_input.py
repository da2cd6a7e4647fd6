"""The input of a connection: a few frames are handled in each loop iteration, and none after its end."""

from __future__ import annotations

import asyncio

import pytest

from gateway.edge.clients.frame_input import (
    FRAMES,
    FRAMES_IN_TURN,
    FRAMES_WITHOUT_SESSION,
    MAX_DROPPED,
    FrameInput,
    InputTurns,
)
from gateway.edge.clients.frame_reader import PING, TEXT, Frame
from tests.gateway.edge.raw_client import CLOSE, masked

LIMIT = 1000  # bytes of a message
LONG_MESSAGE = 200  # bytes of a message that is handled without a buffer if it arrives alone


class FakeTransport:
    """A transport that records whether reading is paused."""

    def __init__(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True


class FakeHandler:
    """A connection that collects frames, and ends after a number of them."""

    def __init__(self, turns: InputTurns, *, has_session: bool = True, ends_after: int = 1_000_000) -> None:
        self.transport = FakeTransport()
        self.frames: list[Frame] = []
        self.has_session = has_session
        self.ends_after = ends_after
        self.refused: list[int] = []
        self.close_confirmed = False
        self.input = FrameInput(self, self.transport, turns, LIMIT)

    @property
    def is_ending(self) -> bool:
        return len(self.frames) >= self.ends_after or bool(self.refused)

    def handle(self, frame: Frame) -> None:
        self.frames.append(frame)

    def handle_text(self, text: str, size: int) -> None:
        self.handle((TEXT, text, size))

    def refuse(self, code: int) -> None:
        self.refused.append(code)

    def confirm_close(self) -> None:
        self.close_confirmed = True


async def turn() -> None:
    """Run one loop iteration."""
    await asyncio.sleep(0)


@pytest.mark.parametrize("opcode", [TEXT, PING])
async def test_flood_is_handled_a_few_frames_in_each_turn_and_in_order(opcode: int) -> None:
    connection = FakeHandler(InputTurns())
    connection.input.data_received(b"".join(masked(b"%d" % number, opcode) for number in range(100)))
    assert len(connection.frames) == FRAMES
    assert not connection.transport.reading
    await turn()
    assert len(connection.frames) == FRAMES + FRAMES_IN_TURN
    while not connection.transport.reading:
        await turn()
    assert [int(frame[1]) for frame in connection.frames] == list(range(100))


async def test_empty_fragments_are_bounded_like_messages() -> None:
    connection = FakeHandler(InputTurns())
    connection.input.data_received(masked("", final=False) + masked("", 0, final=False) * 1000)
    assert len(connection.frames) == FRAMES


async def test_connections_that_wait_take_turns() -> None:
    turns = InputTurns()
    connections = [FakeHandler(turns) for _ in range(3)]
    for connection in connections:
        connection.input.data_received(masked("x") * 100)
    await turn()
    assert [len(connection.frames) for connection in connections] == [FRAMES + FRAMES_IN_TURN] * 3


async def test_connections_without_a_session_share_a_budget_that_sessions_do_not_use() -> None:
    turns = InputTurns()
    connections = [FakeHandler(turns, has_session=False) for _ in range(100)]
    for connection in connections:
        connection.input.data_received(masked("x") * 10)
    assert sum(len(connection.frames) for connection in connections) == FRAMES_WITHOUT_SESSION
    member = FakeHandler(turns)
    member.input.data_received(masked("x") * 10)
    assert len(member.frames) == 10
    for _ in range(100):
        await turn()
    assert [len(connection.frames) for connection in connections] == [10] * 100
    assert all(connection.transport.reading for connection in connections)


async def test_frames_after_the_end_of_a_connection_are_not_handled() -> None:
    connection = FakeHandler(InputTurns(), ends_after=3)
    connection.input.data_received(masked("x") * 10)
    connection.input.data_received(masked("x") * 10)
    await turn()
    assert len(connection.frames) == 3
    assert connection.transport.reading
    connection.input.data_received(b"x" * (MAX_DROPPED + 1))
    assert not connection.transport.reading
    await turn()
    assert not connection.transport.reading


async def test_octets_after_a_protocol_error_are_not_parsed() -> None:
    connection = FakeHandler(InputTurns())
    connection.input.data_received(b"\x81\x01x" + masked("x"))
    connection.input.data_received(masked("x"))
    assert (connection.refused, connection.frames) == ([1002], [])


@pytest.mark.parametrize("close", [masked(b"", CLOSE), masked(b"\x03\xe8", CLOSE)])
@pytest.mark.parametrize("together", [True, False])
async def test_answer_to_the_close_is_recognised(close: bytes, together: bool) -> None:
    connection = FakeHandler(InputTurns(), ends_after=1)
    for data in [masked("x") + close] if together else [masked("x"), masked("y"), close]:
        connection.input.data_received(data)
    assert connection.close_confirmed
    assert len(connection.frames) == 1


async def test_held_input_waits_and_continues_in_order() -> None:
    connection = FakeHandler(InputTurns())
    connection.input.hold()
    connection.input.data_received(b"".join(masked(str(number)) for number in range(50)))
    await turn()
    assert connection.frames == []
    connection.input.release()
    while not connection.transport.reading:
        await turn()
    assert [int(frame[1]) for frame in connection.frames] == list(range(50))


def text(number: int) -> str:
    """Return a long message that begins with a number."""
    return f"{number} ".ljust(LONG_MESSAGE, "ü")


async def test_messages_that_arrive_alone_are_handled_at_once_and_with_their_size() -> None:
    connection = FakeHandler(InputTurns())
    for number in range(100):
        connection.input.data_received(masked(text(number)))
    assert connection.frames == [(TEXT, text(number), len(text(number).encode())) for number in range(100)]
    assert connection.transport.reading


async def test_messages_that_arrive_alone_wait_behind_earlier_frames() -> None:
    connection = FakeHandler(InputTurns())
    connection.input.data_received(masked(text(0)))
    connection.input.data_received(b"".join(masked(text(number)) for number in range(1, 31)))
    connection.input.data_received(masked(text(31)))
    assert len(connection.frames) == 1 + FRAMES
    while not connection.transport.reading:
        await turn()
    fragment = masked(text(32), final=False)
    connection.input.data_received(fragment[:100])
    connection.input.data_received(fragment[100:])
    connection.input.data_received(masked("", 0))
    connection.input.data_received(masked(text(33)))
    texts = [frame[1] for frame in connection.frames if frame[0] == TEXT]
    assert texts == [text(number) for number in range(34)]


async def test_messages_that_arrive_alone_wait_while_the_input_is_held() -> None:
    connection = FakeHandler(InputTurns())
    connection.input.data_received(masked(text(0)))
    connection.input.hold()
    connection.input.data_received(masked(text(1)))
    await turn()
    assert len(connection.frames) == 1
    connection.input.release()
    await turn()
    connection.input.data_received(masked(text(2)))
    assert [frame[1] for frame in connection.frames] == [text(0), text(1), text(2)]


async def test_messages_without_a_session_that_arrive_alone_use_the_same_budget() -> None:
    connection = FakeHandler(InputTurns(), has_session=False)
    for number in range(FRAMES_WITHOUT_SESSION + 1):
        connection.input.data_received(masked(text(number)))
    assert len(connection.frames) == FRAMES_WITHOUT_SESSION


@pytest.mark.parametrize(
    ("octets", "code"),
    [
        (masked(b"\xff" * LONG_MESSAGE), 1007),
        (masked("x" * (LIMIT + 1)), 1009),
        (masked("x" * LONG_MESSAGE, reserved=4), 1002),
        (masked("x" * LONG_MESSAGE, PING), 1002),
        (b"\x81\x7e\x00\xc8" + b"x" * (4 + LONG_MESSAGE), 1002),
        (masked("x" * LONG_MESSAGE, final=False) + masked("x" * LONG_MESSAGE), 1002),
    ],
)
async def test_faulty_message_that_arrives_alone_is_refused(octets: bytes, code: int) -> None:
    connection = FakeHandler(InputTurns())
    connection.input.data_received(masked("x" * LONG_MESSAGE))
    connection.input.data_received(octets)
    connection.input.data_received(masked("x" * LONG_MESSAGE))
    assert connection.refused == [code]
    assert [frame[0] for frame in connection.frames if frame[0] == TEXT] == [TEXT]


async def test_messages_that_arrive_alone_after_the_end_are_not_handled() -> None:
    connection = FakeHandler(InputTurns(), ends_after=3)
    for number in range(10):
        connection.input.data_received(masked(text(number)))
    assert len(connection.frames) == 3


async def test_exception_of_a_handler_does_not_stop_the_next_message(caplog: pytest.LogCaptureFixture) -> None:
    connection = FakeHandler(InputTurns())
    connection.input.data_received(masked(text(0)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeHandler, "handle_text", lambda *_: 1 / 0)
        connection.input.data_received(masked(text(1)))
    connection.input.data_received(masked(text(2)))
    assert [frame[1] for frame in connection.frames] == [text(0), text(2)]
    assert "a WebSocket frame was not handled" in caplog.text
