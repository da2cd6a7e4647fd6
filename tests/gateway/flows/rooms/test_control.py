"""Control messages, which need a permission (reference 5.3)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.gateway.flows.fakes import FakeRoom
from tests.gateway.flows.harness import OTHER, FakeClient, FlowHarness, Json
from tests.gateway.flows.virtual_time import settle


def control(client: FakeClient, recipient: Any, data: Any = None) -> None:
    client.send({"id": "c", "type": "control", "control": {"recipient": recipient, "data": data or {"type": "mute"}}})


def to(client: FakeClient) -> Json:
    return {"type": "session", "sessionid": client.sessionid}


async def test_control_reaches_a_session_in_any_room() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.hello("alice"), await harness.member("bob")
        control(alice, to(bob), {"type": "offer", "roomType": "no room type"})
        sender = {"type": "session", "sessionid": alice.sessionid, "userid": "alice"}
        data = {"type": "offer", "roomType": "no room type"}
        assert bob.received() == [{"type": "control", "control": {"sender": sender, "data": data}}]
        assert alice.received() == []


@pytest.mark.parametrize("type", ["room", "call", "user"])
async def test_control_to_several_sessions(type: str) -> None:
    async with FlowHarness() as harness:
        alice, bob, carol = await harness.callers("alice", "bob", "carol")
        outside = await harness.member("outside")
        for client in (alice, bob, carol):
            client.received()
        control(alice, {"type": type, "userid": "bob"})
        (message,) = bob.received()
        assert message["control"]["sender"]["type"] == type
        assert len(carol.received()) == (type != "user")
        assert len(outside.received()) == (type == "room")
        assert alice.received() == []


# reference 5.3-b
async def test_control_does_not_reach_another_backend() -> None:
    async with FlowHarness() as harness:
        alice, eve = await harness.hello("alice"), await harness.hello("eve", OTHER)
        control(alice, to(eve))
        control(alice, {"type": "user", "userid": "eve"})
        assert eve.received() == alice.received() == []


# reference 2.4-g, 5.3-a
@pytest.mark.parametrize("permissions", [[], ["publish-media", "transient-data"]])
async def test_control_without_the_permission_is_ignored(permissions: list[str]) -> None:
    async with FlowHarness() as harness:
        harness.nextcloud.rooms["r"] = FakeRoom(permissions=permissions)
        alice, bob = await harness.member("alice"), await harness.member("bob")
        alice.received()
        control(alice, to(bob))
        control(alice, {"type": "room"})
        assert bob.received() == alice.received() == []


# reference 5.3-a
async def test_control_with_the_permission_is_delivered() -> None:
    async with FlowHarness() as harness:
        harness.nextcloud.rooms["r"] = FakeRoom(permissions=["control"])
        alice, bob = await harness.member("alice"), await harness.member("bob")
        control(alice, to(bob))
        assert len(bob.received()) == 1


async def test_control_without_another_recipient_is_ignored() -> None:
    async with FlowHarness() as harness:
        alice, again = await harness.hello("alice"), await harness.hello("alice")
        recipients: list[Json] = [to(alice), {"type": "session", "sessionid": "nobody"}, {"type": "room"}]
        for recipient in [*recipients, {"type": "call"}, {"type": "user", "userid": "alice"}]:
            control(alice, recipient)
        assert alice.received() == again.received() == []


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
    async with FlowHarness() as harness:
        harness.nextcloud.rooms["r"] = FakeRoom(permissions=[])
        alice = await harness.member("alice")
        alice.send({"id": "c", "type": "control", "control": body})
        (error,) = alice.received()
        assert (error["id"], error["error"]["code"]) == ("c", "invalid_format")


async def test_control_data_is_relayed_byte_for_byte_also_after_a_resume() -> None:
    data = '[ 1.0, "\\ud83d" , {"a" :null}]'
    async with FlowHarness() as harness:
        alice, bob = await harness.member("alice"), await harness.member("bob")
        alice.received()
        bob.disconnect()
        alice.send(f'{{"type":"control","control":{{"recipient":{{"type":"room"}},"data":{data}}}}}')
        again = await harness.resume(bob)
        await settle()
        assert any(f'"data":{data}'.encode() in written for written in again.connection.written)
