"""Clients that the host removes from its room or refuses: the messages that they receive.

Source: reference 12.1-f, 12.3-i, 12.3-k.
"""

from __future__ import annotations

import asyncio

import pytest

from tests.gateway.flows.federation.fake_host import FakeHost, error
from tests.gateway.flows.federation.seats import harness_with, relayed, request_join, seated_client
from tests.gateway.flows.harness import Json
from tests.gateway.flows.virtual_time import settle


def disinvite(room: str, reason: str) -> Json:
    body = {"roomid": room, "reason": reason}
    return {"type": "event", "event": {"target": "roomlist", "type": "disinvite", "disinvite": body}}


# reference 12.3-k
async def test_disinvitation_ends_the_session_and_is_not_answered_with_another_join() -> None:
    host = FakeHost("ack")
    async with harness_with(host) as harness:
        alice = await seated_client(harness)
        host.connection.deliver(disinvite("R", "disinvited"))
        host.connection.deliver(relayed("late"))
        host.connection.lose()
        await asyncio.sleep(1.0)
        assert alice.received() == [disinvite("L", "disinvited")]
        assert alice.connection.finished
        assert (harness.hub.sessions, harness.hub.seated) == ({}, {})
        assert len(host.connects) == 1


async def test_disinvitation_waits_for_a_client_that_is_away() -> None:
    host = FakeHost("ack")
    async with harness_with(host) as harness:
        alice = await seated_client(harness)
        alice.disconnect()
        for message in (relayed("before"), disinvite("R", "disinvited"), relayed("late")):
            host.connection.deliver(message)
        await settle()
        assert harness.hub.seated == {}
        again = await harness.resume(alice)
        assert again.received()[1:] == [relayed("before"), disinvite("L", "disinvited")]
        assert again.connection.finished
        assert harness.hub.sessions == {}


async def test_disinvitation_from_another_room_is_not_passed_on() -> None:
    host = FakeHost()
    async with harness_with(host) as harness:
        alice = await seated_client(harness)
        host.connection.deliver(disinvite("L", "disinvited"))
        host.connection.deliver(relayed("seen"))
        await settle()
        assert alice.received() == [relayed("seen")]


@pytest.mark.parametrize("room_is_sent", [True, False])
async def test_deletion_of_the_room_ends_the_membership(room_is_sent: bool) -> None:
    # Deployed servers end the connection after the event, and send no ``room``.
    host = FakeHost("ack")
    async with harness_with(host) as harness:
        alice = await seated_client(harness)
        host.connection.deliver(disinvite("R", "deleted"))
        if room_is_sent:
            host.connection.deliver({"type": "room", "room": {"roomid": ""}})
        host.connection.lose()
        await asyncio.sleep(1.0)
        assert alice.received() == [disinvite("L", "deleted"), {"type": "room", "room": {"roomid": ""}}]
        assert list(harness.hub.sessions) == [alice.sessionid]
        assert harness.hub.seated == {}
        assert len(host.connects) == 1
        request_join(alice)
        await settle()
        assert [message["type"] for message in alice.received()] == ["room"]


# reference 12.1-f
async def test_refusal_of_a_join_has_the_details_of_the_host() -> None:
    host = FakeHost()
    async with harness_with(host) as harness:
        alice = await harness.hello("alice")
        for details, passed_on in (({"a": "b"}, True), ({"a": "b" * 20_000}, False)):
            host.join = error("no_such_room") | {"details": details}
            request_join(alice)
            await settle()
            (received,) = alice.received()
            assert received["error"]["code"] == "no_such_room"
            assert received["error"].get("details") == (details if passed_on else None)
