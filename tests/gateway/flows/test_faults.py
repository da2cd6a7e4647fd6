"""Faults of this program in the handler of a message: the client gets an answer, and its connection goes on."""

from __future__ import annotations

import asyncio

import pytest

from gateway.core.session import Session
from gateway.flows.tasks import Work
from gateway.wire.client import ClientMessage
from tests.gateway.flows.harness import FakeClient, FlowHarness, Json
from tests.gateway.flows.virtual_time import settle

SECRET = "a detail of the program"
ANSWER = {"code": "internal_error", "message": "An internal error occurred."}


def fail(*_: object) -> None:
    raise ZeroDivisionError(SECRET)


def fail_later(session: Session, message: ClientMessage) -> Work:
    async def rest() -> None:
        await asyncio.sleep(0)
        fail()

    return rest()


def replies_to(client: FakeClient, id: str) -> list[Json]:
    return [message for message in client.received() if message.get("id") == id]


def tracebacks(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [str(record.exc_info[1]) for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("handler", [fail, fail_later])
async def test_fault_in_a_handler_is_answered_and_later_messages_are_handled(
    caplog: pytest.LogCaptureFixture, handler: object
) -> None:
    async with FlowHarness() as harness:
        alice = await harness.member("alice")
        alice.received()
        harness.dispatch._handlers["transient"] = handler  # type: ignore[assignment]
        alice.send({"id": "t", "type": "transient", "transient": {"type": "set", "key": "k", "value": 1}})
        alice.send_message({"type": "room"}, "behind", id="m")
        alice.leave(id="l")
        await settle()
        answer, left = [message for message in alice.received() if "id" in message]
        assert answer == {"id": "t", "type": "error", "error": ANSWER}
        assert (left["id"], left["type"]) == ("l", "room")
        assert not alice.connection.finished
        assert tracebacks(caplog) == [SECRET]


async def test_fault_in_a_join_and_in_a_hello_is_answered(caplog: pytest.LogCaptureFixture) -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.hello("alice"), harness.connect()
        alice.received()
        harness.nextcloud.answer = fail
        alice.join("r", "nc-alice", id="j")
        bob.send_hello("bob")
        await settle()
        assert replies_to(alice, "j") == [{"id": "j", "type": "error", "error": ANSWER}]
        assert replies_to(bob, "hello") == [{"id": "hello", "type": "error", "error": ANSWER}]
        assert tracebacks(caplog) == [SECRET] * 2
        harness.nextcloud.answer = lambda request: None
        alice.join("r", "nc-alice", id="again")
        bob.send_hello("bob")
        await settle()
        assert [reply["type"] for reply in replies_to(alice, "again")] == ["room"]
        assert [reply["type"] for reply in replies_to(bob, "hello")] == ["hello"]


async def test_fault_in_a_message_that_waited_does_not_hold_back_those_behind_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with FlowHarness() as harness:
        alice = await harness.member("alice")
        alice.received()
        harness.dispatch._handlers["control"] = fail
        harness.nextcloud.gate = asyncio.Event()
        alice.join("other", "nc-other", id="j")  # later messages wait for its answer
        await settle()
        alice.send({"id": "c", "type": "control", "control": {"recipient": {"type": "room"}, "data": 1}})
        alice.leave(id="l")
        harness.nextcloud.gate.set()
        await settle()
        assert [message["id"] for message in alice.received() if "id" in message] == ["j", "c", "l"]
        assert tracebacks(caplog) == [SECRET]
