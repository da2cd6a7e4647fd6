"""Acknowledged delivery at the flows (docs/protocol.md)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.core.limits import Limits
from tests.gateway.flows.house import CLOUD, House, Talker
from tests.gateway.flows.virtual_time import settle


async def acknowledging(house: House, userid: str) -> Talker:
    talker = house.connect()
    auth = {"url": CLOUD.urls[0], "params": house.nextcloud.ticket(userid)}
    talker.say({"type": "hello", "hello": {"version": "1.0", "auth": auth, "features": ["ack"]}})
    await settle()
    hello = talker.heard()[-1]["hello"]
    assert hello["received"] == 0
    talker.sessionid, talker.resumeid = hello["sessionid"], hello["resumeid"]
    return talker


async def resume(house: House, talker: Talker, **members: Any) -> list[Any]:
    """Resume on another connection and return what is heard after the welcome."""
    again = house.connect()
    again.heard()
    again.say({"id": "r", "type": "hello", "hello": {"version": "1.0", "resumeid": talker.resumeid, **members}})
    await settle()
    return again.heard()


def numbers(heard: list[Any]) -> list[int]:
    return [it["message"]["data"] for it in heard if it["type"] == "message"]


async def test_resume_replays_what_was_not_received_and_says_what_was() -> None:
    async with House(mcu=False) as house:
        alice, bob = await acknowledging(house, "alice"), await house.open("bob")
        for number in range(5):
            bob.tell(alice, number)
        for number in range(3):
            alice.tell(bob, number)
        alice.lose()
        heard = await resume(house, alice, received=2)
        assert heard[0]["hello"]["received"] == 3
        assert numbers(heard) == [2, 3, 4]


async def test_acknowledgement_is_answered_and_frees_memory() -> None:
    async with House(mcu=False) as house:
        alice, bob = await acknowledging(house, "alice"), await house.open("bob")
        for number in range(5):
            bob.tell(alice, number)
        assert alice.session.outbox.size > 0
        alice.heard()
        alice.say({"type": "ack", "ack": {"received": 5}})
        assert alice.heard() == [{"type": "ack", "ack": {"received": 1}}]
        assert alice.session.outbox.size == 0


async def test_resume_without_a_number_takes_what_was_sent_for_received() -> None:
    async with House(mcu=False) as house:
        alice, bob = await acknowledging(house, "alice"), await house.open("bob")
        bob.tell(alice, 1)
        alice.lose()
        bob.tell(alice, 2)
        assert numbers(await resume(house, alice)) == [2]


@pytest.mark.parametrize("received", [-1, 20, "1", 1.5])
async def test_number_that_cannot_be_is_refused_and_the_session_stays(received: Any) -> None:
    async with House(mcu=False) as house:
        alice, bob = await acknowledging(house, "alice"), await house.open("bob")
        bob.tell(alice, 1)
        alice.heard()
        alice.say({"type": "ack", "ack": {"received": received}})
        assert alice.errors() == ["invalid_format"]
        alice.lose()
        (refused,) = await resume(house, alice, received=received)
        assert refused["error"]["code"] == "invalid_format"
        assert len(await resume(house, alice, received=0)) == 3  # hello, the message, the error


async def test_number_may_not_go_back() -> None:
    async with House(mcu=False) as house:
        alice, bob = await acknowledging(house, "alice"), await house.open("bob")
        bob.tell(alice, 1)
        alice.say({"type": "ack", "ack": {"received": 1}})
        alice.heard()
        alice.say({"type": "ack", "ack": {"received": 0}})
        assert alice.errors() == ["invalid_format"]
        alice.say({"type": "ack"})
        assert alice.errors() == ["invalid_format"]


async def test_client_without_the_feature_is_served_as_before() -> None:
    async with House(mcu=False) as house:
        alice, bob = await house.open("alice"), await house.open("bob")
        alice.say({"type": "ack", "ack": {"received": 7}})
        assert alice.heard() == []
        bob.tell(alice, 1)
        alice.lose()
        bob.tell(alice, 2)
        heard = await resume(house, alice, received=0)
        assert "received" not in heard[0]["hello"]
        assert numbers(heard) == [2]


async def test_takeover_of_a_live_connection_replays_the_same() -> None:
    async with House(mcu=False) as house:
        alice, bob = await acknowledging(house, "alice"), await house.open("bob")
        for number in range(3):
            bob.tell(alice, number)
        heard = await resume(house, alice, received=1)
        assert numbers(heard) == [1, 2]


async def test_message_beyond_the_rate_is_not_counted_as_received() -> None:
    async with House(mcu=False) as house:
        house.services.limits = Limits(messages_per_second=1, messages_burst=10)
        alice, bob = await acknowledging(house, "alice"), await house.open("bob")
        for number in range(12):
            alice.tell(bob, number)
            if alice.connection.finished:
                break
        carried_out = len(numbers(bob.heard()))
        assert alice.connection.finished
        alice.lose()
        await asyncio.sleep(10)
        assert (await resume(house, alice, received=0))[0]["hello"]["received"] == carried_out == number


async def test_acknowledgement_that_a_resume_overtook_is_no_error() -> None:
    async with House(mcu=False) as house:
        alice, bob = await acknowledging(house, "alice"), await house.open("bob")
        bob.tell(alice, 1)
        house.nextcloud.gate = asyncio.Event()
        alice.say({"id": "join", "type": "room", "room": {"roomid": "r"}})
        alice.say({"id": "old", "type": "ack", "ack": {"received": 1}})
        bob.tell(alice, 2)
        await settle()
        alice.lose()
        again = house.connect()
        again.heard()
        again.say({"type": "hello", "hello": {"version": "1.0", "resumeid": alice.resumeid, "received": 2}})
        house.nextcloud.gate.set()
        await settle()
        heard = again.heard()
        assert heard[0]["hello"]["received"] == 2
        assert [it["type"] for it in heard if it["type"] in ("error", "ack")] == []
        assert alice.session.outbox.acknowledged == 2  # type: ignore[attr-defined]


async def test_counted_is_every_text_behind_the_reply_to_the_hello() -> None:
    async with House(mcu=False) as house:
        alice = await acknowledging(house, "alice")
        alice.say("no message")
        alice.say({"type": "hello", "hello": {"version": "1.0", "resumeid": alice.resumeid}})
        house.dispatch.received_binary(alice.who)
        alice.say({"type": "ack", "ack": {"received": 2}})  # the errors in answer to the first and the binary frame
        assert [it.get("ack") for it in alice.heard()] == [None, None, {"received": 3}]
        heard = await resume(house, alice, received=2)
        assert heard[0]["hello"]["received"] == 3
        alice.say({"type": "unknown"})  # it was displaced
        assert (await resume(house, alice, received=2))[0]["hello"]["received"] == 3
