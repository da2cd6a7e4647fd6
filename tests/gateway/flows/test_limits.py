"""One client reaches each limit without disturbing a call in another room (docs/protocol.md, "Limits")."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from gateway.core.limits import Limits
from tests.gateway.flows.harness import FakeClient, FlowHarness
from tests.gateway.flows.media.descriptions import offer
from tests.gateway.flows.virtual_time import settle


@asynccontextmanager
async def beside_a_call(limits: Limits) -> AsyncIterator[FlowHarness]:
    """Run a harness with these limits, and check at the end that a call in another room was not disturbed."""
    async with FlowHarness(without_permissions=True) as harness:
        harness.change_settings(limits=limits)
        caller, other = [await harness.member(name, "elsewhere", in_call=True) for name in ("caller", "other")]
        caller.received()
        yield harness
        caller.offer()
        other.send_message({"type": "call"}, {"type": "still here"})
        await settle()
        messages = caller.received()
        assert {"type": "still here"} in [message["message"]["data"] for message in messages]
        assert "answer" in [message["message"]["data"].get("type") for message in messages]


def limits_met(harness: FlowHarness) -> dict[str, int]:
    return dict(harness.counters.limits_met)


async def test_client_that_sends_too_many_messages_loses_its_connection_and_not_its_session() -> None:
    async with beside_a_call(Limits(messages_per_second=10, messages_burst=50)) as harness:
        alice = await harness.member("alice")
        for _ in range(60):
            alice.send_message({"type": "room"}, {"type": "x"})
        assert alice.error_codes()[0] == "too_many_requests"
        assert alice.connection.finished
        assert limits_met(harness)["messages_per_second"] > 0
        alice.disconnect()
        again = await harness.resume(alice)
        assert again.received()[0]["type"] == "hello"
        await asyncio.sleep(10)
        again.send({"type": "transient", "id": "x"})
        assert again.error_codes() == ["invalid_format"]


async def test_resume_does_not_refill_the_token_bucket() -> None:
    async with beside_a_call(Limits(messages_per_second=1, messages_burst=10)) as harness:
        alice = await harness.member("alice")
        for _ in range(12):
            alice.send_message({"type": "room"}, {"type": "x"})
        alice.disconnect()
        again = await harness.resume(alice)
        again.received()
        for _ in range(5):
            again.send_message({"type": "room"}, {"type": "x"})
        assert "too_many_requests" in again.error_codes()


async def test_client_that_sends_too_many_bytes_loses_its_connection() -> None:
    async with beside_a_call(Limits(bytes_per_second=1000, bytes_burst=20_000)) as harness:
        alice = await harness.member("alice")
        alice.send_message({"type": "room"}, "x" * 15_000)
        assert not alice.connection.finished
        alice.send_message({"type": "room"}, "x" * 15_000)
        assert (alice.error_codes(), alice.connection.finished) == (["too_many_requests"], True)
        assert limits_met(harness) == {"bytes_per_second": 1}


async def test_bytes_are_counted_and_not_characters() -> None:
    async with beside_a_call(Limits(bytes_per_second=1000, bytes_burst=20_000)) as harness:
        alice = await harness.member("alice")
        message = '{"type":"future","x":"' + "\u00fc" * 9_000 + '"}'
        alice.send(message)
        assert not alice.connection.finished
        alice.send(message)
        assert (alice.error_codes(), alice.connection.finished) == (["too_many_requests"], True)
        assert limits_met(harness) == {"bytes_per_second": 1}


async def test_descriptions_count_by_their_size() -> None:
    limits = Limits(description_bytes_per_second=1000, description_bytes_burst=10_000)
    async with beside_a_call(limits) as harness:
        alice, bob = await harness.callers("alice", "bob")
        size = len(json.dumps(offer("one")))
        for _ in range(12_000 // size):
            alice.offer("one")
        await settle()
        errors = alice.error_codes(among_others=True)
        assert errors == ["too_many_requests"] * (12_000 // size - 10_000 // size)
        assert set(limits_met(harness)) == {"description_bytes_per_second"}
        assert not alice.connection.finished
        alice.send_message(bob, {"type": "other"})
        alice.send_message({"type": "room"}, {"type": "offer", "payload": {"type": "offer", "sdp": offer("one")}})
        assert alice.error_codes() == ["too_many_requests"]
        assert [message["message"]["data"] for message in bob.received()] == [{"type": "other"}]
        await asyncio.sleep(10)
        alice.offer("one")
        await settle()
        assert [data["type"] for data in alice.data()] == ["answer"]


async def test_offers_have_a_rate_of_their_own() -> None:
    async with beside_a_call(Limits(offers_per_second=1, offers_burst=3)) as harness:
        alice = await harness.member("alice", in_call=True)
        for _ in range(4):
            alice.offer("one")
        await settle()
        messages = alice.received()
        errors = [message["error"]["code"] for message in messages if message["type"] == "error"]
        assert errors == ["too_many_requests"]
        assert limits_met(harness) == {"offers_per_second": 1}
        assert not alice.connection.finished
        await asyncio.sleep(1)
        alice.offer("one")
        await settle()
        assert [data["type"] for data in alice.data()] == ["answer"]


async def test_requests_for_streams_have_a_rate_of_their_own() -> None:
    async with beside_a_call(Limits(stream_requests_per_second=1, stream_requests_burst=3)) as harness:
        alice, bob = await harness.callers("alice", "bob")
        bob.offer()
        await settle()
        for _ in range(2):
            bob.send_message(alice, {"type": "sendoffer", "roomType": "video"})
            alice.send_message(bob, {"type": "requestoffer", "roomType": "video"})
        alice.send_message(bob, {"type": "requestoffer", "roomType": "video"})
        alice.send_message(bob, {"type": "requestoffer", "roomType": "video"})
        await settle()
        errors = alice.error_codes(among_others=True)
        assert errors == ["too_many_requests"]
        assert limits_met(harness) == {"stream_requests_per_second": 1}
        await asyncio.sleep(1)
        alice.send_message(bob, {"type": "requestoffer", "roomType": "video"})
        await settle()
        assert [data["type"] for data in alice.data()] == ["offer"]


async def test_messages_before_hello_are_limited_too() -> None:
    async with beside_a_call(Limits(messages_per_second=10, messages_burst=20)) as harness:
        stranger = harness.connect()
        stranger.received()
        for _ in range(21):
            stranger.send("{")
        assert stranger.error_codes() == ["invalid_format"] * 20 + ["too_many_requests"]


async def test_hello_before_too_many_messages_opens_no_session() -> None:
    async with beside_a_call(Limits(messages_per_second=10, messages_burst=20)) as harness:
        stranger = harness.connect()
        stranger.received()
        before, harness.nextcloud.gate = len(harness.hub.sessions), asyncio.Event()
        stranger.send_hello("alice")
        for _ in range(20):
            stranger.send("{")
        assert (stranger.error_codes(), stranger.connection.finished) == (["too_many_requests"], True)
        harness.nextcloud.gate.set()
        await settle()
        assert len(harness.hub.sessions) == before


async def test_connections_of_one_address_are_limited() -> None:
    async with beside_a_call(Limits(connections_per_address=4)) as harness:
        clients = [await harness.hello(f"user {number}") for number in range(2)]
        assert not harness.dispatch.admits(ip_address("192.0.2.1"))
        assert harness.dispatch.admits(ip_address("192.0.2.2"))
        assert limits_met(harness) == {"connections_per_address": 1}
        clients[0].disconnect()
        assert harness.dispatch.admits(ip_address("192.0.2.1"))


async def test_ipv6_connections_count_by_network() -> None:
    async with beside_a_call(Limits(connections_per_address=1)) as harness:
        harness.connect("2001:db8::1")
        assert not harness.dispatch.admits(ip_address("2001:db8::2"))
        assert harness.dispatch.admits(ip_address("2001:db8:0:1::1"))


async def test_connections_without_a_hello_are_limited_by_address() -> None:
    async with beside_a_call(Limits(hellos_per_address=2)) as harness:
        silent = [harness.connect() for _ in range(2)]
        address = ip_address("192.0.2.1")
        assert not harness.dispatch.admits(address)
        assert limits_met(harness) == {"hellos_per_address": 1}
        silent[0].disconnect()
        assert harness.dispatch.admits(address)
        harness.connect()
        assert not harness.dispatch.admits(address)
        await harness.sweep(3)  # hello_timeout
        assert harness.dispatch.admits(address)


async def test_hello_allows_the_next_connection() -> None:
    async with beside_a_call(Limits(hellos_per_address=1)) as harness:
        await harness.hello("alice")
        assert harness.dispatch.admits(ip_address("192.0.2.1"))


async def test_publishers_of_a_session_are_limited() -> None:
    async with beside_a_call(Limits(publishers=1)) as harness:
        (alice,) = await harness.callers("alice")
        alice.offer()
        await settle()
        assert [message["type"] for message in alice.data()] == ["answer"]
        alice.offer("screen", roomType="screen")
        await settle()
        assert alice.error_codes() == ["limit_exceeded"]
        alice.offer("one", sid="2", media=("audio", "video"))  # the existing publisher may be renegotiated
        await settle()
        assert [message["type"] for message in alice.data()] == ["answer"]
        assert limits_met(harness) == {"publishers": 1}


async def test_subscriptions_of_a_session_are_limited() -> None:
    async with beside_a_call(Limits(subscriptions=1)) as harness:
        alice, bob, carol = await harness.callers("alice", "bob", "carol")
        for publisher in (bob, carol):
            publisher.offer()
            await settle()
            publisher.received()
            alice.media(publisher, "requestoffer")
            await settle()
        messages = alice.received()
        assert [message["type"] for message in messages] == ["message", "error"]
        assert messages[1]["error"]["code"] == "limit_exceeded"
        assert limits_met(harness) == {"subscriptions": 1}


async def test_clients_of_a_room_or_an_address_do_not_get_all_connections_of_the_sfu() -> None:
    async with beside_a_call(Limits()) as harness:
        alice, bob, carol = await harness.callers("alice", "bob", "carol")
        harness.mcu.capacity = 7  # of which an address gets 6
        for client in (alice, bob, carol):
            client.offer()
        await settle()
        for subscriber, publisher in ((alice, bob), (alice, carol), (bob, alice), (bob, carol), (carol, alice)):
            subscriber.media(publisher, "requestoffer")
        await settle()
        assert [client.error_codes(among_others=True) for client in (alice, bob, carol)] == [
            [],
            ["limit_exceeded"],
            ["limit_exceeded"],
        ]
        assert limits_met(harness) == {"peer_connections": 2}
        alice.send({"type": "bye"})  # ends four of them
        await settle()
        carol.media(bob, "requestoffer")
        await settle()
        assert carol.error_codes(among_others=True) == []
        harness.mcu.capacity = 0


async def test_connections_of_the_sfu_are_limited_in_all() -> None:
    async with beside_a_call(Limits()) as harness:
        alice, bob = await harness.callers("alice", "bob")
        harness.mcu.capacity = 1
        alice.offer()
        bob.offer()
        await settle()
        assert (alice.error_codes(among_others=True), bob.error_codes(among_others=True)) == ([], ["limit_exceeded"])
        harness.mcu.capacity = 0


async def test_requests_of_a_session_that_wait_for_the_sfu_are_limited() -> None:
    async with beside_a_call(Limits(waiting_requests=5)) as harness:
        alice, bob = await harness.callers("alice", "bob")
        harness.mcu.publish_gate = asyncio.Event()
        alice.offer()
        await settle()  # the offer is with the SFU
        for _ in range(8):
            alice.media(alice, "endOfCandidates")
        assert alice.error_codes() == ["limit_exceeded"] * 3
        assert limits_met(harness) == {"waiting_requests": 3}
        bob.send_message(alice, {"type": "hi"})
        assert alice.data() == [{"type": "hi"}]
        harness.mcu.publish_gate.set()
        await settle()
        assert [message["type"] for message in alice.data()] == ["answer"]
        alice.media(alice, "endOfCandidates")
        assert alice.error_codes() == []


async def test_request_that_waited_for_an_ended_stream_no_longer_counts() -> None:
    async with beside_a_call(Limits(waiting_requests=5)) as harness:
        alice, bob = await harness.callers("alice", "bob")
        harness.mcu.publish_gate = asyncio.Event()
        alice.offer()
        await settle()
        for _ in range(5):
            alice.media(alice, "endOfCandidates")
        harness.set_in_call("r", "alice", flags=0)
        harness.set_in_call("r", "alice")
        harness.mcu.publish_gate.set()
        await settle()
        for client in (alice, bob):
            client.received()
        alice.offer("two")
        for _ in range(4):
            alice.media(alice, "endOfCandidates")
        await settle()
        assert [message["type"] for message in alice.data()] == ["answer"]


def store(client: FakeClient, key: str, value: object = 1) -> None:
    client.send({"type": "transient", "transient": {"type": "set", "key": key, "value": value}})


@pytest.mark.parametrize(
    ("limits", "key", "value", "limit"),
    [
        (Limits(transient_keys=2), "third", 1, "transient_keys"),
        (Limits(transient_key_length=5), "\u00fc\u00fc\u00fc", 1, "transient_key_length"),
        (Limits(transient_bytes=20), "a", "x" * 30, "transient_bytes"),
    ],
)
async def test_transient_data_of_a_room_are_limited(limits: Limits, key: str, value: object, limit: str) -> None:
    async with beside_a_call(limits) as harness:
        alice, bob = await harness.member("alice"), await harness.member("bob")
        alice.received()
        store(alice, "a")
        store(alice, "b")
        assert len(alice.received()) == 2
        store(alice, key, value)
        assert alice.error_codes() == ["limit_exceeded"]
        assert limits_met(harness) == {limit: 1}
        store(alice, "a", 2)  # an existing entry may be replaced
        assert len(bob.received()) == 3


async def test_virtual_sessions_of_an_internal_client_are_limited() -> None:
    async with beside_a_call(Limits(virtual_sessions=1)) as harness:
        await harness.member("alice")
        bridge, other = await harness.internal_hello(), await harness.internal_hello()
        for client, name in ((bridge, "one"), (bridge, "two"), (other, "one")):
            client.send_internal("addsession", id=name, sessionid=name, roomid="r")
        await settle()
        assert (bridge.error_codes(), other.error_codes()) == (["limit_exceeded"], [])
        assert len(harness.hub.virtuals) == 2
        assert limits_met(harness) == {"virtual_sessions": 1}


BURSTS = {
    "messages_burst",
    "bytes_burst",
    "description_bytes_burst",
    "offers_burst",
    "stream_requests_burst",
    "relayed_bytes_burst",
}  # counted under the name of their rate
HERE = Path(__file__)


@pytest.mark.parametrize("name", sorted(set(Limits.__struct_fields__) - BURSTS))
def test_each_limit_is_reached_in_a_test_that_checks_its_counter(name: str) -> None:
    written = HERE.read_text() + (HERE.parent.parent / "test_limits.py").read_text()
    assert f"Limits({name}=" in written
    assert re.search(rf'met\((?:harness|url)[^\n]*"{name}"|"{name}"\),?$|"{name}": |"{name}"\]', written, re.M)


async def test_zero_is_no_limit() -> None:
    async with beside_a_call(Limits(**dict.fromkeys(Limits.__struct_fields__, 0))) as harness:
        alice, bob = await harness.callers("alice", "bob")
        for _ in range(200):
            alice.send_message(bob, "x" * 1000)
        assert len(bob.data()) == 200
        alice.offer()
        alice.offer("screen", roomType="screen")
        await settle()
        assert [message["type"] for message in alice.data()] == ["answer", "answer"]
        store(alice, "k" * 5000, "x" * 50_000)
        assert [message["type"] for message in alice.received()] == ["transient"]
        assert limits_met(harness) == {}


# reference 9.5-b
async def test_sendoffer_is_refused_outside_of_the_own_room() -> None:
    async with beside_a_call(Limits()) as harness:
        alice, bob = await harness.callers("alice", "bob")
        neighbour, outside = await harness.member("neighbour", "next door"), await harness.hello("outside")
        alice.received()
        for number, client in enumerate((neighbour, outside)):
            alice.media(client, "sendoffer", id=str(number))
        assert [(message["id"], message["error"]["code"]) for message in alice.received()] == [
            ("0", "not_allowed"),
            ("1", "not_allowed"),
        ]
        outside.media(await harness.hello("also outside"), "sendoffer")
        assert outside.error_codes() == ["not_allowed"]
        alice.offer()
        await settle()
        alice.media(bob, "sendoffer")
        await settle()
        assert [message["type"] for message in bob.data()] == ["offer"]


async def test_control_frames_and_fragments_count_like_messages() -> None:
    async with beside_a_call(Limits(messages_per_second=10, messages_burst=50)) as harness:
        alice = await harness.member("alice")
        before = alice.client_connection.inbox.bucket.messages
        accepted = [harness.dispatch.received_frame(alice.client_connection, 10) for _ in range(60)]
        assert accepted == [True] * int(before) + [False] * (60 - int(before))
        assert alice.error_codes()[0] == "too_many_requests"
        assert alice.connection.finished
        assert limits_met(harness)["messages_per_second"] > 0


@pytest.mark.parametrize(
    ("limits", "limit"),
    [
        (Limits(messages_before_hello=20), "messages_before_hello"),
        (Limits(bytes_before_hello=200), "bytes_before_hello"),
    ],
)
async def test_allowance_before_the_hello_is_not_refilled(limits: Limits, limit: str) -> None:
    async with beside_a_call(limits) as harness:
        stranger = harness.connect()
        stranger.received()
        for _ in range(20):
            assert harness.dispatch.received_frame(stranger.client_connection, 10)
        await asyncio.sleep(1)
        assert not harness.dispatch.received_frame(stranger.client_connection, 10)
        assert (stranger.error_codes(), stranger.connection.finished) == (["too_many_requests"], True)
        assert limits_met(harness) == {limit: 1}


async def test_session_has_its_whole_burst_after_the_hello() -> None:
    async with beside_a_call(Limits(messages_before_hello=3)) as harness:
        alice = await harness.member("alice")
        for _ in range(100):
            alice.send_message({"type": "room"}, {"type": "x"})
        assert not alice.connection.finished


@pytest.mark.parametrize("limits", [Limits(relayed_bytes_per_second=10_000, relayed_bytes_burst=20_000)])
@pytest.mark.parametrize("to", [{"type": "room"}, None], ids=["room", "session"])
async def test_sender_that_relays_too_much_is_slowed_down_and_loses_nothing(limits: Limits, to: Any) -> None:
    async with beside_a_call(limits) as harness:
        alice, bob = [await harness.member(name) for name in ("alice", "bob")]
        bob.received()
        for number in range(10):
            alice.send_message(to or bob, {"type": "x", "n": number, "padding": "x" * 9000})
        alice.send_message(to or bob, {"type": "x", "n": 10})
        assert len(bob.data()) == 3
        await asyncio.sleep(20)
        assert [data["n"] for data in bob.data()] == [*range(3, 11)]
        assert limits_met(harness)["relayed_bytes_per_second"] > 0
        assert not alice.connection.finished


async def test_short_messages_pass_a_flood_of_others() -> None:
    async with beside_a_call(Limits(relayed_bytes_burst=20_000, relayed_bytes_per_second=1000)) as harness:
        alice, bob, carol = [await harness.member(name) for name in ("alice", "bob", "carol")]
        carol.received()
        for _ in range(10):
            alice.send_message({"type": "room"}, {"type": "x", "padding": "x" * 9000})
        bob.send_message({"type": "room"}, {"type": "short"})
        assert carol.data()[-1] == {"type": "short"}


async def test_reading_is_paused_when_long_messages_wait() -> None:
    async with beside_a_call(Limits(relayed_bytes_burst=20_000, relayed_bytes_per_second=1000)) as harness:
        alice = await harness.member("alice")
        for _ in range(5):
            alice.send_message({"type": "room"}, {"type": "x", "padding": "x" * 60_000})
        assert alice.connection.paused


async def test_transient_data_count_as_relayed() -> None:
    async with beside_a_call(Limits(relayed_bytes_burst=20_000, relayed_bytes_per_second=1000)) as harness:
        alice = await harness.member("alice")
        alice.received()
        for number in range(10):
            body = {"type": "set", "key": "k", "value": [number, "x" * 9000]}
            alice.send({"type": "transient", "transient": body})
        assert len(alice.received()) == 2


async def test_transient_data_count_with_their_key_and_their_removal() -> None:
    async with beside_a_call(Limits(relayed_bytes_burst=20_000, relayed_bytes_per_second=1000)) as harness:
        alice, bob = [await harness.member(name) for name in ("alice", "bob")]
        bob.received()
        written = len(bob.connection.written)
        for number in range(200):
            for body in ({"type": "set", "key": "k" * 900, "value": number}, {"type": "remove", "key": "k" * 900}):
                alice.send({"type": "transient", "transient": body})
        sizes = sum(len(message) for message in bob.connection.written[written:])
        assert 10_000 < sizes < 30_000


@pytest.mark.parametrize(
    ("limits", "features", "limit"),
    [
        (Limits(features=3), ("a", "b", "c", "d"), "features"),
        (Limits(feature_length=3), ("abcd",), "feature_length"),
    ],
)
async def test_hello_with_too_many_features_is_refused(limits: Limits, features: tuple[str, ...], limit: str) -> None:
    async with beside_a_call(limits) as harness:
        await harness.hello("fits", features=("abc", "b", "c"))
        client = harness.connect()
        client.received()
        auth = {"url": "https://cloud.example/", "params": {"userid": "alice"}}
        client.send({"type": "hello", "hello": {"version": "1.0", "features": features, "auth": auth}})
        await settle()
        assert client.error_codes() == ["limit_exceeded"]
        assert limits_met(harness) == {limit: 1}


async def refused_hello(harness: FlowHarness, userid: str, address: str = "192.0.2.1") -> str:
    """Send a hello and return the code of its error."""
    client = harness.connect(address)
    client.received()
    client.send_hello(userid)
    await settle()
    (code,) = client.error_codes()
    return code


async def test_user_data_are_limited() -> None:
    async with beside_a_call(Limits()) as harness:
        harness.change_settings(limits=Limits(user_bytes=10))
        assert await refused_hello(harness, "alice") == "limit_exceeded"
        assert limits_met(harness) == {"user_bytes": 1}


async def test_sessions_of_a_user_are_limited() -> None:
    async with beside_a_call(Limits(sessions_per_user=2)) as harness:
        first = await harness.hello("alice")
        await harness.hello("alice")
        assert await refused_hello(harness, "alice") == "session_limit_exceeded"
        assert limits_met(harness) == {"sessions_per_user": 1}
        await harness.hello("bob")
        first.send({"type": "bye"})
        await harness.hello("alice")


async def test_sessions_of_an_address_are_limited_connected_or_not() -> None:
    async with beside_a_call(Limits(sessions_per_address=3)) as harness:  # two are in the call
        away = await harness.hello("alice")
        away.disconnect()
        assert await refused_hello(harness, "bob") == "session_limit_exceeded"
        assert await refused_hello(harness, "") == "session_limit_exceeded"
        assert limits_met(harness) == {"sessions_per_address": 2}
        await harness.internal_hello()
        again = await harness.resume(away)
        again.send({"type": "bye"})
        await harness.hello("bob")


@pytest.mark.parametrize(
    ("limits", "limit"),
    [
        (Limits(outbox_bytes_room=100_000), "outbox_bytes_room"),
        (Limits(outbox_bytes_backend=100_000), "outbox_bytes_backend"),
        (Limits(outbox_bytes_process=100_000), "outbox_bytes_process"),
    ],
)
async def test_session_with_the_largest_outbox_ends_when_the_total_is_too_large(limits: Limits, limit: str) -> None:
    async with beside_a_call(limits) as harness:
        alice = await harness.member("alice")
        largest, smaller = [await harness.member(name, features=("ack",)) for name in ("largest", "smaller")]
        for recipient in (largest, largest, largest, smaller):
            alice.send_message(recipient, "x" * 30_000)
        await harness.sweep()
        await settle()
        assert largest.sessionid not in harness.hub.sessions
        assert smaller.session.open
        assert limits_met(harness) == {limit: 1}


async def test_short_messages_count_with_their_envelope() -> None:
    async with beside_a_call(Limits(relayed_bytes_burst=20_000, relayed_bytes_per_second=1000)) as harness:
        alice, bob = [await harness.member(name) for name in ("alice", "bob")]
        bob.received()
        for _ in range(1000):
            alice.send_message({"type": "room"}, 1)
        sizes = sum(len(message) for message in bob.connection.written)
        assert 10_000 < sizes < 40_000


@pytest.mark.parametrize("room", [{"roomid": "r" * 11}, {"roomid": "r", "sessionid": "s" * 11}])
async def test_ids_of_a_join_are_limited(room: dict[str, str]) -> None:
    async with beside_a_call(Limits(id_length=10)) as harness:
        alice = await harness.hello("alice")
        alice.send({"type": "room", "room": room})
        await settle()
        assert alice.error_codes() == ["limit_exceeded"]
        assert limits_met(harness) == {"id_length": 1}
