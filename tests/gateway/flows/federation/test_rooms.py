"""Seats in rooms of another server: requests, time limits, and hosts that misbehave.

Source: reference 12.1, 12.3; docs/threat-model.md, "Federation".
"""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import msgspec
import pytest

from gateway.core.limits import FederationRules, Limits
from tests.gateway.flows.federation.fake_host import ID, SILENT, FakeHost, error
from tests.gateway.flows.harness import FakeClient, FlowHarness, Json
from tests.gateway.flows.sessions.test_federation import federated
from tests.gateway.flows.virtual_time import settle

TARGET = {"signaling": "wss://host.example/", "url": "https://cloud.host.example/", "roomid": "R", "token": "t"}


def harness_with(host: FakeHost) -> FlowHarness:
    harness = FlowHarness()
    harness.services.remote_servers = host
    return harness


def request(client: FakeClient, id: str = "j", room: str = "L", **target: Any) -> None:
    federation = TARGET | target
    client.send({"id": id, "type": "room", "room": {"roomid": room, "sessionid": "nc", "federation": federation}})


async def seated(harness: FlowHarness, userid: str = "alice", *features: str) -> FakeClient:
    """Return a client in a room of the host; its messages are read."""
    client = await harness.hello(userid, features=features)
    request(client)
    await settle()
    reply = client.received()
    assert [message["type"] for message in reply] == ["room"], reply
    return client


def relayed(data: Any, sender: str = "other") -> Json:
    body = {"sender": {"type": "session", "sessionid": sender}, "data": data}
    return {"type": "message", "message": body}


# -- requests


# reference 12.1-a
async def test_hello_and_join_of_the_host() -> None:
    host = FakeHost("ack")
    async with harness_with(host) as harness:
        await seated(harness, "alice", "chat-relay", "ack")
        hello, join = host.connection.said
        assert hello["hello"] == {
            "version": "2.0",
            "features": ["chat-relay", "ack"],
            "auth": {"type": "federation", "url": "https://cloud.host.example/", "params": {"token": "t"}},
        }
        assert join["room"] == {"roomid": "R", "sessionid": "nc"}


async def test_ack_is_not_asked_of_a_host_that_does_not_announce_it() -> None:
    host = FakeHost()
    async with harness_with(host) as harness:
        await seated(harness, "alice", "ack")
        assert host.said("hello")[0]["hello"]["features"] == []


async def test_room_id_of_the_host_may_be_left_out() -> None:
    host = FakeHost()
    async with harness_with(host) as harness:
        client = await harness.hello("alice")
        request(client, roomid=None)
        await settle()
        assert host.said("room")[0]["room"]["roomid"] == "L"
        assert client.received()[0]["room"] == {"roomid": "L"}


# reference 12.1-g
async def test_only_regular_clients_join_rooms_of_other_servers() -> None:
    host = FakeHost()
    async with harness_with(host) as harness:
        bridge = await harness.internal_hello()
        zoe = await federated(harness)
        for client in (bridge, zoe):
            client.received()
            request(client)
            await settle()
            (refusal,) = client.received()
            assert (refusal["error"]["code"], refusal["error"]["details"]["code"]) == (
                "federation_error",
                "not_allowed",
            )
        assert host.connects == []


async def test_federation_may_be_disabled() -> None:
    host = FakeHost()
    async with harness_with(host) as harness:
        harness.change_settings(federation=FederationRules(enabled=False))
        client = await harness.hello("alice")
        request(client)
        await settle()
        (refusal,) = client.received()
        assert refusal["error"]["details"]["code"] == "disabled"
        assert host.connects == []


async def test_messages_after_the_join_request_go_to_the_host() -> None:
    host = FakeHost()
    async with harness_with(host) as harness:
        client = await harness.hello("alice")
        request(client)
        client.send_message({"type": "session", "sessionid": client.sessionid}, 1)
        client.send({"id": "b", "type": "unknown", "unknown": {"a": 1}})
        client.send({"id": "c", "type": "message", "message": {"data": 1}})
        await settle()
        said = host.connection.said
        assert [message["type"] for message in said] == ["hello", "room", "message", "unknown"]
        assert said[2]["message"]["recipient"]["sessionid"] == ID
        assert client.received()[-1]["error"]["code"] == "invalid_format"  # by this server


# -- time limits


