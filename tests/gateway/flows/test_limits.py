"""Each limit is reached by one client while another room's call goes on (docs/protocol.md, "Limits")."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest

from gateway.core.limits import Limits
from tests.gateway.flows.house import House, Talker
from tests.gateway.flows.virtual_time import settle


@asynccontextmanager
async def elsewhere(limits: Limits) -> AsyncIterator[House]:
    """Run a house with these limits and a call in another room, which goes on as if nothing was."""
    async with House() as house:
        house.services.limits = limits
        one, other = [await house.member(name, "elsewhere", in_call=True) for name in ("one", "other")]
        one.heard()
        yield house
        one.offer()
        other.tell({"type": "call"}, {"type": "still here"})
        await settle()
        heard = one.heard()
        assert {"type": "still here"} in [it["message"]["data"] for it in heard]
        assert "answer" in [it["message"]["data"].get("type") for it in heard]


def met(house: House) -> dict[str, int]:
    return dict(house.counters.limits_met)


async def test_client_that_sends_too_many_messages_loses_its_connection_and_not_its_session() -> None:
    async with elsewhere(Limits(messages_per_second=10, messages_burst=50)) as house:
        alice = await house.member("alice")
        for _ in range(60):
            alice.tell({"type": "room"}, {"type": "x"})
        assert alice.errors()[0] == "too_many_requests"
        assert alice.connection.finished
        assert met(house)["messages_per_second"] > 0
        alice.lose()
        again = await house.resume(alice)
        assert again.heard()[0]["type"] == "hello"
        await asyncio.sleep(10)
        again.say({"type": "transient", "id": "x"})
        assert again.errors() == ["invalid_format"]


async def test_resume_does_not_give_a_new_allowance() -> None:
    async with elsewhere(Limits(messages_per_second=1, messages_burst=10)) as house:
        alice = await house.member("alice")
        for _ in range(12):
            alice.tell({"type": "room"}, {"type": "x"})
        alice.lose()
        again = await house.resume(alice)
        again.heard()
        for _ in range(5):
            again.tell({"type": "room"}, {"type": "x"})
        assert "too_many_requests" in again.errors()


async def test_client_that_sends_too_many_bytes_loses_its_connection() -> None:
    async with elsewhere(Limits(bytes_per_second=1000, bytes_burst=20_000)) as house:
        alice = await house.member("alice")
        alice.tell({"type": "room"}, "x" * 15_000)
        assert not alice.connection.finished
        alice.tell({"type": "room"}, "x" * 15_000)
        assert (alice.errors(), alice.connection.finished) == (["too_many_requests"], True)
        assert met(house) == {"bytes_per_second": 1}


async def test_bytes_are_counted_and_not_characters() -> None:
    async with elsewhere(Limits(bytes_per_second=1000, bytes_burst=20_000)) as house:
        alice = await house.member("alice")
        message = '{"type":"future","x":"' + "\u00fc" * 9_000 + '"}'
        alice.say(message)
        assert not alice.connection.finished
        alice.say(message)
        assert (alice.errors(), alice.connection.finished) == (["too_many_requests"], True)
        assert met(house) == {"bytes_per_second": 1}


async def test_messages_before_hello_are_limited_too() -> None:
    async with elsewhere(Limits(messages_per_second=10, messages_burst=20)) as house:
        stranger = house.connect()
        stranger.heard()
        for _ in range(21):
            stranger.say("{")
        assert stranger.errors() == ["invalid_format"] * 20 + ["too_many_requests"]


async def test_hello_before_too_many_messages_opens_nothing() -> None:
    async with elsewhere(Limits(messages_per_second=10, messages_burst=20)) as house:
        stranger = house.connect()
        stranger.heard()
        before, house.nextcloud.gate = len(house.hub.sessions), asyncio.Event()
        auth = {"url": "https://cloud.example/", "params": house.nextcloud.ticket("alice")}
        stranger.say({"type": "hello", "hello": {"version": "1.0", "auth": auth}})
        for _ in range(20):
            stranger.say("{")
        assert (stranger.errors(), stranger.connection.finished) == (["too_many_requests"], True)
        house.nextcloud.gate.set()
        await settle()
        assert len(house.hub.sessions) == before


async def test_connections_of_one_address_are_limited() -> None:
    async with elsewhere(Limits(connections_per_address=4)) as house:
        clients = [await house.open(f"user {number}") for number in range(2)]
        assert not house.dispatch.admits(ip_address("192.0.2.1"))
        assert house.dispatch.admits(ip_address("192.0.2.2"))
        assert met(house) == {"connections_per_address": 1}
        clients[0].lose()
        assert house.dispatch.admits(ip_address("192.0.2.1"))


async def test_ipv6_connections_count_by_network() -> None:
    async with elsewhere(Limits(connections_per_address=1)) as house:
        house.connect("2001:db8::1")
        assert not house.dispatch.admits(ip_address("2001:db8::2"))
        assert house.dispatch.admits(ip_address("2001:db8:0:1::1"))


async def test_connections_that_say_no_hello_are_limited_by_address() -> None:
    async with elsewhere(Limits(hellos_per_address=2)) as house:
        silent = [house.connect() for _ in range(2)]
        address = ip_address("192.0.2.1")
        assert not house.dispatch.admits(address)
        assert met(house) == {"hellos_per_address": 1}
        silent[0].lose()
        assert house.dispatch.admits(address)
        house.connect()
        assert not house.dispatch.admits(address)
        await house.sweep(3)  # hello_timeout
        assert house.dispatch.admits(address)


async def test_hello_makes_room_for_the_next() -> None:
    async with elsewhere(Limits(hellos_per_address=1)) as house:
        await house.open("alice")
        assert house.dispatch.admits(ip_address("192.0.2.1"))


async def test_publishers_of_a_session_are_limited() -> None:
    async with elsewhere(Limits(publishers=1)) as house:
        (alice,) = await house.callers("alice")
        alice.offer()
        await settle()
        assert [it["type"] for it in alice.data()] == ["answer"]
        alice.offer("screen", roomType="screen")
        await settle()
        assert alice.errors() == ["limit_exceeded"]
        alice.offer("one", sid="2", media=("audio", "video"))  # the one that there is may be changed
        await settle()
        assert [it["type"] for it in alice.data()] == ["answer"]
        assert met(house) == {"publishers": 1}


async def test_subscriptions_of_a_session_are_limited() -> None:
    async with elsewhere(Limits(subscriptions=1)) as house:
        alice, bob, carol = await house.callers("alice", "bob", "carol")
        for publisher in (bob, carol):
            publisher.offer()
            await settle()
            publisher.heard()
            alice.media(publisher, "requestoffer")
            await settle()
        heard = alice.heard()
        assert [it["type"] for it in heard] == ["message", "error"]
        assert heard[1]["error"]["code"] == "limit_exceeded"
        assert met(house) == {"subscriptions": 1}


async def test_requests_of_a_session_that_wait_for_the_sfu_are_limited() -> None:
    async with elsewhere(Limits(waiting_requests=5)) as house:
        alice, bob = await house.callers("alice", "bob")
        house.mcu.publish_gate = asyncio.Event()
        alice.offer()
        await settle()  # the offer is with the SFU
        for _ in range(8):
            alice.media(alice, "endOfCandidates")
        assert alice.errors() == ["limit_exceeded"] * 3
        assert met(house) == {"waiting_requests": 3}
        bob.tell(alice, {"type": "hi"})
        assert alice.data() == [{"type": "hi"}]
        house.mcu.publish_gate.set()
        await settle()
        assert [it["type"] for it in alice.data()] == ["answer"]
        alice.media(alice, "endOfCandidates")
        assert alice.errors() == []


async def test_what_waited_for_a_stream_that_ended_counts_no_more() -> None:
    async with elsewhere(Limits(waiting_requests=5)) as house:
        alice, bob = await house.callers("alice", "bob")
        house.mcu.publish_gate = asyncio.Event()
        alice.offer()
        await settle()
        for _ in range(5):
            alice.media(alice, "endOfCandidates")
        house.call("r", "alice", flags=0)
        house.call("r", "alice")
        house.mcu.publish_gate.set()
        await settle()
        for talker in (alice, bob):
            talker.heard()
        alice.offer("two")
        for _ in range(4):
            alice.media(alice, "endOfCandidates")
        await settle()
        assert [it["type"] for it in alice.data()] == ["answer"]


def store(talker: Talker, key: str, value: object = 1) -> None:
    talker.say({"type": "transient", "transient": {"type": "set", "key": key, "value": value}})


@pytest.mark.parametrize(
    ("limits", "key", "value", "limit"),
    [
        (Limits(transient_keys=2), "third", 1, "transient_keys"),
        (Limits(transient_key_length=5), "\u00fc\u00fc\u00fc", 1, "transient_key_length"),
        (Limits(transient_bytes=20), "a", "x" * 30, "transient_bytes"),
    ],
)
async def test_transient_data_of_a_room_are_limited(limits: Limits, key: str, value: object, limit: str) -> None:
    async with elsewhere(limits) as house:
        alice, bob = await house.member("alice"), await house.member("bob")
        alice.heard()
        store(alice, "a")
        store(alice, "b")
        assert len(alice.heard()) == 2
        store(alice, key, value)
        assert alice.errors() == ["limit_exceeded"]
        assert met(house) == {limit: 1}
        store(alice, "a", 2)  # what is there may be replaced
        assert len(bob.heard()) == 3


async def test_virtual_sessions_of_an_internal_client_are_limited() -> None:
    async with elsewhere(Limits(virtual_sessions=1)) as house:
        await house.member("alice")
        bridge, other = await house.open_internal(), await house.open_internal()
        for talker, name in ((bridge, "one"), (bridge, "two"), (other, "one")):
            add = {"type": "addsession", "addsession": {"sessionid": name, "roomid": "r"}}
            talker.say({"id": name, "type": "internal", "internal": add})
        await settle()
        assert (bridge.errors(), other.errors()) == (["limit_exceeded"], [])
        assert len(house.hub.virtuals) == 2
        assert met(house) == {"virtual_sessions": 1}


BURSTS = {"messages_burst", "bytes_burst"}  # count as the rates they belong to
HERE = Path(__file__)


@pytest.mark.parametrize("name", sorted(set(Limits.__struct_fields__) - BURSTS))
def test_each_limit_is_reached_in_a_test_that_sees_it_counted(name: str) -> None:
    written = HERE.read_text() + (HERE.parent.parent / "test_limits.py").read_text()
    assert f"Limits({name}=" in written
    assert re.search(rf'met\((?:house|url)[^\n]*"{name}"|"{name}"\),?$|"{name}": |"{name}"\]', written, re.M)


async def test_zero_is_no_limit() -> None:
    async with elsewhere(Limits(**dict.fromkeys(Limits.__struct_fields__, 0))) as house:
        alice, bob = await house.callers("alice", "bob")
        for _ in range(200):
            alice.tell(bob, "x" * 1000)
        assert len(bob.data()) == 200
        alice.offer()
        alice.offer("screen", roomType="screen")
        await settle()
        assert [it["type"] for it in alice.data()] == ["answer", "answer"]
        store(alice, "k" * 5000, "x" * 50_000)
        assert [it["type"] for it in alice.heard()] == ["transient"]
        assert met(house) == {}


async def test_offer_may_only_be_sent_to_the_own_room() -> None:
    async with elsewhere(Limits()) as house:
        alice, bob = await house.callers("alice", "bob")
        stranger, lost = await house.member("stranger", "next door"), await house.open("lost")
        alice.heard()
        for number, talker in enumerate((stranger, lost)):
            alice.media(talker, "sendoffer", id=str(number))
        assert [(it["id"], it["error"]["code"]) for it in alice.heard()] == [("0", "not_allowed"), ("1", "not_allowed")]
        lost.media(await house.open("lost too"), "sendoffer")
        assert lost.errors() == ["not_allowed"]
        alice.offer()
        await settle()
        alice.media(bob, "sendoffer")
        await settle()
        assert [it["type"] for it in bob.data()] == ["offer"]
