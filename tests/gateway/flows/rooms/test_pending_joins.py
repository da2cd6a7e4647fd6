"""Requests of Nextcloud about a session that arrive while its join is being answered (reference 4.1)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.gateway.flows.fakes import FakeRoom
from tests.gateway.flows.harness import FakeClient, FlowHarness, Json
from tests.gateway.flows.virtual_time import settle


def request_incall(harness: FlowHarness, room: str = "r", **request: Any) -> None:
    harness.rooms_api(room, {"type": "incall", "incall": request})


def participant_lists(client: FakeClient) -> list[list[Json]]:
    events = [message["event"] for message in client.received() if message["type"] == "event"]
    return [event["update"]["users"] for event in events if event["target"] == "participants"]


@asynccontextmanager
async def pending_join(harness: FlowHarness, client: FakeClient, nc: str = "nc-alice") -> AsyncIterator[None]:
    """Let a client request to join; Nextcloud answers at the end of the context."""
    held = harness.nextcloud.gate = asyncio.Event()
    client.join("r", nc)
    await settle()
    yield
    held.set()
    harness.nextcloud.gate = None
    await settle()
    assert len(harness.hub.pending_joins) == 0


# reference 4.1-l
@pytest.mark.parametrize("others", [True, False])
@pytest.mark.parametrize("with_users", [True, False])
async def test_call_membership_of_a_joining_session_counts_when_it_is_in_the_room(
    others: bool, with_users: bool
) -> None:
    async with FlowHarness() as harness:
        bob = await harness.member("bob", in_call=True) if others else None
        alice = await harness.hello("alice")
        entry = {"sessionId": "nc-alice", "inCall": 7}
        async with pending_join(harness, alice):
            request: Json = {"changed": [entry]}
            if with_users:
                request["users"] = [{"sessionId": "nc-bob", "inCall": 7}, entry]
            harness.rooms_api("r", {"type": "incall", "incall": request})
            if bob is not None:
                for message in bob.received():
                    assert alice.sessionid not in str(message)
        assert alice.session.id in harness.room().in_call
        listed = {entry["sessionId"]: entry["inCall"] for entry in participant_lists(alice)[-1]}
        assert listed == {client.sessionid: 7 for client in (alice, bob) if client is not None}
        if bob is not None:
            events = [message["event"] for message in bob.received()]
            assert [(event["target"], event["type"]) for event in events] == [
                ("room", "join"),
                ("participants", "update"),
            ]
            assert {entry["sessionId"] for entry in events[1]["update"]["users"]} == {alice.sessionid, bob.sessionid}
            bob.offer()
            alice.media(bob, "requestoffer")
            await settle()
            assert len(harness.mcu.subscribers) == 1


# reference 4.1-l, 7.3-h
async def test_session_that_left_the_call_during_its_join_is_not_listed_again() -> None:
    async with FlowHarness() as harness:
        bob, alice = await harness.member("bob", in_call=True), await harness.hello("alice")
        async with pending_join(harness, alice):
            request_incall(harness, changed=[{"sessionId": "nc-alice", "inCall": 7}])
            request_incall(harness, changed=[{"sessionId": "nc-alice", "inCall": 0}])
        request_incall(harness, changed=[{"sessionId": "nc-bob", "inCall": 1}])
        assert participant_lists(alice)[-1] == participant_lists(bob)[-1] == [{"sessionId": bob.sessionid, "inCall": 1}]


async def test_latest_request_during_a_join_decides_the_call_membership() -> None:
    async with FlowHarness() as harness:
        alice = await harness.hello("alice")
        async with pending_join(harness, alice):
            request_incall(harness, changed=[{"sessionId": "nc-alice", "inCall": 7}])
            request_incall(harness, changed=[{"sessionId": "nc-alice", "inCall": 0}])
        assert harness.room().in_call == set()
        assert participant_lists(alice) == [[{"sessionId": alice.sessionid, "inCall": 0}]]


@pytest.mark.parametrize("flags", [7, 0])
async def test_request_for_all_during_a_join_decides_the_call_membership(flags: int) -> None:
    async with FlowHarness() as harness:
        alice = await harness.hello("alice")
        async with pending_join(harness, alice):
            request_incall(harness, changed=[{"sessionId": "nc-alice", "inCall": 3}])
            request_incall(harness, all=True, incall=flags)
        in_call = harness.room().in_call
        assert in_call == ({alice.sessionid} if flags else set())
        assert participant_lists(alice) == [[{"sessionId": alice.sessionid, "inCall": flags}]]


async def test_requests_about_other_rooms_and_sessions_have_no_effect() -> None:
    async with FlowHarness() as harness:
        alice = await harness.hello("alice")
        async with pending_join(harness, alice):
            request_incall(harness, "other", changed=[{"sessionId": "nc-alice", "inCall": 7}])
            request_incall(
                harness, changed=[{"sessionId": "nc-eve", "inCall": 7}, {"sessionId": alice.sessionid, "inCall": 7}]
            )
            harness.rooms_api("other", {"type": "delete", "delete": {}})
            harness.rooms_api("r", {"type": "disinvite", "disinvite": {"userids": ["eve"], "sessionids": ["0", "x"]}})
        assert harness.room().in_call == set()
        assert participant_lists(alice) == []


async def test_nothing_is_kept_for_a_join_that_is_refused() -> None:
    async with FlowHarness() as harness:
        harness.nextcloud.rooms["r"] = FakeRoom(error={"code": "no_such_room", "message": "?"})
        eve = await harness.hello("eve")
        async with pending_join(harness, eve):
            request_incall(harness, changed=[{"sessionId": "nc-alice", "inCall": 7}])
        del harness.nextcloud.rooms["r"]
        await harness.member("alice")
        assert harness.room().in_call == set()


# reference 4.1-l
async def test_permissions_that_arrive_during_a_join_are_newer_than_those_of_its_answer() -> None:
    async with FlowHarness() as harness:
        harness.nextcloud.rooms["r"] = FakeRoom(permissions=["control", "publish-media"])
        alice = await harness.hello("alice")
        async with pending_join(harness, alice):
            changed = [{"sessionId": "nc-alice", "permissions": ["publish-audio"]}]
            harness.rooms_api("r", {"type": "participants", "participants": {"changed": changed}})
        assert alice.session.permissions.listed == frozenset({"publish-audio"})


# reference 4.1-l
@pytest.mark.parametrize(
    "request_",
    [
        {"type": "disinvite", "disinvite": {"userids": ["alice"]}},
        {"type": "disinvite", "disinvite": {"sessionids": ["nc-alice"]}},
        {"type": "delete", "delete": {"userids": ["alice"]}},
    ],
)
async def test_session_that_is_disinvited_during_its_join_does_not_enter(request_: Json) -> None:
    async with FlowHarness() as harness:
        alice = await harness.hello("alice")
        async with pending_join(harness, alice):
            harness.rooms_api("r", request_)
            alice.received()
        assert alice.error_codes() == ["room_join_failed"]
        assert harness.hub.rooms == {}
        assert [leave.sessionid for leave in harness.nextcloud.leaves()] == ["nc-alice"]


async def test_request_during_an_exchange_of_the_nextcloud_session_decides_the_call_membership() -> None:
    async with FlowHarness() as harness:
        alice = await harness.member("alice")
        async with pending_join(harness, alice, "nc-2"):
            request_incall(harness, changed=[{"sessionId": "nc-2", "inCall": 7}])
        assert harness.room().in_call == {alice.sessionid}
