"""Membership of sessions in rooms of another server (seats): requests, time limits, and misbehaving hosts.

Source: reference 12.1, 12.3; docs/threat-model.md, "Federation".
"""

from __future__ import annotations

import asyncio
import dataclasses
import json

import msgspec
import pytest

from gateway.core.limits import FederationRules, Limits
from gateway.flows.call_log import SessionEnd
from tests.gateway.flows.federation.fake_host import NO_ANSWER, REMOTE_ID, FakeHost, error
from tests.gateway.flows.federation.seats import harness_with, relayed, request_join, seated_client, types_of
from tests.gateway.flows.harness import Json
from tests.gateway.flows.sessions.test_federation import federated_client
from tests.gateway.flows.virtual_time import settle

# -- requests


# reference 12.1-a
async def test_join_sends_a_hello_and_a_join_request_to_the_host() -> None:
    host = FakeHost("ack")
    async with harness_with(host) as harness:
        await seated_client(harness, "alice", "chat-relay", "ack")
        hello, join = host.connection.sent
        assert hello["hello"] == {
            "version": "2.0",
            "features": ["chat-relay", "ack"],
            "auth": {"type": "federation", "url": "https://cloud.host.example/", "params": {"token": "t"}},
        }
        assert join["room"] == {"roomid": "R", "sessionid": "nc"}


async def test_ack_is_not_requested_from_a_host_that_does_not_announce_it() -> None:
    host = FakeHost()
    async with harness_with(host) as harness:
        await seated_client(harness, "alice", "ack")
        assert host.sent("hello")[0]["hello"]["features"] == []


async def test_room_id_of_the_host_may_be_left_out() -> None:
    host = FakeHost()
    async with harness_with(host) as harness:
        client = await harness.hello("alice")
        request_join(client, roomid=None)
        await settle()
        assert host.sent("room")[0]["room"]["roomid"] == "L"
        assert client.received()[0]["room"] == {"roomid": "L"}


# reference 12.1-g
async def test_only_regular_clients_join_rooms_of_other_servers() -> None:
    host = FakeHost()
    async with harness_with(host) as harness:
        bridge = await harness.internal_hello()
        zoe = await federated_client(harness)
        for client in (bridge, zoe):
            client.received()
            request_join(client)
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
        request_join(client)
        await settle()
        (refusal,) = client.received()
        assert refusal["error"]["details"]["code"] == "disabled"
        assert host.connects == []


async def test_messages_after_the_join_request_go_to_the_host() -> None:
    host = FakeHost()
    async with harness_with(host) as harness:
        client = await harness.hello("alice")
        request_join(client)
        client.send_message({"type": "session", "sessionid": client.sessionid}, 1)
        client.send({"id": "b", "type": "unknown", "unknown": {"a": 1}})
        client.send({"id": "c", "type": "message", "message": {"data": 1}})
        await settle()
        sent = host.connection.sent
        assert [message["type"] for message in sent] == ["hello", "room", "message", "unknown"]
        assert sent[2]["message"]["recipient"]["sessionid"] == REMOTE_ID
        assert client.received()[-1]["error"]["code"] == "invalid_format"  # validated by this server, not relayed


# -- time limits


# attack: a host that does not answer
@pytest.mark.parametrize("step", ["welcome", "hello", "join"])
async def test_join_fails_after_10_seconds_at_a_silent_host(step: str) -> None:
    host = FakeHost()
    setattr(host, step, NO_ANSWER)
    async with harness_with(host) as harness:
        client = await harness.member("alice")
        request_join(client)
        await asyncio.sleep(9.0)
        assert client.received() == []
        await asyncio.sleep(2.0)
        (refusal,) = client.received()
        assert refusal["error"]["details"]["code"] == "network_error"
        assert harness.hub.room_of(client.session) is not None
        assert host.connection.aborted or host.sent("bye")
        await asyncio.sleep(10.0)
        assert host.connection.aborted
        assert harness.hub.seated == {}


async def test_join_timer_of_a_guest_stops_with_a_join_request_and_restarts_when_the_guest_is_in_no_room() -> None:
    host = FakeHost()
    async with harness_with(host) as harness:
        seated_guest = await seated_client(harness, "")
        refused_guest = await harness.hello("")
        host.join = error("no_such_room")
        await asyncio.sleep(9.0)
        request_join(refused_guest)
        await harness.sweep(9.0)
        assert [message["type"] for message in refused_guest.received()] == ["error"]
        await harness.sweep(2.0)
        assert refused_guest.received() == [{"type": "bye", "bye": {"reason": "room_join_timeout"}}]
        assert seated_guest.received() == []
        seated_guest.leave()
        await harness.sweep(11.0)
        assert seated_guest.received()[-1] == {"type": "bye", "bye": {"reason": "room_join_timeout"}}