# attack: a host that does not answer
@pytest.mark.parametrize("step", ["welcome", "hello", "join"])
async def test_silent_host_is_given_up(step: str) -> None:
    host = FakeHost()
    setattr(host, step, SILENT)
    async with harness_with(host) as harness:
        client = await harness.member("alice")
        request(client)
        await asyncio.sleep(9.0)
        assert client.received() == []
        await asyncio.sleep(2.0)
        (refusal,) = client.received()
        assert refusal["error"]["details"]["code"] == "network_error"
        assert harness.hub.room_of(client.session) is not None
        assert host.connection.aborted or host.said("bye")
        await asyncio.sleep(10.0)
        assert host.connection.aborted
        assert harness.hub.seated == {}


async def test_join_timer_of_a_guest_waits_for_the_host_and_begins_again_without_it() -> None:
    host = FakeHost()
    async with harness_with(host) as harness:
        seated_guest = await seated(harness, "")
        refused_guest = await harness.hello("")
        host.join = error("no_such_room")
        await asyncio.sleep(9.0)
        request(refused_guest)
        await harness.sweep(9.0)
        assert [message["type"] for message in refused_guest.received()] == ["error"]
        await harness.sweep(2.0)
        assert refused_guest.received() == [{"type": "bye", "bye": {"reason": "room_join_timeout"}}]
        assert seated_guest.received() == []
        seated_guest.send({"type": "room", "room": {"roomid": ""}})
        await harness.sweep(11.0)
        assert seated_guest.received()[-1] == {"type": "bye", "bye": {"reason": "room_join_timeout"}}


# reference 12.3-a, 12.3-d
async def test_attempts_to_connect_again_back_off_and_end() -> None:
    host = FakeHost()
    async with harness_with(host) as harness:
        client = await seated(harness)
        host.unavailable = True
        host.connection.lose()
        await asyncio.sleep(700.0)
        messages = client.received()
        assert messages[0]["event"] == {"target": "room", "type": "federation_interrupted"}
        assert messages[1]["error"]["details"]["code"] == "network_error"
        assert messages[2] == {"type": "room", "room": {"roomid": ""}}
        assert len(messages) == 3
        pauses = [after - before for before, after in zip(host.connects[1:], host.connects[2:], strict=False)]
        assert 0.05 <= host.connects[1] - host.connects[0] < 0.2
        assert all(0.05 * 2 ** (n + 1) <= pause <= 0.15 * 2 ** (n + 1) for n, pause in enumerate(pauses[:6]))
        assert all(4.0 <= pause <= 12.0 for pause in pauses[6:])
        assert harness.hub.seated == {}


# attack: a host that accepts connections only to end them
async def test_host_that_ends_each_connection_is_asked_less_and_less() -> None:
    host = FakeHost()
    async with harness_with(host) as harness:
        await seated(harness)
        for _ in range(100):
            host.connection.lose()
            await asyncio.sleep(1.0)
        assert 10 < len(host.connects) < 25
        await asyncio.sleep(30.0)
        count = len(host.connects)
        host.connection.lose()  # a connection that has lasted is made again at once
        await asyncio.sleep(0.5)
        assert len(host.connects) == count + 1


# reference 12.3-d
@pytest.mark.parametrize(
    "code", ["internal_error", "too_many_requests", "session_limit_exceeded", "shutdown_scheduled"]
)
async def test_refusals_that_may_pass_are_tried_again(code: str) -> None:
    host = FakeHost()
    async with harness_with(host) as harness:
        client = await seated(harness)
        host.resume = error("no_such_session")
        host.hello = error(code)
        host.connection.lose()
        await asyncio.sleep(5.0)
        assert len(client.received()) == 1  # interrupted
        host.hello = {"sessionid": "new", "resumeid": "new"}
        await asyncio.sleep(20.0)
        assert [message.get("event", message)["type"] for message in client.received()] == [
            "federation_resumed",
            "room",
        ]
        client.send_message({"type": "session", "sessionid": client.sessionid}, 1)
        await settle()
        assert host.connection.said[-1]["message"]["recipient"]["sessionid"] == "new"


async def test_join_that_is_refused_after_an_interruption_ends_the_room() -> None:
    host = FakeHost()
    async with harness_with(host) as harness:
        client = await seated(harness)
        host.resume, host.join = error("no_such_session"), error("no_such_room")
        host.connection.lose()
        await asyncio.sleep(2.0)
        types = [message.get("event", message)["type"] for message in client.received()]
        assert types == ["federation_interrupted", "federation_resumed", "error", "room"]
        assert harness.hub.seated == {}


