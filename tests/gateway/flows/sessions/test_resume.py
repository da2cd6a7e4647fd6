"""Resumed sessions, and sessions that end with a bye (reference 2.5-2.8)."""

from __future__ import annotations

import asyncio

import pytest

from tests.gateway.flows.harness import FakeClient, FlowHarness
from tests.gateway.flows.virtual_time import settle


def send_resume(client: FakeClient, resumeid: str) -> None:
    client.send({"type": "hello", "hello": {"version": "1.0", "resumeid": resumeid}})


# reference 2.8-e
async def test_resumed_session_receives_the_hello_reply_and_then_the_missed_messages() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.member("alice"), await harness.member("bob")
        alice.received()
        alice.disconnect()
        bob.send_message(alice, "to her")
        bob.send_message({"type": "room"}, "to all")
        await settle()
        again = await harness.resume(alice)
        first, *rest = again.received()
        assert first["hello"] == {
            "version": "1.0",
            "sessionid": alice.sessionid,
            "resumeid": alice.resumeid,
            "userid": "alice",
            "server": {"version": "test/1.0", "features": ["a", "b"]},
        }
        assert [message["message"]["data"] for message in rest] == ["to her", "to all"]
        assert harness.nextcloud.joins()[2:] == []


# reference 2.5-c
async def test_session_expires_thirty_seconds_after_its_connection() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.member("alice"), await harness.member("bob")
        alice.disconnect()
        await harness.sweep(29.9)
        assert bob.received() == []
        again = await harness.resume(alice)
        assert again.received()[0]["type"] == "hello"
        again.disconnect()
        await harness.sweep(29.9)
        await harness.sweep(0.2)
        assert bob.received()[0]["event"]["leave"] == [alice.sessionid]
        late = await harness.resume(alice)
        assert late.error_codes() == ["no_such_session"]
        assert [request.sessionid for request in harness.nextcloud.leaves()] == ["nc-alice"]


# reference 2.8-d
async def test_resume_replaces_a_live_connection() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.member("alice"), await harness.member("bob")
        alice.received()
        again = await harness.resume(alice)
        assert alice.received() == [{"type": "bye", "bye": {"reason": "session_resumed"}}]
        assert alice.connection.finished
        alice.disconnect()
        bob.send_message(alice, "still there")
        assert [message["type"] for message in again.received()] == ["hello", "message"]
        await harness.sweep(60.0)
        assert again.session.connection == again.connection.id
        assert harness.counters.resumed_total["cloud", "client"] == 1


async def test_messages_that_the_replaced_connection_did_not_write_are_written_by_the_next() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.member("alice"), await harness.member("bob")
        alice.received()
        alice.connection.stuck = True
        for number in range(3):
            bob.send_message(alice, number)
        again = await harness.resume(alice)
        assert [message["message"]["data"] for message in again.received()[1:]] == [0, 1, 2]


# reference 2.6-c
async def test_public_id_and_the_resume_id_of_a_closed_session_are_refused() -> None:
    async with FlowHarness() as harness:
        alice = await harness.hello("alice")
        client = harness.connect()
        client.received()
        send_resume(client, alice.sessionid)
        alice.send({"type": "bye"})
        send_resume(client, alice.resumeid)
        await asyncio.sleep(0.15)  # a forged resume id is answered late
        assert client.error_codes() == ["no_such_session"] * 2
        assert harness.counters.resume_failed_total == 2


# reference 2.8-f
async def test_participants_are_sent_after_a_resume_unless_an_update_waited() -> None:
    async with FlowHarness() as harness:
        alice = await harness.member("alice")
        harness.rooms_api(
            "r", {"type": "incall", "incall": {"incall": 0, "users": [{"sessionId": "nc-alice", "x": 1}]}}
        )
        alice.received()
        alice.disconnect()
        again = await harness.resume(alice)
        update = again.received()[1]["event"]["update"]
        assert update == {"roomid": "r", "users": [{"sessionId": alice.sessionid, "x": 1}]}
        again.disconnect()
        harness.rooms_api(
            "r", {"type": "participants", "participants": {"changed": [{"sessionId": "nc-alice", "x": 2}]}}
        )
        third = await harness.resume(again)
        updates = [message["event"]["update"]["users"] for message in third.received()[1:]]
        assert [users[0]["x"] for users in updates] == [2]
        third.disconnect()
        harness.rooms_api("r", {"type": "incall", "incall": {"incall": 7, "all": True}})
        fourth = await harness.resume(third)
        assert [message["event"]["update"] for message in fourth.received()[1:]] == [
            {"roomid": "r", "incall": 7, "all": True}
        ]


@pytest.mark.parametrize("features", [(), ("ack",)])
async def test_update_that_the_broken_connection_did_not_write_counts_as_waiting(features: tuple[str, ...]) -> None:
    async with FlowHarness() as harness:
        alice = await harness.member("alice", features=features)
        alice.connection.stuck = True
        harness.rooms_api(
            "r", {"type": "incall", "incall": {"incall": 0, "users": [{"sessionId": "nc-alice", "x": 1}]}}
        )
        alice.disconnect()
        again = await harness.resume(alice)
        assert [message["type"] for message in again.received()] == ["hello", "event"]


# reference 2.8-f
async def test_no_participants_are_sent_after_a_resume_without_a_list() -> None:
    async with FlowHarness() as harness:
        alice = await harness.member("alice")
        alice.disconnect()
        assert [message["type"] for message in (await harness.resume(alice)).received()] == ["hello"]


# -- bye (2.7)


# reference 2.7-a
async def test_bye_is_answered_without_a_body_and_ends_the_session() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.member("alice"), await harness.member("bob")
        alice.received()
        alice.send({"id": "b", "type": "bye", "bye": {}})
        await settle()
        assert alice.received() == [{"id": "b", "type": "bye"}]
        assert alice.connection.finished
        assert bob.received()[0]["event"]["leave"] == [alice.sessionid]
        assert [request.sessionid for request in harness.nextcloud.leaves()] == ["nc-alice"]
        alice.join()
        alice.send("junk")
        await settle()
        assert alice.received() == []
