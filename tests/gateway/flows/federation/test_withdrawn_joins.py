"""Joins of rooms of other servers that a later request, or the end of the session, withdraws.

Source: reference 12.3-e.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.core.limits import FederationRules
from tests.gateway.flows.federation.fake_host import NO_ANSWER, FakeHost, error
from tests.gateway.flows.federation.seats import harness_with, relayed, request_join, seated_client, types_of
from tests.gateway.flows.harness import FakeClient, FlowHarness, Json
from tests.gateway.flows.virtual_time import settle

STAGES = ["welcome", "hello", "join"]  # the answer of the host for which the join waits
WITHDRAWN_ERROR = ("j", "room_join_failed")


def silent_host(stage: str) -> FakeHost:
    """Return a host that does not send one of its answers."""
    host = FakeHost("ack")
    setattr(host, stage, NO_ANSWER)
    return host


def leave(client: FakeClient, id: str = "l") -> None:
    client.leave(id=id)


def join_here(client: FakeClient, room: str, id: str) -> None:
    client.join(room, "nc-local", id=id)


def replies(client: FakeClient) -> list[tuple[str, Any]]:
    """Return id and error code, or room id, of the replies among the messages that a client has received."""
    found = []
    for message in client.received():
        if message["type"] == "error":
            found.append((message["id"], message["error"]["code"]))
        elif message["type"] == "room":
            found.append((message.get("id"), message["room"]["roomid"]))
        elif message["type"] == "bye":
            found.append((message.get("id"), "bye"))
    return found


def requests(host: FakeHost) -> list[str]:
    """Return the rooms that the host was asked to join, and each ``bye``, in order."""
    sent = [message for connection in host.connections for message in connection.sent]
    return [
        message["room"]["roomid"] if message["type"] == "room" else "bye"
        for message in sent
        if message["type"] in ("room", "bye")
    ]


def accept(host: FakeHost, number: int = -1) -> None:
    """Answer one of the joins that the host has received."""
    asked = host.sent("room")[number]
    host.connection.deliver({"type": "room", "id": asked["id"], "room": {"roomid": asked["room"]["roomid"]}})


def refuse(host: FakeHost, number: int, code: str) -> None:
    host.connection.deliver({"type": "error", "id": host.sent("room")[number]["id"], "error": error(code)})


# -- the request that ends the join


# reference 12.3-e
@pytest.mark.parametrize("stage", STAGES)
async def test_leave_does_not_wait_for_the_host(stage: str) -> None:
    host = silent_host(stage)
    async with harness_with(host) as harness:
        alice, bob = await harness.member("alice"), await harness.member("bob")
        alice.received()
        request_join(alice)
        await settle()
        alice.send_message(bob, "before the leave")
        leave(alice)
        await settle()
        assert replies(alice) == [WITHDRAWN_ERROR, ("l", "")]
        seen = bob.received()
        assert [message["type"] for message in seen] == ["message", "event"]  # in this order
        assert seen[0]["message"]["data"] == "before the leave"
        assert requests(host) == (["R", "bye"] if stage == "join" else [])
        assert host.connection.aborted
        assert (harness.hub.seated, harness.hub.room_of(alice.session)) == ({}, None)


@pytest.mark.parametrize("stage", STAGES)
async def test_bye_does_not_wait_for_the_host(stage: str) -> None:
    host = silent_host(stage)
    async with harness_with(host) as harness:
        alice = await harness.member("alice")
        request_join(alice)
        await settle()
        alice.send({"id": "b", "type": "bye"})
        await settle()
        assert replies(alice) == [WITHDRAWN_ERROR, ("b", "bye")]
        assert harness.hub.sessions == {}
        assert requests(host) == (["R", "bye"] if stage == "join" else [])
        assert host.connection.aborted


@pytest.mark.parametrize("stage", STAGES)
async def test_join_of_a_local_room_does_not_wait_for_the_host(stage: str) -> None:
    host = silent_host(stage)
    async with harness_with(host) as harness:
        alice = await harness.hello("alice")
        request_join(alice)
        await settle()
        join_here(alice, "here", "h")
        await settle()
        assert replies(alice) == [WITHDRAWN_ERROR, ("h", "here")]
        assert harness.hub.seated == {}
        assert host.connection.aborted


@pytest.mark.parametrize("stage", STAGES)
async def test_join_of_a_room_elsewhere_does_not_wait_for_the_first_host(stage: str) -> None:
    host = silent_host(stage)
    async with harness_with(host) as harness:
        alice = await harness.hello("alice")
        request_join(alice)
        await settle()
        answering = FakeHost("ack")
        harness.services.remote_servers = answering
        request_join(alice, "j2", "L2", signaling="wss://other.example/")
        await settle()
        assert replies(alice) == [WITHDRAWN_ERROR, ("j2", "L2")]
        assert host.connection.aborted
        answering.connection.deliver(relayed("seen"))
        await settle()
        assert alice.received() == [relayed("seen")]


@pytest.mark.parametrize("stage", STAGES)
async def test_last_of_many_requests_counts(stage: str) -> None:
    host = silent_host(stage)
    async with harness_with(host) as harness:
        alice, bob = await harness.member("alice"), await harness.member("bob")
        alice.received()
        for number in range(5):
            request_join(alice, f"j{number}", roomid=f"R{number}")
            alice.send_message(bob, number)
        leave(alice)
        await settle()
        assert replies(alice) == [(f"j{number}", "room_join_failed") for number in range(5)] + [("l", "")]
        data = [message["message"]["data"] for message in bob.received() if message["type"] == "message"]
        assert data == list(range(5))
        assert all(connection.aborted for connection in host.connections)
        assert harness.hub.seated == {}


async def test_malformed_requests_withdraw_nothing() -> None:
    host = silent_host("join")
    async with harness_with(host) as harness:
        alice = await harness.hello("alice")
        request_join(alice)
        await settle()
        alice.send({"id": "1", "type": "room"})
        alice.send({"id": "2", "type": "room", "room": {"roomid": 5}})
        alice.send({"id": "3", "type": "room", "room": {"roomid": "L", "federation": {"signaling": "wss://h/"}}})
        alice.send({"id": "4"})
        alice.send("[")
        await settle()
        assert alice.received() == []
        accept(host)
        await settle()
        messages = alice.received()
        assert messages[0] == {"type": "room", "id": "j", "room": {"roomid": "L"}}
        assert [message["error"]["code"] for message in messages[1:]] == ["invalid_format"] * 5


async def test_guest_without_a_room_has_its_time_limit_again() -> None:
    host = silent_host("join")
    async with harness_with(host) as harness:
        guest = await harness.hello("")
        request_join(guest)
        await harness.sweep(9.0)
        leave(guest)
        await harness.sweep(9.0)
        assert replies(guest) == [WITHDRAWN_ERROR]  # a session in no room gets no reply to a leave (4.2)
        await harness.sweep(2.0)
        assert guest.received() == [{"type": "bye", "bye": {"reason": "room_join_timeout"}}]


# -- the answer of the host at the same time


@pytest.mark.parametrize("turns", range(10))
@pytest.mark.parametrize("requested", ["leave", "bye", "here"])
async def test_request_that_crosses_the_answer_of_the_host_is_carried_out(turns: int, requested: str) -> None:
    """The host has accepted; the client's next request comes some iterations of the event loop later."""
    host = silent_host("join")
    async with harness_with(host) as harness:
        alice = await harness.member("alice")
        alice.received()
        request_join(alice)
        await settle()
        accept(host)
        for _ in range(turns):
            await asyncio.sleep(0)
        if requested == "leave":
            leave(alice, "n")
        elif requested == "bye":
            alice.send({"id": "n", "type": "bye"})
        else:
            join_here(alice, "here", "n")
        await settle()
        first, second = replies(alice)
        assert first in (WITHDRAWN_ERROR, ("j", "L"))
        assert second == ("n", {"leave": "", "bye": "bye", "here": "here"}[requested])
        assert requests(host) == ["R", "bye"]
        assert host.connection.aborted
        assert harness.hub.seated == {}