async def test_connection_that_is_lost_before_the_host_answers_a_join_leads_to_a_new_session() -> None:
    host = FakeHost("ack")
    async with harness_with(host) as harness:
        client = await seated(harness)
        host.join = SILENT
        request(client, "j2", "L2", roomid="R2")
        await settle()
        host.connection.lose()
        host.join = {}
        await asyncio.sleep(2.0)
        messages = client.received()
        assert [message.get("event", message)["type"] for message in messages] == [
            "federation_interrupted",
            "error",
            "federation_resumed",
            "room",
        ]
        assert (messages[1]["id"], messages[2]["event"]["resumed"]) == ("j2", False)
        assert messages[3] == {"type": "room", "room": {"roomid": "L"}}
        assert host.said("room")[-1]["room"]["roomid"] == "R"


async def test_chat_is_queued_for_a_client_without_a_connection_as_in_a_local_room() -> None:
    host = FakeHost()
    async with harness_with(host) as harness:
        alice = await seated(harness)
        alice.disconnect()
        for chat in ({"refresh": True}, {"refresh": True}, {"comment": {"id": 1, "token": "R"}}):
            message = {"roomid": "R", "data": {"type": "chat", "chat": chat}}
            host.connection.say({"type": "event", "event": {"target": "room", "type": "message", "message": message}})
        await settle()
        again = await harness.resume(alice)
        data = [message["event"]["message"] for message in again.received()[1:]]
        assert [body["data"]["chat"] for body in data] == [{"refresh": True}, {"comment": {"id": 1, "token": "L"}}]


async def test_second_join_that_is_not_answered_leads_to_a_new_session_in_the_first_room() -> None:
    host = FakeHost("ack")
    async with harness_with(host) as harness:
        client = await seated(harness)
        host.join = SILENT
        request(client, "j2", "L2", roomid="R2")
        await asyncio.sleep(9.0)
        host.join = {}
        assert client.received() == []
        await asyncio.sleep(2.0)
        messages = client.received()
        assert {message["type"] for message in messages} == {"error", "event", "room"}
        assert messages[-1] == {"type": "room", "room": {"roomid": "L"}}
        assert [hello["hello"].get("resumeid") for hello in host.said("hello")] == [None, None]


async def test_join_reply_without_a_room_is_a_refusal() -> None:
    host = FakeHost()
    host.join = {"roomid": ""}
    async with harness_with(host) as harness:
        client = await harness.member("alice")
        request(client)
        await settle()
        assert client.error_codes() == ["room_join_failed"]
        assert harness.hub.room_of(client.session) is not None


async def test_fault_in_a_seat_ends_the_membership_and_tells_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a fault")

    host = FakeHost()
    async with harness_with(host) as harness:
        alice, bob = await seated(harness), await seated(harness, "bob")
        monkeypatch.setattr("gateway.wire.federation.to_local", fail)
        host.connections[0].say(relayed(1))
        await settle()
        monkeypatch.undo()
        messages = alice.received()
        assert [message["type"] for message in messages] == ["error", "room"]
        assert messages[0]["error"]["code"] == "internal_error"
        host.connections[1].say(relayed(2))
        await settle()
        assert bob.received() == [relayed(2)]
        request(alice)
        await settle()
        assert [message["type"] for message in alice.received()] == ["room"]


# -- hosts that misbehave


# attack: messages that name others, belong to the connection, or are malformed; and ``bye``
async def test_hostile_host_disturbs_no_other_session() -> None:
    host = FakeHost()
    async with harness_with(host) as harness:
        bob = await harness.member("bob")
        carol = await seated(harness, "carol")
        alice = await seated(harness)
        hostile: list[Json | str] = [
            {"type": "hello", "hello": {"sessionid": bob.sessionid, "resumeid": bob.resumeid}},
            {"type": "welcome", "welcome": {"features": []}},
            {"type": "room", "room": {"roomid": "r"}},
            {"type": "event", "event": {"target": "room", "type": "delete"}},
            {"type": "event", "event": {"target": "room", "type": "federation_resumed", "resumed": False}},
            {"type": "event", "event": {"target": "roomlist", "type": "disinvite", "disinvite": {"roomid": "r"}}},
            {"type": "ack", "ack": {"received": 10**12}},
            relayed(1, alice.sessionid),
            "{",
            "[]",
            '{"type":"room","room":5}',
        ]
        for message in hostile:
            host.connection.say(message)
        host.connection.say(relayed("seen"))
        await settle()
        assert alice.received() == [relayed("seen")]
        host.connection.say({"type": "bye", "bye": {"reason": "x" * 1000}})
        await settle()
        assert alice.connection.finished
        assert alice.received() == []  # no reason that a client could take for another
        assert set(harness.hub.sessions) == {bob.sessionid, carol.sessionid}
        assert (bob.received(), carol.received()) == ([], [])
        assert list(harness.hub.seated) == [carol.sessionid]


