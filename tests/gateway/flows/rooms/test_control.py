"""Control messages, which need a permission (reference 5.3)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.gateway.flows.fakes import FakeRoom
from tests.gateway.flows.harness import OTHER_CLOUD, FakeClient, FlowHarness, Json
from tests.gateway.flows.virtual_time import settle


def send_control(client: FakeClient, recipient: Any, data: Any = None) -> None:
    client.send({"id": "c", "type": "control", "control": {"recipient": recipient, "data": data or {"type": "mute"}}})


def session_recipient(client: FakeClient) -> Json:
    return {"type": "session", "sessionid": client.sessionid}


CONTROL_TYPE_DATA = [
    {"type": "control", "payload": {"action": "forceMute", "peerId": "x"}},
    {"type": "control", "payload": "no object"},
    {"type": "control", "sid": 5, "payload": {"action": "forceMute"}},
    {"type": "control", "roomType": [], "payload": {}},
]


# reference 5.3-a
async def test_data_of_a_control_message_is_not_checked_like_a_media_message() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.member("alice"), await harness.member("bob")
        alice.received()
        send_control(alice, session_recipient(bob), {"type": "offer", "roomType": "no room type"})
        sender = {"type": "session", "sessionid": alice.sessionid, "userid": "alice"}
        data = {"type": "offer", "roomType": "no room type"}
        assert bob.received() == [{"type": "control", "control": {"sender": sender, "data": data}}]
        assert alice.received() == []


# reference 5.2-i
@pytest.mark.parametrize("mcu", [True, False])
@pytest.mark.parametrize("recipient", ["session", "user", "room", "call"])
@pytest.mark.parametrize("type", ["control", "offer", "answer", "nickChanged"])
async def test_data_whose_type_stands_twice_is_not_relayed(type: str, recipient: str, mcu: bool) -> None:
    async with FlowHarness(mcu=mcu) as harness:
        harness.nextcloud.rooms["r"] = FakeRoom(permissions=["publish-media"])
        alice, bob = await harness.callers("alice", "bob")
        to_bob = f'{{"type":"{recipient}","sessionid":"{bob.sessionid}","userid":"bob"}}'
        for types in (f'"type":5,"type":"{type}"', f'"type":"{type}","type":"x"', f'"type":"x","t\\u0079pe":"{type}"'):
            data = f'{{{types},"payload":{{"sdp":"v=0","action":"forceMute"}}}}'
            alice.send(f'{{"type":"message","message":{{"recipient":{to_bob},"data":{data}}}}}')
            assert alice.error_codes() == ["invalid_format"]
        assert bob.received() == []


# reference 5.3-c
@pytest.mark.parametrize("mcu", [True, False])
@pytest.mark.parametrize("sender_room", ["r", "elsewhere", None])
@pytest.mark.parametrize("recipient_room", ["r", None])
@pytest.mark.parametrize("permitted", [True, False])
@pytest.mark.parametrize("type", ["session", "user", "room", "call"])
async def test_control_needs_the_permission_in_the_room_of_the_recipient(
    type: str, permitted: bool, recipient_room: str | None, sender_room: str | None, mcu: bool
) -> None:
    async with FlowHarness(mcu=mcu) as harness:
        for room in ("r", "elsewhere"):
            harness.nextcloud.rooms[room] = FakeRoom(permissions=["control"] if permitted else ["publish-media"])
        bob = await (harness.member("bob", recipient_room, in_call=True) if recipient_room else harness.hello("bob"))
        alice = await (harness.member("alice", sender_room) if sender_room else harness.hello("alice"))
        bob.received()
        recipient = {"type": type, "sessionid": bob.sessionid, "userid": "bob"}
        send_control(alice, recipient)
        for data in CONTROL_TYPE_DATA:  # Talk's clients treat a message of this type as a control message
            alice.send_message(recipient, data)
        allowed = permitted and sender_room == recipient_room == "r"
        received = bob.received()
        assert [message["type"] for message in received] == (["control", *["message"] * 4] if allowed else [])
        assert [message["message"]["data"] for message in received[1:]] == (CONTROL_TYPE_DATA if allowed else [])
        assert [message for message in alice.received() if message["type"] != "error"] == []


# reference 5.3-c
@pytest.mark.parametrize("room", ["r", "elsewhere", None])
async def test_control_message_to_a_virtual_session_needs_the_permission_in_its_room(room: str | None) -> None:
    async with FlowHarness() as harness:
        harness.nextcloud.rooms["r"] = FakeRoom(permissions=["control"])
        await harness.member("bob")
        bridge = await harness.internal_hello()
        bridge.send_internal("addsession", sessionid="p", roomid="r")
        await settle()
        alice = await (harness.member("alice", room) if room else harness.hello("alice"))
        bridge.received()
        recipient = {"type": "session", "sessionid": next(iter(harness.hub.virtuals))}
        send_control(alice, recipient, {"type": "dtmf"})
        alice.send_message(recipient, CONTROL_TYPE_DATA[0])
        assert [message["type"] for message in bridge.received()] == (["control", "message"] if room == "r" else [])


# reference 5.3-a
@pytest.mark.parametrize("room", ["r", "elsewhere", None])
async def test_internal_client_controls_sessions_of_its_backend_in_any_room(room: str | None) -> None:
    async with FlowHarness() as harness:
        bob, internal = await harness.member("bob"), await harness.internal_hello()
        if room:
            internal.join(room)
        await settle()
        bob.received()
        send_control(internal, session_recipient(bob))
        send_control(internal, {"type": "user", "userid": "bob"})
        internal.send_message(session_recipient(bob), CONTROL_TYPE_DATA[0])
        assert [message["type"] for message in bob.received()] == ["control", "control", "message"]


# reference 5.3-c
@pytest.mark.parametrize("change", ["revoked", "left"])
async def test_control_is_ignored_once_the_permission_is_revoked_or_the_room_is_left(change: str) -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.member("alice"), await harness.member("bob")
        if change == "left":
            alice.leave()
        else:
            changed = [{"sessionId": "nc-alice", "permissions": ["publish-media"]}]
            harness.rooms_api("r", {"type": "participants", "participants": {"changed": changed}})
        bob.received()
        send_control(alice, session_recipient(bob))
        alice.send_message(session_recipient(bob), CONTROL_TYPE_DATA[0])
        assert bob.received() == []


@pytest.mark.parametrize("type", ["room", "call", "user"])
async def test_control_reaches_the_room_the_call_or_the_sessions_of_a_user(type: str) -> None:
    async with FlowHarness() as harness:
        alice, bob, carol = await harness.callers("alice", "bob", "carol")
        outside = await harness.member("outside")
        for client in (alice, bob, carol):
            client.received()
        send_control(alice, {"type": type, "userid": "bob"})
        (message,) = bob.received()
        assert message["control"]["sender"]["type"] == type
        assert len(carol.received()) == (type != "user")
        assert len(outside.received()) == (type == "room")
        assert alice.received() == []


# reference 5.3-b
async def test_control_does_not_reach_another_backend() -> None:
    async with FlowHarness() as harness:
        alice, eve = await harness.hello("alice"), await harness.hello("eve", OTHER_CLOUD)
        send_control(alice, session_recipient(eve))
        send_control(alice, {"type": "user", "userid": "eve"})
        assert eve.received() == alice.received() == []


# reference 2.4-g, 5.3-a
@pytest.mark.parametrize("permissions", [[], ["publish-media", "transient-data"]])
async def test_control_without_the_permission_is_ignored(permissions: list[str]) -> None:
    async with FlowHarness() as harness:
        harness.nextcloud.rooms["r"] = FakeRoom(permissions=permissions)
        alice, bob = await harness.member("alice"), await harness.member("bob")
        alice.received()
        send_control(alice, session_recipient(bob))
        send_control(alice, {"type": "room"})
        assert bob.received() == alice.received() == []


async def test_control_without_the_permission_does_not_use_the_relay_budget_of_the_room() -> None:
    async with FlowHarness() as harness:
        harness.nextcloud.rooms["r"] = FakeRoom(permissions=[])
        alice = await harness.member("alice")
        before = harness.room().relay_budget.left
        send_control(alice, {"type": "room"})
        assert harness.room().relay_budget.left == before


# reference 5.3-a
async def test_control_with_the_permission_is_delivered() -> None:
    async with FlowHarness() as harness:
        harness.nextcloud.rooms["r"] = FakeRoom(permissions=["control"])
        alice, bob = await harness.member("alice"), await harness.member("bob")
        send_control(alice, session_recipient(bob))
        assert len(bob.received()) == 1


async def test_control_without_another_recipient_is_ignored() -> None:
    async with FlowHarness() as harness:
        alice, again = await harness.hello("alice"), await harness.hello("alice")
        recipients: list[Json] = [
            session_recipient(alice),
            {"type": "session", "sessionid": "nobody"},
            {"type": "room"},
        ]
        for recipient in [*recipients, {"type": "call"}, {"type": "user", "userid": "alice"}]:
            send_control(alice, recipient)
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
