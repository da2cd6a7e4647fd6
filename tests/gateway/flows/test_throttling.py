"""Throttling of forged resume ids: late answers, then blocked addresses (reference 2.8, 14.1)."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from msgspec import structs

from gateway.core.backends import Backends
from gateway.core.ids import ENTROPY, SessionIds
from gateway.core.throttle import ThrottledAction
from tests.gateway.flows.fakes import FakeConnection
from tests.gateway.flows.harness import FakeClient, FlowHarness
from tests.gateway.flows.virtual_time import settle


def guess_resume_id(client: FakeClient, resumeid: str = "") -> None:
    """Send a resume id; if empty, an id that differs from an open session's only in the last character."""
    if not resumeid:
        victim = next(iter(client.harness.hub.sessions.values()))
        resumeid = victim.resume_id[:-1] + ("A" if victim.resume_id[-1] != "A" else "B")
    client.send({"id": "1", "type": "hello", "hello": {"version": "1.0", "resumeid": resumeid}})


# reference 2.8-b
async def test_forged_resume_id_is_answered_after_the_delay() -> None:
    async with FlowHarness() as harness:
        await harness.hello("victim")
        for delay in (0.1, 0.2, 0.4):
            client = harness.connect()
            client.received()
            guess_resume_id(client)
            await asyncio.sleep(delay - 0.01)
            assert client.error_codes(among_others=True) == []
            await asyncio.sleep(0.02)
            assert client.error_codes(among_others=True) == ["no_such_session"]
        assert dict(harness.counters.throttle_delayed) == {
            ("HelloResume", 100): 1,
            ("HelloResume", 200): 1,
            ("HelloResume", 400): 1,
        }


# reference 2.8-c
async def test_resume_id_of_an_ended_session_is_no_failure() -> None:
    async with FlowHarness() as harness:
        gone = await harness.hello("alice")
        gone.send({"type": "bye"})
        for _ in range(20):
            client = harness.connect()
            client.received()
            guess_resume_id(client, gone.resumeid)
            assert client.error_codes(among_others=True) == ["no_such_session"]
        assert not harness.counters.throttle_delayed


async def test_public_session_id_counts_as_a_forged_resume_id() -> None:
    async with FlowHarness() as harness:
        alice = await harness.hello("alice")
        guess_resume_id(harness.connect(), alice.sessionid)
        await settle()
        assert sum(harness.counters.throttle_delayed.values()) == 1


# reference 2.8-a
async def test_valid_resume_id_is_served_also_after_failures() -> None:
    async with FlowHarness() as harness:
        alice = await harness.hello("alice")
        alice.disconnect()
        for _ in range(10):
            guess_resume_id(harness.connect())
        await settle()
        guesser = harness.connect()
        guesser.received()
        guess_resume_id(guesser)
        await asyncio.sleep(24.9)
        assert guesser.error_codes(among_others=True) == []
        await asyncio.sleep(0.2)
        assert guesser.error_codes(among_others=True) == ["too_many_requests"]
        assert harness.counters.throttle_bruteforce == {"HelloResume": 1}
        client = harness.connect()
        client.received()
        guess_resume_id(client, alice.resumeid)
        assert [message["type"] for message in client.received()] == ["hello"]


# reference 2.8-c
@pytest.mark.parametrize("foreign", ["other Portunus", "other server", "long"])
async def test_resume_id_of_another_server_is_answered_at_once_and_not_counted(foreign: str) -> None:
    async with FlowHarness() as harness:
        await harness.hello("alice")
        texts = {"other server": "MTczMjg4fDRDcVNsdzE3MzI4ODg4NHwyMDI2LTExLTMw|4DqSlw==", "long": "A" * 5000}
        for number in range(30):
            client = harness.connect()
            client.received()
            others = SessionIds("another secret").make(bytes([number]) * ENTROPY)[1]
            guess_resume_id(client, texts.get(foreign, others))
            assert client.error_codes(among_others=True) == ["no_such_session"]
        assert not harness.counters.throttle_delayed


# reference 14.1-c
async def test_reload_with_another_secret_forgets_the_failures_with_the_old_secret() -> None:
    async with FlowHarness() as harness:
        throttling, settings = harness.services.throttling, harness.services.settings
        caller = harness.connect().client_connection
        caller.set_gone()  # no delays
        for action in (ThrottledAction.ROOM_AUTH, ThrottledAction.HELLO_INTERNAL, ThrottledAction.HELLO_RESUME):
            for _ in range(10):
                await throttling.record_failure(caller, action)

        def blocked() -> list[str]:
            return [action.value for action in ThrottledAction if throttling.blocks(caller.address, action)]

        harness.flows.apply(settings)
        assert blocked() == ["HelloResume", "HelloInternal", "BackendRoomAuth"]
        changed = [structs.replace(backend, secret="new") for backend in settings.backends]
        harness.flows.apply(replace(settings, backends=Backends(changed)))
        assert blocked() == ["HelloResume", "HelloInternal"]
        harness.flows.apply(replace(harness.services.settings, internal_secret="new"))
        assert blocked() == ["HelloResume"]


async def test_blocked_address_may_open_a_new_session() -> None:
    async with FlowHarness() as harness:
        await harness.hello("victim")
        for _ in range(10):
            guess_resume_id(harness.connect())
        assert (await harness.hello("alice")).sessionid


# reference 14.1-a
async def test_delay_ends_when_the_caller_disconnects() -> None:
    async with FlowHarness() as harness:
        await harness.hello("victim")
        for _ in range(8):
            guess_resume_id(harness.connect())
        client = harness.connect()
        guess_resume_id(client)
        await asyncio.sleep(20)  # of 25 seconds
        waiting = len(harness.services.tasks)
        client.disconnect()
        await settle()
        assert len(harness.services.tasks) == waiting - 1


async def test_delay_of_a_disconnected_caller_ends_at_once() -> None:
    async with FlowHarness() as harness:
        client = harness.connect()
        client.disconnect()
        async with asyncio.timeout(0.01):
            await harness.services.throttling.record_failure(client.client_connection, ThrottledAction.HELLO_INTERNAL)
        assert harness.counters.throttle_delayed == {("HelloInternal", 100): 1}


async def test_hello_timeout_keeps_running_while_a_forged_id_waits() -> None:
    async with FlowHarness() as harness:
        await harness.hello("victim")
        for _ in range(8):
            guess_resume_id(harness.connect())
        client = harness.connect()
        guess_resume_id(client)
        await harness.sweep(2.0)
        assert isinstance(client.connection, FakeConnection)
        assert client.connection.finished
        assert [message.get("bye") for message in client.received()][-1] == {"reason": "hello_timeout"}


@pytest.mark.parametrize("version", ["", "3.0"])
async def test_wrong_version_is_no_failure(version: str) -> None:
    async with FlowHarness() as harness:
        client = harness.connect()
        client.received()
        client.send({"type": "hello", "hello": {"version": version, "resumeid": "forged"}})
        assert client.error_codes(among_others=True) == ["invalid_hello_version"]
        assert not harness.counters.throttle_delayed