async def test_bye_before_the_join_ends_the_attempt_only() -> None:
    host = FakeHost()
    host.join = SILENT
    async with harness_with(host) as harness:
        client = await harness.member("alice")
        request(client)
        await settle()
        host.connection.say({"type": "bye", "bye": {"reason": "room_session_reconnected"}})
        await settle()
        (refusal,) = client.received()
        assert refusal["error"]["code"] == "federation_error"
        assert harness.hub.room_of(client.session) is not None


# attack: a flood of messages
async def test_flood_of_a_host_is_slowed_down() -> None:
    host = FakeHost()
    async with harness_with(host) as harness:
        limits = Limits(messages_per_second=100, messages_burst=500)
        harness.change_settings(limits=limits)
        alice = await seated(harness)
        for number in range(2000):
            host.connection.say(relayed(number))
        await asyncio.sleep(1.0)
        assert 500 <= len(alice.received()) <= 1200
        await asyncio.sleep(20.0)
        assert alice.received()[-1] == relayed(1999)


# attack: a false number of acknowledged messages
@pytest.mark.parametrize("number", [0, 5, 10**9])
async def test_false_acknowledgements_are_ignored(number: int) -> None:
    host = FakeHost("ack")
    async with harness_with(host) as harness:
        alice = await seated(harness)
        host.connection.say({"type": "ack", "ack": {"received": number}})
        await settle()
        alice.send_message({"type": "room"}, "kept")
        await settle()
        host.resume = dict(host.hello, received=1)  # the join
        host.connection.lose()
        await asyncio.sleep(1.0)
        assert [message["type"] for message in host.connection.said] == ["hello", "message"]


async def test_numbers_of_messages_are_told_to_the_host_at_a_resume() -> None:
    host = FakeHost("ack")
    async with harness_with(host) as harness:
        await seated(harness)
        for number in range(20):
            host.connection.say(relayed(number))
        await settle()
        assert host.said("ack") == [{"type": "ack", "ack": {"received": 16}}]  # the reply to the join counts
        host.connection.lose()
        await asyncio.sleep(1.0)
        assert host.said("hello")[-1]["hello"]["received"] == 21


# -- the end


async def test_end_of_a_session_is_told_to_the_host() -> None:
    host = FakeHost()
    async with harness_with(host) as harness:
        client = await seated(harness)
        client.disconnect()
        await harness.sweep(31.0)
        assert host.connection.said[-1] == {"type": "bye"}
        await settle()
        assert host.connection.aborted


async def test_host_that_ignores_a_bye_is_left_after_a_time() -> None:
    host = FakeHost()
    async with harness_with(host) as harness:
        client = await seated(harness)
        host.answer = lambda connection, message: None  # type: ignore[method-assign]
        client.send({"id": "l", "type": "room", "room": {"roomid": ""}})
        await settle()
        assert client.received() == [{"type": "room", "id": "l", "room": {"roomid": ""}}]
        host.connection.say(relayed("late"))
        await asyncio.sleep(6.0)
        assert host.connection.aborted
        assert client.received() == []


async def test_session_that_ends_during_the_join_leaves_nothing() -> None:
    host = FakeHost()
    host.join = SILENT
    async with harness_with(host) as harness:
        client = await harness.hello("alice")
        request(client)
        await settle()
        harness.flows.session_closer.end(client.session)
        host.connection.say({"type": "room", "id": host.said("room")[0]["id"], "room": {"roomid": "R"}})
        await asyncio.sleep(20.0)
        assert harness.hub.seated == {}
        assert host.connection.aborted


async def test_settings_of_a_reload_hold_for_the_next_join() -> None:
    host = FakeHost()
    async with harness_with(host) as harness:
        await seated(harness)
        rules = msgspec.structs.replace(harness.services.settings.federation, enabled=False)
        harness.flows.apply(dataclasses.replace(harness.services.settings, federation=rules))
        assert len(harness.hub.seated) == 1
        client = await harness.hello("bob")
        request(client)
        await settle()
        assert client.received()[0]["error"]["details"]["code"] == "disabled"
