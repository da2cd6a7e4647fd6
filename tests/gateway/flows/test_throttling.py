"""Forged resume ids: counted, answered late, and refused altogether (reference 2.8, 14.1)."""

from __future__ import annotations

import asyncio

import pytest

from gateway.core.throttle import ThrottledAction
from tests.gateway.flows.fakes import FakeConnection
from tests.gateway.flows.house import House, Talker
from tests.gateway.flows.virtual_time import settle


def guess(talker: Talker, resumeid: str = "forged") -> None:
    talker.say({"id": "1", "type": "hello", "hello": {"version": "1.0", "resumeid": resumeid}})


def codes(talker: Talker) -> list[str]:
    return [it["error"]["code"] for it in talker.heard() if it["type"] == "error"]


async def test_forged_resume_id_is_answered_after_the_delay() -> None:
    async with House() as house:
        for delay in (0.1, 0.2, 0.4):
            talker = house.connect()
            talker.heard()
            guess(talker)
            await asyncio.sleep(delay - 0.01)
            assert codes(talker) == []
            await asyncio.sleep(0.02)
            assert codes(talker) == ["no_such_session"]
        assert dict(house.counters.throttle_delayed) == {
            ("HelloResume", 100): 1,
            ("HelloResume", 200): 1,
            ("HelloResume", 400): 1,
        }


async def test_resume_id_of_a_session_that_is_gone_is_free() -> None:
    async with House() as house:
        gone = await house.open("alice")
        gone.say({"type": "bye"})
        for _ in range(20):
            talker = house.connect()
            talker.heard()
            guess(talker, gone.resumeid)
            assert codes(talker) == ["no_such_session"]
        assert not house.counters.throttle_delayed


async def test_public_session_id_is_a_forged_resume_id() -> None:
    async with House() as house:
        alice = await house.open("alice")
        guess(house.connect(), alice.sessionid)
        await settle()
        assert sum(house.counters.throttle_delayed.values()) == 1


async def test_after_ten_failures_even_a_valid_resume_id_is_refused_for_this_address() -> None:
    async with House() as house:
        alice = await house.open("alice")
        alice.lose()
        for _ in range(10):
            guess(house.connect())
        await settle()
        talker = house.connect()
        talker.heard()
        guess(talker, alice.resumeid)
        assert codes(talker) == ["too_many_requests"]
        assert house.counters.throttle_bruteforce == {"HelloResume": 1}
        elsewhere = house.connect("192.0.2.2")
        elsewhere.heard()
        guess(elsewhere, alice.resumeid)
        assert [it["type"] for it in elsewhere.heard()] == ["hello"]


async def test_blocked_address_may_open_a_new_session() -> None:
    async with House() as house:
        for _ in range(10):
            guess(house.connect())
        assert (await house.open("alice")).sessionid


async def test_delay_ends_when_the_caller_disconnects() -> None:
    async with House() as house:
        for _ in range(8):
            guess(house.connect())
        talker = house.connect()
        guess(talker)
        await asyncio.sleep(20)  # of 25 seconds
        waiting = len(house.services.tasks)
        talker.lose()
        await settle()
        assert len(house.services.tasks) == waiting - 1


async def test_delay_of_a_caller_that_is_gone_already_ends_at_once() -> None:
    async with House() as house:
        talker = house.connect()
        talker.lose()
        async with asyncio.timeout(0.01):
            await house.services.throttling.failed(talker.who, ThrottledAction.HELLO_INTERNAL)
        assert house.counters.throttle_delayed == {("HelloInternal", 100): 1}


async def test_hello_timeout_keeps_running_while_a_forged_id_waits() -> None:
    async with House() as house:
        for _ in range(8):
            guess(house.connect())
        talker = house.connect()
        guess(talker)
        await house.sweep(2.0)
        assert isinstance(talker.connection, FakeConnection)
        assert talker.connection.finished
        assert [it.get("bye") for it in talker.heard()][-1] == {"reason": "hello_timeout"}


@pytest.mark.parametrize("version", ["", "3.0"])
async def test_wrong_version_is_no_guess(version: str) -> None:
    async with House() as house:
        talker = house.connect()
        talker.heard()
        talker.say({"type": "hello", "hello": {"version": version, "resumeid": "forged"}})
        assert codes(talker) == ["invalid_hello_version"]
        assert not house.counters.throttle_delayed
