"""Hosts that send more than one session needs.

Source: docs/threat-model.md, "Federation".
"""

from __future__ import annotations

import asyncio
import json

import pytest

from gateway.core.limits import Limits
from gateway.flows.federation import remote_session
from tests.gateway.flows.federation.fake_host import FakeHost, error
from tests.gateway.flows.federation.seats import harness_with, relayed, request_join, seated_client, types_of
from tests.gateway.flows.harness import Json
from tests.gateway.flows.virtual_time import settle


# attack: messages that do not count
@pytest.mark.parametrize(
    "message",
    [{"type": "ack", "ack": {"received": 0}}, {"type": "bye", "bye": {"reason": "session_resumed"}}],
    ids=["ack", "bye"],
)
async def test_flood_of_messages_of_the_connection_is_slowed_down(message: Json) -> None:
    host = FakeHost("ack")
    async with harness_with(host) as harness:
        harness.change_settings(limits=Limits(messages_per_second=100, messages_burst=500))
        alice = await seated_client(harness)
        for _ in range(2000):
            host.connection.deliver(message)
        host.connection.deliver(relayed("last"))
        await asyncio.sleep(5.0)
        assert alice.received() == []
        await asyncio.sleep(20.0)
        assert alice.received() == [relayed("last")]
        host.connection.lose()
        await asyncio.sleep(1.0)
        assert host.sent("hello")[-1]["hello"]["received"] == 2  # the reply to the join, and the last message


# attack: ids that fill the memory, or that are none
@pytest.mark.parametrize("member", ["sessionid", "resumeid"])
@pytest.mark.parametrize("id", ["", "x" * 100_000])
async def test_ids_of_the_session_at_the_host_are_limited_in_length(member: str, id: str) -> None:
    host = FakeHost()
    host.hello = host.hello | {member: id}
    async with harness_with(host) as harness:
        client = await harness.member("alice")
        request_join(client)
        await settle()
        (refusal,) = client.received()
        assert refusal["error"]["details"]["code"] == "network_error"
        assert harness.hub.room_of(client.session) is not None


# attack: a room id that fills the memory
async def test_room_id_of_the_host_is_limited_in_length() -> None:
    host = FakeHost()
    host.join = {"roomid": "x" * 100_000}
    async with harness_with(host) as harness:
        client = await harness.member("alice")
        request_join(client)
        await settle()
        assert client.error_codes() == ["room_join_failed"]
        assert harness.hub.room_of(client.session) is not None


# attack: one message with so many comments or participants that the gateway stands still
@pytest.mark.parametrize(
    "event",
    [
        {"target": "room", "type": "message", "message": {"roomid": "R", "data": None}},
        {"target": "participants", "type": "update", "update": {"roomid": "R", "users": [{}] * 300_000}},
        {"target": "participants", "type": "update", "update": {"roomid": "R", "changed": [{}] * 300_000}},
    ],
    ids=["comments", "users", "changed"],
)
async def test_lists_of_one_message_are_limited_in_length(event: Json) -> None:
    host = FakeHost()
    if "message" in event:
        event["message"]["data"] = {"type": "chat", "chat": {"comments": [1] * 500_000}}
    async with harness_with(host) as harness:
        alice = await seated_client(harness)
        host.connection.deliver(json.dumps({"type": "event", "event": event}))
        host.connection.deliver(relayed("next"))
        await settle()
        assert alice.received() == [relayed("next")]


# attack: a long URL, which stands in the name of each user of the host
@pytest.mark.parametrize("member", ["signaling", "url"])
async def test_urls_are_limited_in_length(member: str) -> None:
    host = FakeHost()
    async with harness_with(host) as harness:
        client = await harness.hello("alice")
        request_join(client, **{member: f"https://cloud.host.example/{'x' * 486}/"})
        await settle()
        assert client.error_codes() == ["invalid_format"]
        request_join(client, **{member: f"https://cloud.host.example/{'x' * 480}/"})
        await settle()
        assert [message["type"] for message in client.received()] == ["room"]


# attack: a mention per word
async def test_mentions_of_one_comment_are_limited_in_number() -> None:
    host = FakeHost()
    async with harness_with(host) as harness:
        alice = await seated_client(harness)
        for count in (501, 500):
            mentions = {f"mention-user{number}": {"type": "user", "id": "b"} for number in range(count)}
            data = {"type": "chat", "chat": {"comments": [{"id": count, "messageParameters": mentions}, None]}}
            event = {"target": "room", "type": "message", "message": {"roomid": "R", "data": data}}
            host.connection.deliver({"type": "event", "event": event})
        await settle()
        (message,) = alice.received()
        comment = message["event"]["message"]["data"]["chat"]["comment"]
        assert comment["id"] == 500
        assert comment["messageParameters"]["mention-user0"]["server"] == "https://cloud.host.example"


