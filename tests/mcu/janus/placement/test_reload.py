"""Reloads while a Janus is being disconnected, is frozen, or has two addresses, and while the backend stops."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import msgspec
import pytest

from mcu.base import PublishOptions, SfuState, SubscribeOptions
from tests.mcu.janus.conftest import CAMERA, POLL, PUBLISH, WAIT, WaitableListener, offer_of_closed_peer
from tests.mcu.janus.janus_group import start_several, stream_key, until_equal
from tests.media.loopback import loopback

pytestmark = pytest.mark.usefixtures("janus_version")

__all__ = ["loopback"]


async def test_a_janus_whose_draining_is_taken_back_while_it_disconnects_accepts_streams_afterwards(
    loopback: None,
) -> None:
    async with start_several(1) as group:
        await group.start()
        group.change(0, draining=True)
        await group.reload()
        await asyncio.sleep(0)  # Janus is being disconnected now
        group.change(0, draining=False)
        reloading = asyncio.create_task(group.reload())
        await asyncio.sleep(0)
        listener = WaitableListener()
        publisher, _ = await group.mcu.publish(CAMERA, await offer_of_closed_peer(), PUBLISH, listener)
        await reloading
        await asyncio.sleep(0.1)
        assert listener.closed == []
        assert await group.room_counts() == [1]
        await publisher.close()
        await group.until_clean()


async def test_a_reload_does_not_wait_for_a_frozen_janus(loopback: None, monkeypatch: pytest.MonkeyPatch) -> None:
    async with start_several(2) as group:
        await group.start()
        group.janus[0].freeze()
        monkeypatch.setattr("mcu.janus.connection.connector.CLOSE_TIMEOUT", 3600.0)
        for draining in (True, False):
            group.change(0, draining=draining)
            async with asyncio.timeout(WAIT - 5.0):  # less than the time limit of a request
                await group.reload()
        group.janus[0].thaw()
        await group.states.until(lambda status: all(sfu.state is SfuState.READY for sfu in status.sfus))


async def test_a_reload_connects_to_nothing_while_and_after_the_backend_stops(loopback: None) -> None:
    async with start_several(1) as group:
        await group.start()
        group.change(0, draining=True)
        await group.reload()
        group.change(0, draining=False)
        reloading = asyncio.create_task(group.reload())
        await asyncio.sleep(0)
        await group.mcu.stop()
        await reloading
        await group.reload()
        await asyncio.sleep(0.2)
        assert [sfu.state for sfu in group.mcu.status().sfus] == [SfuState.STOPPED]
        assert await group.janus[0].handles() == []


@pytest.mark.full
async def test_stop_waits_once_for_all_streams_of_a_frozen_janus(
    loopback: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.mcu.janus.janus_group.WAIT", 5.0)
    async with start_several(1) as group:
        await group.start()
        description = await offer_of_closed_peer()
        for number in range(6):
            await group.mcu.publish(stream_key(f"{number}"), description, PUBLISH, WaitableListener())
        group.janus[0].freeze()
        async with asyncio.timeout(25.0):  # one time limit, not six
            await group.mcu.stop()
        group.janus[0].thaw()


async def test_two_connections_to_one_janus_keep_each_others_rooms(
    loopback: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("mcu.janus.rooms.sweep.FIRST_PAUSES", (0.0,))
    monkeypatch.setattr("mcu.janus.rooms.sweep.PAUSE", 0.1)
    async with start_several(2, remote_streams=True) as group:
        group.change(0, country="US")
        group.change(1, country="DE")
        await group.start()
        call = group.new_call()
        await call.publish(5, video=True, channels=False, options=PublishOptions(country="US"))
        _, watcher, listener = await call.subscribe(options=SubscribeOptions(country="DE"))
        await watcher.wait_for_picture(5)
        port = urlsplit(group.servers[1].url).port
        again = msgspec.structs.replace(group.servers[1], url=f"ws://localhost:{port}", country="")
        group.servers = [*group.servers, again]  # one Janus under two addresses
        await group.reload()
        await group.states.until(lambda status: all(sfu.state is SfuState.READY for sfu in status.sfus))
        async with asyncio.timeout(WAIT):
            while "same Janus" not in caplog.text:  # noqa: ASYNC110  a log cannot be waited for
                await asyncio.sleep(POLL)
        await asyncio.sleep(1.0)  # several searches
        assert listener.closed == []
        assert await group.room_counts() == [1, 1]
        await watcher.wait_for_picture(5)
        await call.mcu.stop()
        await until_equal(group.room_counts, [0, 0])