async def test_acceptance_that_follows_the_withdrawal_has_no_effect() -> None:
    host = silent_host("join")
    host.answer_bye = False
    async with harness_with(host) as harness:
        alice = await harness.member("alice")
        alice.received()
        request_join(alice)
        await settle()
        leave(alice)
        await settle()
        accept(host)
        host.connection.deliver(relayed("late"))
        await settle()
        assert replies(alice) == [WITHDRAWN_ERROR, ("l", "")]
        assert requests(host) == ["R", "bye"]
        assert harness.hub.seated == {}
        assert not host.connection.aborted
        await asyncio.sleep(6.0)  # a host that does not close the connection is left
        assert host.connection.aborted


async def test_host_that_accepts_after_the_time_limit_gets_a_bye() -> None:
    host = silent_host("join")
    async with harness_with(host) as harness:
        alice = await harness.member("alice")
        alice.received()
        request_join(alice)
        await asyncio.sleep(11.0)
        assert replies(alice) == [("j", "federation_error")]
        assert requests(host) == ["R", "bye"]
        accept(host)
        await settle()
        assert alice.received() == []
        assert harness.hub.seated == {}
        assert host.connection.aborted


# -- a further join over the connection of the present room


async def client_with_unanswered_move(harness: FlowHarness, host: FakeHost) -> FakeClient:
    """Return a client in a room of the host, with a join of the room ``R2`` that the host does not answer.

    Its own Nextcloud refuses all further joins.
    """
    client = await seated_client(harness)
    refusal = {"type": "error", "error": {"code": "no_such_room", "message": ""}}
    harness.nextcloud.answer = lambda request: refusal
    host.join = NO_ANSWER
    request_join(client, roomid="R2", room="L2")
    await settle()
    return client


