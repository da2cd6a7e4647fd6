"""What nobody owns on a real Janus is cleared away, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from mcu.janus.backend import JanusMcu
from mcu.janus.protocol import PLUGIN
from mcu.janus.settings import JanusServer
from tests.janus_process import ADMIN_KEY, ADMIN_SECRET, API_SECRET, Conversation, JanusProcess
from tests.mcu.janus.conftest import INSTANCE, WAIT, Call, States


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcu.janus.sweep.FIRST", (0.0,))
    monkeypatch.setattr("mcu.janus.sweep.EVERY", 0.2)


@pytest.fixture
async def sweeping(janus: JanusProcess, states: States, loopback: None) -> AsyncIterator[JanusMcu]:
    settings = JanusServer(
        janus.url,
        api_secret=API_SECRET,
        admin_key=ADMIN_KEY,
        admin_url=janus.admin_url,
        admin_secret=ADMIN_SECRET,
    )
    mcu = JanusMcu((settings,), timeout=WAIT, instance=INSTANCE)
    await mcu.start(states)
    await states.until(lambda status: status.ready)
    yield mcu
    await mcu.stop()


async def create_room(janus: JanusProcess, description: str) -> None:
    """Make a room that nobody enters, as a gateway does that is killed right after."""
    async with Conversation(janus.url, "janus-protocol", {"apisecret": API_SECRET}) as stranger:
        session = (await stranger.ask(janus="create"))["data"]["id"]
        handle = (await stranger.ask(janus="attach", session_id=session, plugin=PLUGIN))["data"]["id"]
        body = {"request": "create", "description": description, "is_private": True, "admin_key": ADMIN_KEY}
        await stranger.ask(janus="message", session_id=session, handle_id=handle, body=body)


async def test_empty_rooms_of_gateways_go_and_all_others_stay(sweeping: JanusMcu, janus: JanusProcess) -> None:
    async with AsyncExitStack() as stack:
        _, sender, _ = await Call(sweeping, stack).publisher()
        await create_room(janus, f"portunus|{INSTANCE}|cloud|killed|video")
        stay = {"somebody else's", "portunus|another|cloud|anna|video", "portunus|cloud|of an old version|video"}
        for description in stay:
            await create_room(janus, description)
        own = f"portunus|{INSTANCE}|cloud|anna|video"
        async with asyncio.timeout(WAIT):
            while {room["description"] for room in await janus.rooms()} != stay | {own}:
                pass
        _, watcher, _ = await Call(sweeping, stack).subscriber()
        await watcher.hears(sender.frequency)


async def test_handles_that_nobody_knows_go_and_all_others_stay(sweeping: JanusMcu, janus: JanusProcess) -> None:
    async with AsyncExitStack() as stack:
        _, sender, _ = await Call(sweeping, stack).publisher()
        session = await sweeping.session()
        session.tell("attach", plugin=PLUGIN)  # nobody takes the answer
        async with asyncio.timeout(WAIT):
            while len(await janus.handles()) < 3:
                pass
            while len(await janus.handles()) > 2:
                pass
        _, watcher, _ = await Call(sweeping, stack).subscriber()
        await watcher.hears(sender.frequency)


async def test_a_look_that_fails_disturbs_nobody(
    janus: JanusProcess, states: States, loopback: None, caplog: pytest.LogCaptureFixture
) -> None:
    settings = JanusServer(
        janus.url, api_secret=API_SECRET, admin_key=ADMIN_KEY, admin_url=janus.admin_url, admin_secret="wrong"
    )
    mcu = JanusMcu((settings,), timeout=WAIT)
    await mcu.start(states)
    await states.until(lambda status: status.ready)
    async with AsyncExitStack() as stack:
        _, sender, _ = await Call(mcu, stack).publisher()
        _, watcher, _ = await Call(mcu, stack).subscriber()
        await watcher.hears(sender.frequency)
    await mcu.stop()
    assert "could not be looked through" in caplog.text
    assert "wrong" not in caplog.text
