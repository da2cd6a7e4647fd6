"""Messages of one session are handled one after another, whatever connection they came on (invariants 2 and 5)."""

from __future__ import annotations

import asyncio
import logging

import pytest

from gateway.flows.dispatch import PAUSE_AT
from tests.gateway.flows.house import House, Talker
from tests.gateway.flows.virtual_time import settle


def join(talker: Talker, room: str, id: str = "join", nc: str = "") -> None:
    talker.say({"id": id, "type": "room", "room": {"roomid": room, "sessionid": nc}})


def ids(talker: Talker) -> list[str]:
    return [it["id"] for it in talker.heard() if "id" in it]


async def test_messages_wait_behind_a_slow_join() -> None:
    async with House() as house:
        alice, bob = await house.open("alice"), await house.member("bob", "r")
        house.nextcloud.gate = asyncio.Event()
        join(alice, "r", "1")
        alice.tell({"type": "room"}, "hello")
        alice.say("junk")
        join(alice, "", "3")
        await settle()
        assert alice.heard() == []
        house.nextcloud.gate.set()
        await settle()
        heard = alice.heard()
        assert [it["type"] for it in heard] == ["room", "event", "event", "error", "room"]
        assert [it["type"] for it in bob.heard()] == ["event", "message", "event"]


async def test_messages_of_others_do_not_wait() -> None:
    async with House() as house:
        alice, bob, carol = [await house.open(name) for name in ("alice", "bob", "carol")]
        house.nextcloud.gate = asyncio.Event()
        join(alice, "r")
        bob.tell(carol, "quick")
        assert carol.heard()[0]["message"]["data"] == "quick"


async def test_reading_pauses_while_many_messages_wait() -> None:
    async with House() as house:
        alice, bob = await house.open("alice"), await house.open("bob")
        house.nextcloud.gate = asyncio.Event()
        join(alice, "r")
        for number in range(PAUSE_AT):
            assert not alice.connection.paused
            alice.tell(bob, number)
        assert alice.connection.paused
        house.nextcloud.gate.set()
        await settle()
        assert not alice.connection.paused
        assert [it["message"]["data"] for it in bob.heard()] == list(range(PAUSE_AT))


async def test_what_was_sent_before_a_broken_line_is_done_before_what_comes_after_the_resume() -> None:
    async with House() as house:
        alice, bob = await house.open("alice"), await house.open("bob")
        house.nextcloud.gate = asyncio.Event()
        join(alice, "r", "1")
        alice.tell(bob, "before")
        await settle()
        alice.lose()
        again = await house.resume(alice)
        assert again.heard()[0]["type"] == "hello"
        again.tell(bob, "after")
        await settle()
        assert bob.heard() == []
        house.nextcloud.gate.set()
        await settle()
        assert [it["message"]["data"] for it in bob.heard()] == ["before", "after"]
        assert ids(again) == ["1"]


async def test_what_was_sent_before_a_takeover_is_done_before_what_comes_after_it() -> None:
    async with House() as house:
        alice, bob = await house.open("alice"), await house.open("bob")
        house.nextcloud.gate = asyncio.Event()
        join(alice, "r", "1")
        alice.tell(bob, "before")
        alice.say({"id": "bad", "type": "message", "message": {}})
        await settle()
        again = await house.resume(alice)
        again.tell(bob, "after")
        house.nextcloud.gate.set()
        await settle()
        assert [it["message"]["data"] for it in bob.heard()] == ["before", "after"]
        assert ids(again) == ["1", "bad"]
        alice.heard()
        alice.tell(bob, "from the displaced connection")
        alice.say("junk")
        house.dispatch.received_binary(alice.who)
        assert bob.heard() == alice.heard() == []
        assert [it for it in again.heard() if it["type"] == "error"] == []


async def test_join_that_ends_after_its_session_is_undone(caplog: pytest.LogCaptureFixture) -> None:
    async with House() as house:
        alice, bob = await house.open("alice"), await house.member("bob", "r")
        bob.heard()
        house.nextcloud.gate = asyncio.Event()
        join(alice, "r", nc="nc-alice")
        alice.say("junk")
        alice.say({"type": "bye"})
        await settle()
        alice.lose()
        await house.sweep(31.0)
        house.nextcloud.gate.set()
        await settle()
        assert bob.heard() == []
        assert [it.sessionid for it in house.nextcloud.leaves()] == ["nc-alice"]
        assert not [it for it in caplog.records if it.levelno >= logging.ERROR]


async def test_messages_behind_a_hello_and_a_resume_on_the_same_connection_keep_their_order() -> None:
    async with House() as house:
        alice, bob = await house.open("alice"), await house.open("bob")
        house.nextcloud.gate = asyncio.Event()
        join(alice, "r", "1")
        alice.tell(bob, "before")
        await settle()
        alice.lose()
        again = house.connect()
        again.heard()
        auth = {"url": "https://cloud.example/", "params": {"userid": "forged"}}
        again.say({"id": "h", "type": "hello", "hello": {"version": "1.0", "auth": auth}})
        again.say({"id": "r", "type": "hello", "hello": {"version": "1.0", "resumeid": alice.resumeid}})
        again.tell(bob, "after")
        await settle()
        house.nextcloud.gate.set()
        await settle()
        assert [it["message"]["data"] for it in bob.heard()] == ["before", "after"]
        assert [it["id"] for it in again.heard() if "id" in it][:2] in (["h", "r"], ["r", "1"])


async def test_nothing_is_kept_of_sessions_that_ended() -> None:
    async with House() as house:
        for _ in range(3):
            alice, bob = await house.open("alice"), await house.open("bob")
            join(alice, "r")
            await settle()
            alice.say({"type": "bye"})
            alice.lose()
            bob.lose()
            await house.sweep(31.0)
        assert house.hub.sessions == {}
        assert house.dispatch._clients == {}
        assert house.dispatch._strangers == set()
        assert house.dispatch._inboxes == {}
        assert house.services.delivery._connections == {}
        assert len(house.services.tasks) == 0


async def test_message_behind_a_join_of_a_session_that_was_closed_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    async with House() as house:
        alice, bob = await house.open("alice"), await house.open("bob")
        join(alice, "r", nc="same")
        await settle()
        house.nextcloud.gate = asyncio.Event()
        join(bob, "r", nc="same")
        await settle()
        first, house.nextcloud.gate = house.nextcloud.gate, asyncio.Event()
        join(alice, "other", nc="same")
        alice.say("junk")
        await settle()
        alice.heard()
        first.set()
        await settle()
        assert alice.heard()[-1]["bye"]["reason"] == "room_session_reconnected"
        alice.lose()
        house.nextcloud.gate.set()
        await settle()
        assert list(house.hub.sessions) == [bob.sessionid]
        assert not [it for it in caplog.records if it.levelno >= logging.ERROR]
