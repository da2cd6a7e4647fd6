"""Transient data of a room (reference 10), in virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.gateway.flows.fakes import FakeRoom
from tests.gateway.flows.harness import FakeClient, FlowHarness, Json
from tests.gateway.flows.virtual_time import settle

SECOND = 1_000_000_000


def set_value(client: FakeClient, key: str, value: Any = None, **more: Any) -> None:
    client.send({"id": "t", "type": "transient", "transient": {"type": "set", "key": key, "value": value, **more}})


def remove_value(client: FakeClient, key: str) -> None:
    client.send({"id": "t", "type": "transient", "transient": {"type": "remove", "key": key}})


def transient_messages(client: FakeClient) -> list[Json]:
    messages = client.received()
    assert all(message["type"] == "transient" and "id" not in message for message in messages), messages
    return [message["transient"] for message in messages]


# reference 10-d
async def test_changes_are_sent_to_all_members_and_to_their_author() -> None:
    async with FlowHarness(without_permissions=True) as harness:
        alice, bob = await harness.member("alice"), await harness.member("bob")
        elsewhere = await harness.member("carol", "elsewhere")
        alice.received()
        set_value(alice, "k", {"a": [1]})
        assert (
            transient_messages(alice) == transient_messages(bob) == [{"type": "set", "key": "k", "value": {"a": [1]}}]
        )
        set_value(bob, "k", False)
        changed = {"type": "set", "key": "k", "value": False, "oldvalue": {"a": [1]}}
        assert transient_messages(alice) == transient_messages(bob) == [changed]
        remove_value(alice, "k")
        assert (
            transient_messages(alice) == transient_messages(bob) == [{"type": "remove", "key": "k", "oldvalue": False}]
        )
        remove_value(alice, "k")
        set_value(alice, "k", None)
        assert alice.received() == bob.received() == elsewhere.received() == []


# reference 10-f
@pytest.mark.parametrize("message", ['{"type":"set","key":"k","value":null}', '{"type":"set","key":"k"}'])
async def test_set_without_a_value_removes_the_entry(message: str) -> None:
    async with FlowHarness(without_permissions=True) as harness:
        alice = await harness.member("alice")
        set_value(alice, "k", 1)
        alice.received()
        alice.send(f'{{"type":"transient","transient":{message}}}')
        assert transient_messages(alice) == [{"type": "remove", "key": "k", "oldvalue": 1}]


async def test_transient_value_is_relayed_byte_for_byte() -> None:
    value = '{ "n" : 99999999999999999999e0, "half":"\\ud83d" }'
    async with FlowHarness(without_permissions=True) as harness:
        alice = await harness.member("alice")
        alice.send(f'{{"type":"transient","transient":{{"type":"set","key":"k","value":{value}}}}}')
        assert f'"value":{value}'.encode() in alice.connection.written[-1]


# reference 4.3-a, 10-h
async def test_joining_session_receives_all_entries_before_the_join_events() -> None:
    async with FlowHarness(without_permissions=True) as harness:
        alice = await harness.member("alice")
        set_value(alice, "k", 1)
        set_value(alice, "l", [2])
        bob = await harness.hello("bob")
        bob.join(id="1")
        await settle()
        messages = bob.received()
        assert [message["type"] for message in messages] == ["room", "transient", "event", "event"]
        assert messages[1] == {"type": "transient", "transient": {"type": "initial", "data": {"k": 1, "l": [2]}}}


# reference 10-e
async def test_equal_value_sends_no_event_but_renews_the_deadline() -> None:
    async with FlowHarness(without_permissions=True) as harness:
        alice = await harness.member("alice")
        set_value(alice, "k", {"a": 1, "b": 2}, ttl=2 * SECOND)
        alice.received()
        await asyncio.sleep(1.5)
        alice.send('{"type":"transient","transient":{"type":"set","key":"k","value":{"b":2.0,"a":1},"ttl":2000000000}}')
        await asyncio.sleep(1.5)
        assert alice.received() == []
        await asyncio.sleep(0.6)
        assert transient_messages(alice) == [{"type": "remove", "key": "k", "oldvalue": {"a": 1, "b": 2}}]


async def test_equal_value_without_a_ttl_removes_the_deadline() -> None:
    async with FlowHarness(without_permissions=True) as harness:
        alice = await harness.member("alice")
        set_value(alice, "k", 1, ttl=SECOND)
        set_value(alice, "k", 1)
        alice.received()
        await asyncio.sleep(5)
        assert alice.received() == []


# reference 10-g
@pytest.mark.parametrize("ttl", [0, -1, None])
async def test_entry_without_a_positive_ttl_does_not_expire(ttl: int | None) -> None:
    async with FlowHarness(without_permissions=True) as harness:
        alice = await harness.member("alice")
        set_value(alice, "k", 1, ttl=ttl)
        alice.received()
        await asyncio.sleep(100)
        assert alice.received() == []


# reference 10-g
async def test_entries_expire_one_by_one_to_the_millisecond() -> None:
    async with FlowHarness(without_permissions=True) as harness:
        alice = await harness.member("alice")
        set_value(alice, "late", 1, ttl=3 * SECOND)
        set_value(alice, "early", 1, ttl=SECOND // 20)
        set_value(alice, "far", 1, ttl=5000 * SECOND)
        alice.received()
        await asyncio.sleep(0.049)
        assert alice.received() == []
        await asyncio.sleep(0.003)
        assert [change["key"] for change in transient_messages(alice)] == ["early"]
        await asyncio.sleep(2.95)
        assert [change["key"] for change in transient_messages(alice)] == ["late"]
        await asyncio.sleep(4900)
        assert alice.received() == []
        await asyncio.sleep(98)
        assert [change["key"] for change in transient_messages(alice)] == ["far"]


# reference 10-g
async def test_new_value_outlives_the_deadline_of_the_old_one() -> None:
    async with FlowHarness(without_permissions=True) as harness:
        alice = await harness.member("alice")
        set_value(alice, "k", 1, ttl=SECOND)
        set_value(alice, "k", 2)
        alice.received()
        await asyncio.sleep(3)
        assert alice.received() == []


# reference 4.2-c, 4.3-d, 10-i
async def test_entry_of_a_session_is_removed_when_it_leaves() -> None:
    async with FlowHarness(without_permissions=True) as harness:
        alice, bob = await harness.member("alice"), await harness.member("bob")
        set_value(alice, f"sd:{alice.sessionid}", {"hand": True})
        bob.received()
        alice.leave()
        await settle()
        leave, removed = bob.received()
        assert leave["event"]["type"] == "leave"
        key = f"sd:{alice.sessionid}"
        assert removed["transient"] == {"type": "remove", "key": key, "oldvalue": {"hand": True}}


# reference 4.2-d, 10-i
async def test_transient_data_end_with_the_room() -> None:
    async with FlowHarness(without_permissions=True) as harness:
        alice = await harness.member("alice")
        set_value(alice, "k", 1, ttl=SECOND)
        alice.leave()
        bob = await harness.hello("bob")
        bob.join()
        await settle()
        assert [message["type"] for message in bob.received()] == ["room", "event"]
        await asyncio.sleep(2)
        assert bob.received() == []


async def test_disconnected_session_receives_changes_after_the_resume() -> None:
    async with FlowHarness(without_permissions=True) as harness:
        alice, bob = await harness.member("alice"), await harness.member("bob")
        alice.received()
        bob.disconnect()
        set_value(alice, "k", 1)
        remove_value(alice, "k")
        again = await harness.resume(bob)
        assert [message["transient"]["type"] for message in again.received()[1:]] == ["set", "remove"]


# reference 10-a
@pytest.mark.parametrize(
    ("body", "code"),
    [
        (None, "invalid_format"),
        ({}, "invalid_format"),
        ({"type": "set", "value": 1}, "invalid_format"),
        ({"type": "remove", "key": ""}, "invalid_format"),
        ({"type": "set", "key": "k", "value": 1}, "not_in_room"),
        ({"type": "remove", "key": "k"}, "not_in_room"),
        ({"type": "initial"}, "not_in_room"),
    ],
)
async def test_malformed_transient_request_and_one_outside_of_a_room_are_refused(body: Json | None, code: str) -> None:
    async with FlowHarness(without_permissions=True) as harness:
        alice = await harness.hello("alice")
        alice.send({"id": "t", "type": "transient", "transient": body})
        (error,) = alice.received()
        assert (error["id"], error["error"]["code"]) == ("t", code)


# reference 10-b, 10-c
async def test_transient_request_is_refused_without_permission() -> None:
    async with FlowHarness(without_permissions=True) as harness:
        harness.nextcloud.rooms["r"] = FakeRoom(permissions=["transient-data"])
        harness.nextcloud.rooms["limited"] = FakeRoom(permissions=["control"])
        alice, bob, limited = (
            await harness.member("alice"),
            await harness.member("bob"),
            await harness.member("limited", "limited"),
        )
        alice.received()
        set_value(alice, f"sd:{bob.sessionid}", 1)
        remove_value(alice, "sd:")
        alice.send({"type": "transient", "transient": {"type": "initial"}})
        assert alice.error_codes() == ["not_allowed", "not_allowed", "ignored"]
        set_value(limited, "k", 1)
        set_value(limited, f"sd:{limited.sessionid}", 1)
        limited.send({"type": "transient", "transient": {"type": "other"}})
        assert limited.error_codes() == ["not_allowed", "not_allowed", "ignored"]
        assert bob.received() == []


@pytest.mark.parametrize("ttl", ["1", 1.5, 2**63, True])
async def test_ttl_that_is_not_an_integer_makes_the_message_undecodable(ttl: Any) -> None:
    async with FlowHarness(without_permissions=True) as harness:
        alice = await harness.member("alice")
        set_value(alice, "k", 1, ttl=ttl)
        (error,) = alice.received()
        assert error["error"]["code"] == "invalid_format"
        assert "id" not in error