# reference 12.3-a, 12.3-d
async def test_reconnects_back_off_and_end() -> None:
    host = FakeHost()
    async with harness_with(host) as harness:
        client = await seated_client(harness)
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
async def test_reconnects_to_a_host_that_ends_each_connection_back_off() -> None:
    host = FakeHost()
    async with harness_with(host) as harness:
        await seated_client(harness)
        for _ in range(100):
            host.connection.lose()
            await asyncio.sleep(1.0)
        assert 10 < len(host.connects) < 25
        await asyncio.sleep(30.0)
        count = len(host.connects)
        host.connection.lose()  # the gateway reconnects at once, because this connection lasted for 30 s
        await asyncio.sleep(0.5)
        assert len(host.connects) == count + 1


# reference 12.3-d
@pytest.mark.parametrize(
    "code", ["internal_error", "too_many_requests", "session_limit_exceeded", "shutdown_scheduled"]
)
async def test_temporary_errors_of_the_host_are_retried(code: str) -> None:
    host = FakeHost()
    async with harness_with(host) as harness:
        client = await seated_client(harness)
        host.resume = error("no_such_session")
        host.hello = error(code)
        host.connection.lose()
        await asyncio.sleep(5.0)
        assert len(client.received()) == 1  # federation_interrupted
        host.hello = {"sessionid": "new", "resumeid": "new"}
        await asyncio.sleep(20.0)
        assert types_of(client.received()) == [
            "federation_resumed",
            "room",
        ]
        client.send_message({"type": "session", "sessionid": client.sessionid}, 1)
        await settle()
        assert host.connection.sent[-1]["message"]["recipient"]["sessionid"] == "new"


async def test_join_that_is_refused_after_an_interruption_ends_the_membership() -> None:
    host = FakeHost()
    async with harness_with(host) as harness:
        client = await seated_client(harness)
        host.resume, host.join = error("no_such_session"), error("no_such_room")
        host.connection.lose()
        await asyncio.sleep(2.0)
        assert types_of(client.received()) == ["federation_interrupted", "federation_resumed", "error", "room"]
        assert harness.hub.seated == {}


async def test_connection_that_is_lost_before_the_host_answers_a_join_leads_to_a_new_session() -> None:
    host = FakeHost("ack")
    async with harness_with(host) as harness:
        client = await seated_client(harness)
        host.join = NO_ANSWER
        request_join(client, "j2", "L2", roomid="R2")
        await settle()
        host.connection.lose()
        host.join = {}
        await asyncio.sleep(2.0)
        messages = client.received()
        assert types_of(messages) == [
            "federation_interrupted",
            "error",
            "federation_resumed",
            "room",
        ]
        assert (messages[1]["id"], messages[2]["event"]["resumed"]) == ("j2", False)
        assert messages[3] == {"type": "room", "room": {"roomid": "L"}}
        assert host.sent("room")[-1]["room"]["roomid"] == "R"


async def test_chat_is_queued_for_a_client_without_a_connection_as_in_a_local_room() -> None:
    host = FakeHost()
    async with harness_with(host) as harness:
        alice = await seated_client(harness)
        alice.disconnect()
        for chat in ({"refresh": True}, {"refresh": True}, {"comment": {"id": 1, "token": "R"}}):
            message = {"roomid": "R", "data": {"type": "chat", "chat": chat}}
            event = {"target": "room", "type": "message", "message": message}
            host.connection.deliver({"type": "event", "event": event})
        await settle()
        again = await harness.resume(alice)
        data = [message["event"]["message"] for message in again.received()[1:]]
        assert [body["data"]["chat"] for body in data] == [{"refresh": True}, {"comment": {"id": 1, "token": "L"}}]


async def test_join_reply_without_a_room_is_a_refusal() -> None:
    host = FakeHost()
    host.join = {"roomid": ""}
    async with harness_with(host) as harness:
        client = await harness.member("alice")
        request_join(client)
        await settle()
        assert client.error_codes() == ["room_join_failed"]
        assert harness.hub.room_of(client.session) is not None


async def test_fault_in_a_seat_ends_the_membership_and_sends_the_client_an_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a fault")

    host = FakeHost()
    async with harness_with(host) as harness:
        alice, bob = await seated_client(harness), await seated_client(harness, "bob")
        monkeypatch.setattr("gateway.wire.federation.to_local", fail)
        host.connections[0].deliver(relayed(1))
        await settle()
        monkeypatch.undo()
        messages = alice.received()
        assert [message["type"] for message in messages] == ["error", "room"]
        assert messages[0]["error"]["code"] == "internal_error"
        assert "RuntimeError: a fault" in caplog.text
        host.connections[1].deliver(relayed(2))
        await settle()
        assert bob.received() == [relayed(2)]
        request_join(alice)
        await settle()
        assert [message["type"] for message in alice.received()] == ["room"]


# -- hosts that misbehave


