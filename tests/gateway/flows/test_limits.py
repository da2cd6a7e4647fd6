"""One client reaches each limit without disturbing a call in another room (docs/protocol.md, "Limits")."""

from __future__ import annotations

import asyncio
import re
from ipaddress import ip_address
from pathlib import Path

import pytest

from gateway.core.limits import Limits
from tests.gateway.flows.harness import FakeClient, FlowHarness
from tests.gateway.flows.limited_calls import beside_a_call, limits_met
from tests.gateway.flows.virtual_time import settle


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
    "join_bytes_burst",
    "relayed_bytes_burst",
}  # counted under the name of their rate
HERE = Path(__file__)


@pytest.mark.parametrize("name", sorted(set(Limits.__struct_fields__) - BURSTS))
def test_each_limit_is_reached_in_a_test_that_checks_its_counter(name: str) -> None:
    files = (*HERE.parent.glob("test_*limits.py"), HERE.parent.parent / "test_limits.py")
    written = "".join(file.read_text() for file in files)
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


@pytest.mark.parametrize("room", [{"roomid": "r" * 11}, {"roomid": "r", "sessionid": "s" * 11}])
async def test_ids_of_a_join_are_limited(room: dict[str, str]) -> None:
    async with beside_a_call(Limits(id_length=10)) as harness:
        alice = await harness.hello("alice")
        alice.send({"type": "room", "room": room})
        await settle()
        assert alice.error_codes() == ["limit_exceeded"]
        assert limits_met(harness) == {"id_length": 1}