# reference 12.3-m
async def test_leave_during_a_move_ends_the_session_at_the_host() -> None:
    host = FakeHost("ack")
    async with harness_with(host) as harness:
        alice = await client_with_unanswered_move(harness, host)
        leave(alice)
        await settle()
        assert replies(alice) == [WITHDRAWN_ERROR, ("l", "")]
        assert requests(host) == ["R", "R2", "bye"]
        assert host.connection.aborted
        assert harness.hub.seated == {}


# reference 12.3-m
@pytest.mark.parametrize("accepted", [True, False])
async def test_client_whose_next_join_is_refused_is_in_its_room_at_the_host(accepted: bool) -> None:
    host = FakeHost("ack")
    async with harness_with(host) as harness:
        alice = await client_with_unanswered_move(harness, host)
        alice.send_message({"type": "room"}, "for R")
        join_here(alice, "here", "h")
        await settle()
        assert replies(alice) == [WITHDRAWN_ERROR, ("h", "no_such_room")]
        assert requests(host) == ["R", "R2", "R"]
        assert [message["type"] for message in host.connection.sent[-2:]] == ["room", "message"]
        if accepted:
            accept(host, 1)
            host.connection.deliver(relayed("in R2"))
            await settle()
            assert alice.received() == []
            accept(host, 2)
        else:
            refuse(host, 1, "no_such_room")
            refuse(host, 2, "already_joined")
        host.connection.deliver(relayed("in R"))
        await settle()
        returned: list[Json] = [{"type": "room", "room": {"roomid": "L"}}] if accepted else []
        assert alice.received() == [*returned, relayed("in R")]
        assert list(harness.hub.seated) == [alice.sessionid]
        await asyncio.sleep(30.0)
        assert alice.received() == []
        assert len(host.connections) == 1


