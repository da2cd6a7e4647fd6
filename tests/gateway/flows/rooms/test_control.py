"""Control messages: as any other message, for who may send them (reference 5.3)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.gateway.flows.fakes import FakeRoom
from tests.gateway.flows.house import OTHER, House, Json, Talker
from tests.gateway.flows.virtual_time import settle


def control(talker: Talker, recipient: Any, data: Any = None) -> None:
    talker.say({"id": "c", "type": "control", "control": {"recipient": recipient, "data": data or {"type": "mute"}}})


def to(talker: Talker) -> Json:
    return {"type": "session", "sessionid": talker.sessionid}


async def test_control_reaches_a_session_in_any_room() -> None:
    async with House() as house:
        alice, bob = await house.open("alice"), await house.member("bob")
        control(alice, to(bob), {"type": "offer", "roomType": "no room type"})
        sender = {"type": "session", "sessionid": alice.sessionid, "userid": "alice"}
        data = {"type": "offer", "roomType": "no room type"}
        assert bob.heard() == [{"type": "control", "control": {"sender": sender, "data": data}}]
        assert alice.heard() == []


@pytest.mark.parametrize("kind", ["room", "call", "user"])
async def test_control_reaches_many(kind: str) -> None:
    async with House() as house:
        alice, bob, carol = await house.callers("alice", "bob", "carol")
        outside = await house.member("outside")
        for it in (alice, bob, carol):
            it.heard()
        control(alice, {"type": kind, "userid": "bob"})
        (heard,) = bob.heard()
        assert heard["control"]["sender"]["type"] == kind
        assert len(carol.heard()) == (kind != "user")
        assert len(outside.heard()) == (kind == "room")
        assert alice.heard() == []


async def test_control_does_not_reach_another_backend() -> None:
    async with House() as house:
        alice, eve = await house.open("alice"), await house.open("eve", OTHER)
        control(alice, to(eve))
        control(alice, {"type": "user", "userid": "eve"})
        assert eve.heard() == alice.heard() == []


@pytest.mark.parametrize("permissions", [[], ["publish-media", "transient-data"]])
async def test_without_the_permission_it_is_dropped_silently(permissions: list[str]) -> None:
    async with House() as house:
        house.nextcloud.rooms["r"] = FakeRoom(permissions=permissions)
        alice, bob = await house.member("alice"), await house.member("bob")
        alice.heard()
        control(alice, to(bob))
        control(alice, {"type": "room"})
        assert bob.heard() == alice.heard() == []


async def test_with_the_permission_it_is_delivered() -> None:
    async with House() as house:
        house.nextcloud.rooms["r"] = FakeRoom(permissions=["control"])
        alice, bob = await house.member("alice"), await house.member("bob")
        control(alice, to(bob))
        assert len(bob.heard()) == 1


async def test_control_to_oneself_to_nobody_or_to_no_room_is_dropped() -> None:
    async with House() as house:
        alice, again = await house.open("alice"), await house.open("alice")
        recipients: list[Json] = [to(alice), {"type": "session", "sessionid": "nobody"}, {"type": "room"}]
        for recipient in [*recipients, {"type": "call"}, {"type": "user", "userid": "alice"}]:
            control(alice, recipient)
        assert alice.heard() == again.heard() == []


@pytest.mark.parametrize(
    "body",
    [
        None,
        {},
        {"recipient": {"type": "room"}},
        {"recipient": {"type": "room"}, "data": None},
        {"data": 1},
        {"recipient": {"type": "nobody"}, "data": 1},
        {"recipient": {"type": "session"}, "data": 1},
        {"recipient": {"type": "user", "userid": ""}, "data": 1},
    ],
)
async def test_control_without_recipient_or_data_is_invalid(body: Any) -> None:
    async with House() as house:
        house.nextcloud.rooms["r"] = FakeRoom(permissions=[])
        alice = await house.member("alice")
        alice.say({"id": "c", "type": "control", "control": body})
        (error,) = alice.heard()
        assert (error["id"], error["error"]["code"]) == ("c", "invalid_format")


async def test_control_data_goes_out_byte_for_byte_and_waits_for_who_is_away() -> None:
    data = '[ 1.0, "\\ud83d" , {"a" :null}]'
    async with House() as house:
        alice, bob = await house.member("alice"), await house.member("bob")
        alice.heard()
        bob.lose()
        alice.say(f'{{"type":"control","control":{{"recipient":{{"type":"room"}},"data":{data}}}}}')
        again = await house.resume(bob)
        await settle()
        assert any(f'"data":{data}'.encode() in written for written in again.connection.written)
