"""The list of participants that a client of a federated room gets after a resume of its own session.

Source: reference 2.8, 12.3-l.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.flows.federation import listed_participants
from tests.gateway.flows.federation.fake_host import REMOTE_ID, FakeHost, error
from tests.gateway.flows.federation.seats import harness_with, relayed, request_join, seated_client
from tests.gateway.flows.harness import FakeClient, FlowHarness, Json
from tests.gateway.flows.virtual_time import settle


def update(**body: Any) -> Json:
    body = {"roomid": "R", **body}
    return {"type": "event", "event": {"target": "participants", "type": "update", "update": body}}


def leave(*sessions: str) -> Json:
    return {"type": "event", "event": {"target": "room", "type": "leave", "leave": list(sessions)}}


def entry(session: str, flags: int = 7, **members: Any) -> Json:
    return {"sessionId": session, "inCall": flags, **members}


async def messages_after_resume(
    harness: FlowHarness, client: FakeClient, host: FakeHost, *meanwhile: Json
) -> list[Json]:
    """Return the messages that a client receives after its resume; the host sends ``meanwhile`` before it."""
    client.disconnect()
    for message in meanwhile:
        host.connection.deliver(message)
    await settle()
    again = await harness.resume(client)
    return again.received()[1:]


async def deliver_before_disconnect(host: FakeHost, client: FakeClient, *messages: Json) -> None:
    """Deliver messages of the host, which the client receives while it is connected."""
    for message in messages:
        host.connection.deliver(message)
    await settle()
    client.received()


# reference 12.3-l
async def test_last_list_of_the_host_follows_the_missed_messages() -> None:
    host = FakeHost("ack")
    async with harness_with(host) as harness:
        alice = await seated_client(harness)
        actor: Json = {"actorType": "users", "actorId": "bob"}
        await deliver_before_disconnect(
            host, alice, update(users=[entry("old")]), update(users=[entry(REMOTE_ID), entry("bob", **actor)])
        )
        local: Json = {"actorType": "federated_users", "actorId": "bob@cloud.host.example"}
        listed = update(roomid="L", users=[entry(alice.sessionid), entry("bob", **local)])
        assert await messages_after_resume(harness, alice, host, relayed("meanwhile")) == [relayed("meanwhile"), listed]


async def test_list_among_the_missed_messages_is_not_repeated() -> None:
    host = FakeHost("ack")
    async with harness_with(host) as harness:
        alice = await seated_client(harness)
        await deliver_before_disconnect(host, alice, update(users=[entry("bob")]))
        missed = update(users=[entry("bob", 3)])
        assert await messages_after_resume(harness, alice, host, missed) == [
            update(roomid="L", users=[entry("bob", 3)])
        ]


async def test_nothing_is_sent_if_the_host_has_listed_no_session() -> None:
    host = FakeHost("ack")
    async with harness_with(host) as harness:
        alice = await seated_client(harness)
        await deliver_before_disconnect(host, alice, update(users=[]), update(changed=[entry("bob")]), leave("bob"))
        assert await messages_after_resume(harness, alice, host) == []


async def test_nothing_is_sent_if_all_listed_sessions_have_left() -> None:
    host = FakeHost("ack")
    async with harness_with(host) as harness:
        alice = await seated_client(harness)
        await deliver_before_disconnect(host, alice, update(users=[entry("bob")]))
        assert await messages_after_resume(harness, alice, host, leave("bob")) == [leave("bob")]


async def test_sessions_that_left_since_are_not_in_the_list() -> None:
    host = FakeHost("ack")
    async with harness_with(host) as harness:
        alice = await seated_client(harness)
        users = [entry("bob"), {"sessionid": "carol", "inCall": 1}, entry("dave"), {"inCall": 1}]
        await deliver_before_disconnect(host, alice, update(users=users), leave("bob", "carol"), leave("unknown"))
        expected = update(roomid="L", users=[entry("dave"), {"inCall": 1}])
        assert await messages_after_resume(harness, alice, host, leave("eve")) == [leave("eve"), expected]


async def test_end_of_the_call_is_in_the_list() -> None:
    host = FakeHost("ack")
    async with harness_with(host) as harness:
        alice = await seated_client(harness)
        await deliver_before_disconnect(
            host, alice, update(users=[entry("bob"), entry("carol")]), update(incall=0, all=True)
        )
        listed = update(roomid="L", users=[entry("bob", 0), entry("carol", 0)])
        assert await messages_after_resume(harness, alice, host) == [listed]


async def test_list_is_dropped_when_all_enter_the_call() -> None:
    """The request lets no federated participant enter the call, and the list does not mark them."""
    host = FakeHost("ack")
    async with harness_with(host) as harness:
        alice = await seated_client(harness)
        await deliver_before_disconnect(host, alice, update(users=[entry("bob", 0)]), update(incall=7, all=True))
        assert await messages_after_resume(harness, alice, host) == []


async def test_changes_without_a_list_are_merged() -> None:
    host = FakeHost("ack")
    async with harness_with(host) as harness:
        alice = await seated_client(harness)
        changed = update(changed=[entry("bob", 0), entry("dave")])
        await deliver_before_disconnect(
            host, alice, update(users=[entry("bob"), entry("carol")]), leave("carol"), changed
        )
        listed = update(roomid="L", users=[entry("bob", 0), entry("dave")])
        assert await messages_after_resume(harness, alice, host) == [listed]


@pytest.mark.parametrize("change", ["other room", "new session", "leave", "local room"])
async def test_list_of_another_room_or_session_is_dropped(change: str) -> None:
    host = FakeHost("ack")
    async with harness_with(host) as harness:
        alice = await seated_client(harness)
        await deliver_before_disconnect(host, alice, update(users=[entry("bob")]))
        if change == "other room":
            request_join(alice, "j2", "L2", roomid="R2")
        elif change == "new session":
            host.resume = error("no_such_session")
            host.connection.lose()
        else:
            alice.send({"type": "room", "room": {"roomid": "here" if change == "local room" else ""}})
        await asyncio.sleep(2.0)
        alice.received()
        assert await messages_after_resume(harness, alice, host) == []
        assert harness.flows.federated_rooms.list_bytes == 0


# attack: lists that fill the memory
@pytest.mark.parametrize("limit", ["MAX_LIST_BYTES", "MAX_LIST_BYTES_TOTAL"])
async def test_memory_for_lists_is_limited(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listed_participants, limit, 1000)
    monkeypatch.setattr(listed_participants, "GUARANTEED_LIST_BYTES", 100)
    host = FakeHost("ack")
    async with harness_with(host) as harness:
        alice = await seated_client(harness)
        await deliver_before_disconnect(host, alice, update(users=[entry("x" * 1000)]))
        assert harness.flows.federated_rooms.list_bytes == 0
        assert await messages_after_resume(harness, alice, host) == []


async def test_sessions_that_left_count_as_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listed_participants, "MAX_LIST_BYTES", 1000)
    host = FakeHost("ack")
    async with harness_with(host) as harness:
        alice = await seated_client(harness)
        await deliver_before_disconnect(
            host, alice, update(users=[entry("bob")]), *[leave(f"{number:0100}") for number in range(20)]
        )
        assert harness.flows.federated_rooms.list_bytes == 0
        alice.send({"type": "bye"})
        await settle()
        assert harness.flows.federated_rooms.list_bytes == 0
