"""Reloads that come while something is under way: a Janus that is just being left, a stop, two names for one Janus."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import msgspec
import pytest

from mcu.base import PublishOptions, SfuState, SubscribeOptions
from tests.mcu.descriptions import described
from tests.mcu.janus.conftest import CAMERA, Heard
from tests.mcu.janus.placement.test_several import SOON, offer
from tests.mcu.janus.several import comes_to, key, several
from tests.media.loopback import loopback

__all__ = ["loopback"]


async def test_one_that_is_called_back_while_it_is_being_left_takes_streams_when_it_is_back(loopback: None) -> None:
    async with several(1) as pool:
        await pool.start()
        pool.change(0, draining=True)
        await pool.reload()
        await asyncio.sleep(0)  # it is being left now
        pool.change(0, draining=False)
        reloading = asyncio.create_task(pool.reload())
        await asyncio.sleep(0)
        heard = Heard()
        publisher, _ = await pool.mcu.publish(CAMERA, described(await offer()), SOON, heard)
        await reloading
        await asyncio.sleep(0.1)
        assert heard.closed == []
        assert await pool.rooms() == [1]
        await publisher.close()
        await pool.is_clean()


async def test_a_reload_does_not_wait_for_a_janus_that_stands_still(loopback: None) -> None:
    async with several(2) as pool:
        await pool.start()
        pool.janus[0].freeze()
        for draining in (True, False):
            pool.change(0, draining=draining)
            async with asyncio.timeout(0.5):
                await pool.reload()
        pool.janus[0].thaw()
        await pool.states.until(lambda status: all(sfu.state is SfuState.READY for sfu in status.sfus))


async def test_a_reload_starts_nothing_while_and_after_the_gateway_stops(loopback: None) -> None:
    async with several(1) as pool:
        await pool.start()
        pool.change(0, draining=True)
        await pool.reload()
        pool.change(0, draining=False)
        reloading = asyncio.create_task(pool.reload())
        await asyncio.sleep(0)
        await pool.mcu.stop()
        await reloading
        await pool.reload()
        await asyncio.sleep(0.2)
        assert [sfu.state for sfu in pool.mcu.status().sfus] == [SfuState.STOPPED]
        assert await pool.janus[0].handles() == []


@pytest.mark.full
async def test_many_streams_of_one_that_stands_still_hold_up_the_stop_but_once(
    loopback: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.mcu.janus.several.WAIT", 1.5)
    async with several(1) as pool:
        await pool.start()
        description = await offer()
        for number in range(6):
            await pool.mcu.publish(key(f"{number}"), described(description), SOON, Heard())
        pool.janus[0].freeze()
        async with asyncio.timeout(6):
            await pool.mcu.stop()
        pool.janus[0].thaw()


async def test_one_janus_under_two_addresses_keeps_what_either_has_made(
    loopback: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("mcu.janus.rooms.sweep.FIRST", (0.0,))
    monkeypatch.setattr("mcu.janus.rooms.sweep.EVERY", 0.1)
    async with several(2, remote_streams=True) as pool:
        pool.change(0, country="US")
        pool.change(1, country="DE")
        await pool.start()
        call = pool.call()
        await call.publisher(5, video=True, channels=False, options=PublishOptions(country="US"))
        _, watcher, heard = await call.subscriber(options=SubscribeOptions(country="DE"))
        await watcher.wait_for_picture(5)
        port = urlsplit(pool.servers[1].url).port
        again = msgspec.structs.replace(pool.servers[1], url=f"ws://localhost:{port}", country="")
        pool.servers = [*pool.servers, again]  # as one that takes its address out for another name of the same
        await pool.reload()
        await pool.states.until(lambda status: all(sfu.state is SfuState.READY for sfu in status.sfus))
        await asyncio.sleep(1.0)  # several looks
        assert heard.closed == []
        assert await pool.rooms() == [1, 1]
        await watcher.wait_for_picture(5)
        assert "same Janus" in caplog.text
        await call.mcu.stop()
        await comes_to(pool.rooms, [0, 0])