# attack: messages about other sessions, malformed ones, those of the handshake with the gateway, and ``bye``
async def test_hostile_host_disturbs_no_other_session() -> None:
    host = FakeHost()
    async with harness_with(host) as harness:
        bob = await harness.member("bob")
        carol = await seated_client(harness, "carol")
        alice = await seated_client(harness)
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
            host.connection.deliver(message)
        host.connection.deliver(relayed("seen"))
        await settle()
        assert alice.received() == [relayed("seen")]
        host.connection.deliver({"type": "bye", "bye": {"reason": "x" * 1000}})
        await settle()
        assert alice.connection.finished
        assert (
            alice.received() == []
        )  # the reason of the host is not relayed: a client could take it for one of this server
        assert set(harness.hub.sessions) == {bob.sessionid, carol.sessionid}
        assert (bob.received(), carol.received()) == ([], [])
        assert list(harness.hub.seated) == [carol.sessionid]


async def test_bye_before_the_join_ends_the_attempt_only() -> None:
    host = FakeHost()
    host.join = NO_ANSWER
    async with harness_with(host) as harness:
        client = await harness.member("alice")
        request_join(client)
        await settle()
        host.connection.deliver({"type": "bye", "bye": {"reason": "room_session_reconnected"}})
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
        alice = await seated_client(harness)
        for number in range(2000):
            host.connection.deliver(relayed(number))
        await asyncio.sleep(1.0)
        assert 500 <= len(alice.received()) <= 1200
        await asyncio.sleep(20.0)
        assert alice.received()[-1] == relayed(1999)


# attack: a flood of bytes, of which a character has up to four
@pytest.mark.parametrize("character", ["x", "ä", "🙂"])
async def test_bytes_of_a_host_are_limited_whatever_their_characters(character: str) -> None:
    host = FakeHost()
    async with harness_with(host) as harness:
        harness.change_settings(limits=Limits(bytes_per_second=10_000, bytes_burst=40_000))
        alice = await seated_client(harness)
        for number in range(100):
            message = relayed(character * (4000 // len(character.encode())) + str(number))
            host.connection.deliver(json.dumps(message, ensure_ascii=False))
        await asyncio.sleep(10.0)
        assert 30 <= len(alice.received()) <= 45  # of 4 kB each: the burst, and ten seconds of the rate


# attack: a false number of acknowledged messages
@pytest.mark.parametrize("number", [0, 5, 10**9])
async def test_false_acknowledgements_are_ignored(number: int) -> None:
    host = FakeHost("ack")
    async with harness_with(host) as harness:
        alice = await seated_client(harness)
        host.connection.deliver({"type": "ack", "ack": {"received": number}})
        await settle()
        alice.send_message({"type": "room"}, "kept")
        await settle()
        host.resume = dict(host.hello, received=1)  # the host has received the join request only
        host.connection.lose()
        await asyncio.sleep(1.0)
        assert [message["type"] for message in host.connection.sent] == ["hello", "message"]


async def test_number_of_received_messages_is_sent_to_the_host_with_each_resume() -> None:
    host = FakeHost("ack")
    async with harness_with(host) as harness:
        await seated_client(harness)
        for number in range(20):
            host.connection.deliver(relayed(number))
        await settle()
        assert host.sent("ack") == [{"type": "ack", "ack": {"received": 16}}]  # the reply to the join counts
        host.connection.lose()
        await asyncio.sleep(1.0)
        assert host.sent("hello")[-1]["hello"]["received"] == 21


# -- end of a membership


async def test_host_receives_a_bye_when_the_session_ends() -> None:
    host = FakeHost()
    async with harness_with(host) as harness:
        client = await seated_client(harness)
        client.disconnect()
        await harness.sweep(31.0)
        assert host.connection.sent[-1] == {"type": "bye"}
        await settle()
        assert host.connection.aborted


async def test_connection_to_a_host_that_ignores_a_bye_is_aborted() -> None:
    host = FakeHost()
    async with harness_with(host) as harness:
        client = await seated_client(harness)
        host.answer = lambda connection, message: None  # type: ignore[method-assign]
        client.leave(id="l")
        await settle()
        assert client.received() == [{"type": "room", "id": "l", "room": {"roomid": ""}}]
        host.connection.deliver(relayed("late"))
        await asyncio.sleep(6.0)
        assert host.connection.aborted
        assert client.received() == []


async def test_session_that_ends_during_the_join_leaves_no_seat_and_no_connection() -> None:
    host = FakeHost()
    host.join = NO_ANSWER
    async with harness_with(host) as harness:
        client = await harness.hello("alice")
        request_join(client)
        await settle()
        harness.flows.session_closer.end(client.session, SessionEnd.REMOVED)
        host.connection.deliver({"type": "room", "id": host.sent("room")[0]["id"], "room": {"roomid": "R"}})
        await asyncio.sleep(20.0)
        assert harness.hub.seated == {}
        assert host.connection.aborted


async def test_settings_of_a_reload_apply_from_the_next_join_on() -> None:
    host = FakeHost()
    async with harness_with(host) as harness:
        await seated_client(harness)
        rules = msgspec.structs.replace(harness.services.settings.federation, enabled=False)
        harness.flows.apply(dataclasses.replace(harness.services.settings, federation=rules))
        assert len(harness.hub.seated) == 1
        client = await harness.hello("bob")
        request_join(client)
        await settle()
        assert client.received()[0]["error"]["details"]["code"] == "disabled"