# attack: a client that lets the gateway connect to a server again and again
@pytest.mark.parametrize("refused", [False, True], ids=["unreachable", "refused"])
async def test_failed_attempts_to_connect_count_for_a_while(refused: bool) -> None:
    host = FakeHost()
    host.unavailable, host.hello = not refused, error("invalid_token")
    async with harness_with(host) as harness:
        harness.change_settings(limits=Limits(federated_rooms_per_user=2))
        client = await harness.hello("alice")
        for _ in range(2):
            expected = "invalid_token" if refused else "federation_error"
            for code in (expected, expected, "limit_exceeded"):
                request_join(client)
                await settle()
                assert client.error_codes() == [code]
            await asyncio.sleep(10.1)
        assert len(host.connects) == 4


# attack: another spelling of a name, which counts anew
async def test_final_dot_of_a_name_makes_no_other_server() -> None:
    host = FakeHost()
    async with harness_with(host) as harness:
        harness.change_settings(limits=Limits(federated_rooms_per_server=1))
        await seated_client(harness)
        client = await harness.hello("bob")
        for url in ("wss://host.example./", "wss://HOST.example:443/path/"):
            request_join(client, signaling=url)
            await settle()
            assert client.error_codes() == ["limit_exceeded"]


# attack: many hosts that take no messages, and clients that send them
async def test_messages_kept_for_all_hosts_are_limited_in_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_session, "MAX_KEPT_BYTES_TOTAL", 1_000_000)
    message = {"recipient": {"type": "room"}, "data": "\U0001f600" * 40_000}  # 160 KB of memory
    large = json.dumps({"type": "message", "message": message}, ensure_ascii=False)
    host = FakeHost("ack")  # never acknowledges
    async with harness_with(host) as harness:
        clients = [await seated_client(harness, f"user{number}") for number in range(9)]
        quiet, *loud = clients
        connection = host.connections[0]
        for client in loud:
            client.send(large)
        await settle()
        quiet.send_message({"type": "room"}, "x" * 10_000)
        await asyncio.sleep(5.0)
        assert quiet.received() == []
        assert not connection.aborted
        interrupted = [client for client in loud if client.received()]
        assert interrupted == loud[-2:]
        for client in clients:
            client.leave()
        await asyncio.sleep(10.0)
        again = [await seated_client(harness, f"user{number}") for number in range(6)]
        for client in again:
            client.send(large)
        await asyncio.sleep(5.0)
        assert [client.received() for client in again] == [[]] * 6


# attack: a host that never acknowledges messages, so that acknowledgements for it pile up
async def test_acknowledgements_that_the_host_does_not_confirm_are_limited_in_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(remote_session, "MAX_KEPT_MESSAGES", 10)
    host = FakeHost("ack")
    async with harness_with(host) as harness:
        alice = await seated_client(harness)
        for number in range(9 * 16):
            host.connection.deliver(relayed(number))
        await settle()
        assert len(host.sent("ack")) == 9  # and the request to join
        assert len(alice.received()) == 9 * 16
        for number in range(16):
            host.connection.deliver(relayed(number))
        await asyncio.sleep(1.0)
        assert types_of(alice.received()[-3:]) == [
            "federation_interrupted",
            "federation_resumed",
            "room",
        ]
        assert len(host.connections) == 2


# attack: an error in place of the answer of the client's own server
async def test_host_answers_only_requests_that_it_has_got() -> None:
    host = FakeHost()
    async with harness_with(host) as harness:
        alice = await seated_client(harness)
        harness.nextcloud.gate = asyncio.Event()
        alice.send({"id": "5", "type": "transient", "transient": {"type": "set", "key": "k", "value": 1}})
        alice.join("here", "nc-local", id="6")
        for id in ("6", "7", "5", ""):
            host.connection.deliver({"id": id, "type": "error", "error": error("not_allowed")})
        await settle()
        assert [message.get("id", "") for message in alice.received()] == ["5", ""]
        harness.nextcloud.gate.set()
        await settle()
        answer = alice.received()[0]
        assert (answer["type"], answer["id"]) == ("room", "6")