async def test_room_that_cannot_be_joined_again_is_lost() -> None:
    host = FakeHost("ack")
    async with harness_with(host) as harness:
        alice = await client_with_unanswered_move(harness, host)
        join_here(alice, "here", "h")
        await settle()
        alice.received()
        accept(host, 1)
        refuse(host, 2, "room_join_failed")
        await settle()
        messages = alice.received()
        assert [message["type"] for message in messages] == ["error", "room"]
        assert messages[1] == {"type": "room", "room": {"roomid": ""}}
        assert requests(host)[-1] == "bye"
        assert harness.hub.seated == {}


async def test_next_join_of_a_room_of_the_host_waits_for_the_return_to_the_first_room() -> None:
    host = FakeHost("ack")
    async with harness_with(host) as harness:
        alice = await client_with_unanswered_move(harness, host)
        request_join(alice, "j3", "L3", roomid="R3")
        await settle()
        assert requests(host) == ["R", "R2", "R"]
        accept(host, 1)
        accept(host, 2)
        await settle()
        assert requests(host) == ["R", "R2", "R", "R3"]
        accept(host, 3)
        host.connection.deliver(relayed("in R3"))
        await settle()
        assert alice.received()[1:] == [
            {"type": "room", "room": {"roomid": "L"}},
            {"type": "room", "id": "j3", "room": {"roomid": "L3"}},
            relayed("in R3"),
        ]


@pytest.mark.parametrize("breaks", [True, False])
async def test_host_that_does_not_answer_the_return_to_the_first_room_gets_a_new_session(breaks: bool) -> None:
    host = FakeHost("ack")
    async with harness_with(host) as harness:
        alice = await client_with_unanswered_move(harness, host)
        join_here(alice, "here", "h")
        await settle()
        alice.received()
        if breaks:
            host.connection.lose()
        else:
            await asyncio.sleep(9.0)
        host.join = {}
        await asyncio.sleep(3.0)
        messages = alice.received()
        assert types_of(messages) == [
            "federation_interrupted",
            "federation_resumed",
            "room",
        ]
        assert messages[1]["event"]["resumed"] is False
        assert messages[2] == {"type": "room", "room": {"roomid": "L"}}


# -- the end of the session, and a lost connection


@pytest.mark.parametrize("stage", STAGES)
async def test_end_of_the_session_ends_the_join(stage: str) -> None:
    host = silent_host(stage)
    async with harness_with(host) as harness:
        harness.change_settings(federation=FederationRules(timeout=1000.0))
        alice = await harness.hello("alice")
        request_join(alice)
        await settle()
        alice.disconnect()
        await harness.sweep(31.0)
        assert harness.hub.sessions == {}
        assert requests(host) == (["R", "bye"] if stage == "join" else [])
        assert host.connection.aborted


async def test_lost_connection_of_the_client_does_not_end_the_join() -> None:
    host = silent_host("join")
    async with harness_with(host) as harness:
        alice = await harness.hello("alice")
        request_join(alice)
        await settle()
        alice.disconnect()
        again = await harness.resume(alice)
        accept(host)
        await settle()
        assert replies(again) == [("j", "L")]
        request_join(again, "j2", "L2", roomid="R2")
        await settle()
        leave(again)
        await settle()
        assert replies(again) == [("j2", "room_join_failed"), ("l", "")]


async def test_disinvitation_of_a_client_that_is_away_ends_the_join() -> None:
    host = silent_host("join")
    async with harness_with(host) as harness:
        alice = await harness.member("alice")
        request_join(alice)
        await settle()
        alice.disconnect()
        harness.rooms_api("r", {"type": "disinvite", "disinvite": {"userids": ["alice"], "alluserids": []}})
        await settle()
        accept(host)
        await settle()
        assert harness.hub.seated == {}
        assert requests(host) == ["R", "bye"]
