"""Two and three real Janus behind one backend: where streams go, one that is drained, one that dies."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from mcu.base import (
    CloseReason,
    McuLost,
    PublishOptions,
    Rejected,
    SfuState,
    SubscribeOptions,
)
from mcu.janus.backend import JanusMcu
from mcu.janus.placement.server import BANDWIDTH_AGE
from mcu.janus.streams.publisher import JanusPublisher
from tests.janus_process import API_SECRET, JanusProcess, free_ports
from tests.mcu.descriptions import WITHOUT_MEDIA, described
from tests.mcu.janus.conftest import CAMERA, INSTANCE, WAIT, Heard, States, server
from tests.mcu.janus.events.sample_events import statistics
from tests.mcu.janus.several import comes_to, key, several
from tests.media import PublishingPeer
from tests.media.loopback import loopback

__all__ = ["loopback"]

SOON = PublishOptions(timeout=5.0)


async def offer() -> str:
    """Return an offer that no peer stands behind any more."""
    async with PublishingPeer(1, 440.0, video=False) as peer:
        return await peer.offer()


async def test_publishers_are_spread_and_their_subscribers_follow_them(loopback: None) -> None:
    async with several(2) as pool:
        await pool.start()
        call = pool.call()
        first, second = key("first"), key("second")
        _, one, _ = await call.publisher(1, key=first, video=True)
        _, other, _ = await call.publisher(2, key=second, video=True)
        assert await pool.rooms() == [1, 1]
        for stream, peer in ((first, one), (second, other)):
            _, watcher, _ = await call.subscriber(stream)
            await watcher.wait_for_picture(peer.number)
            await watcher.wait_for_tone(peer.frequency)
        assert await pool.handles() == [2, 2]
        assert [(sfu.publishers, sfu.subscribers, sfu.load) for sfu in pool.mcu.status().sfus] == [(1, 1, 3.0)] * 2
        await pool.mcu.stop()
        await pool.is_clean()


@pytest.mark.full
async def test_what_janus_tells_of_bandwidth_counts_and_is_told_on(loopback: None) -> None:
    async with several(2) as pool:
        pool.change(0, country="DE")
        await pool.start()
        description = await offer()
        heavy, _ = await pool.mcu.publish(key("heavy"), described(description), SOON, Heard())
        light, _ = await pool.mcu.publish(key("light"), described(description), SOON, Heard())
        assert isinstance(heavy, JanusPublisher)
        assert isinstance(light, JanusPublisher)
        for publisher, rate in ((heavy, 1_000_000), (light, 12_500)):
            label = f"portunus|{INSTANCE}|cloud|x|video"
            told = statistics(publisher.session.id, publisher.handle.id, label, bytes_received_lastsec=rate)
            pool.mcu.receive_events(json.dumps(told).encode())
        await asyncio.sleep(BANDWIDTH_AGE)  # so long an earlier look holds
        assert [sfu.load for sfu in pool.mcu.status().sfus] == [10.0, 2.1]
        for number in range(3):
            await pool.mcu.publish(key(f"{number}"), described(description), SOON, Heard())
        assert await pool.rooms() == [1, 4]
        metrics = {metric.name: dict(metric.samples) for metric in pool.mcu.metrics()}
        first, second = (server.url for server in pool.servers)
        assert metrics["backend_load"] == {(first,): 10.0, (second,): 8.1}
        assert metrics["backend_connections"] == {("DE",): 1, ("unknown",): 1}
        assert metrics["backend_bandwidth"] == {
            (first, "incoming"): 1_000_000,
            (first, "outgoing"): 0,
            (second, "incoming"): 12_500,
            (second, "outgoing"): 0,
        }


@pytest.mark.full
async def test_thirty_publishers_at_once_are_spread_over_three_by_weight(loopback: None) -> None:
    async with several(3) as pool:
        pool.change(0, weight=4.0)
        pool.change(1, weight=1.0)
        pool.change(2, weight=1.0)
        await pool.start()
        async with PublishingPeer(1, 440.0, video=False) as peer:
            description = await peer.offer()
            await asyncio.gather(
                *(pool.mcu.publish(key(f"{number}"), described(description), SOON, Heard()) for number in range(30))
            )
        assert await pool.rooms() == [20, 5, 5]
        await pool.mcu.stop()
        await pool.is_clean()


@pytest.mark.full
async def test_a_client_is_served_in_its_country_and_on_its_continent(loopback: None) -> None:
    async with several(2) as pool:
        pool.change(0, country="US", continents=("NA",))
        pool.change(1, country="DE", continents=("EU",))
        await pool.start()
        description = await offer()
        for number, place in enumerate([("DE", "EU"), ("DE", "EU"), ("FR", "EU"), ("CA", "NA")]):
            options = PublishOptions(country=place[0], continent=place[1])
            await pool.mcu.publish(key(f"{number}"), described(description), options, Heard())
        assert await pool.rooms() == [1, 3]


@pytest.mark.full
async def test_publishing_again_may_go_elsewhere_and_leaves_nothing_behind(loopback: None) -> None:
    async with several(2) as pool:
        pool.change(0, country="US")
        pool.change(1, country="DE")
        await pool.start()
        call = pool.call()
        await call.publisher(1, options=PublishOptions(country="US"))
        _, _, heard = await call.subscriber()
        assert await pool.rooms() == [1, 0]
        _, sender, _ = await call.publisher(2, options=PublishOptions(country="DE"))
        assert await heard.end() is CloseReason.REPLACED
        _, watcher, _ = await call.subscriber()
        await watcher.wait_for_tone(sender.frequency)
        assert await pool.rooms() == [0, 1]
        assert await pool.handles() == [0, 2]


@pytest.mark.full
async def test_nobody_waits_for_a_janus_that_is_not_there(states: States, loopback: None) -> None:
    (port,) = free_ports(1)
    async with JanusProcess() as janus:
        away = server(janus)
        away = type(away)(f"ws://127.0.0.1:{port}", api_secret=API_SECRET)
        mcu = JanusMcu((away, server(janus)), timeout=WAIT)
        await mcu.start(states)
        await states.until(lambda status: status.ready)
        begun = time.monotonic()
        publisher, _ = await mcu.publish(CAMERA, described(await offer()), SOON, Heard())
        assert time.monotonic() - begun < 2.0
        assert [sfu.state for sfu in mcu.status().sfus] == [SfuState.CONNECTING, SfuState.READY]
        await publisher.close()
        await mcu.stop()


@pytest.mark.full
async def test_a_janus_that_refuses_is_passed_over(states: States, loopback: None) -> None:
    async with JanusProcess() as strict, JanusProcess() as lax:
        wrong = type(server(strict))(strict.url, api_secret=API_SECRET, admin_key="wrong")
        mcu = JanusMcu((wrong, server(lax)), timeout=WAIT)
        await mcu.start(states)
        await states.until(lambda status: all(sfu.state is SfuState.READY for sfu in status.sfus))
        await mcu.publish(CAMERA, described(await offer()), SOON, Heard())
        assert [len(await process.rooms()) for process in (strict, lax)] == [0, 1]
        await mcu.stop()
        assert await strict.handles() == []


@pytest.mark.full
async def test_what_each_janus_would_refuse_is_not_tried_on_the_next(loopback: None) -> None:
    async with several(2) as pool:
        await pool.start()
        with pytest.raises(Rejected):
            await pool.mcu.publish(CAMERA, WITHOUT_MEDIA, SOON, Heard())
        await pool.is_clean()


@pytest.mark.full
async def test_a_janus_that_stands_still_is_passed_over_in_time_and_what_it_does_late_is_undone(loopback: None) -> None:
    async with several(2) as pool:
        await pool.start()
        pool.janus[0].freeze()
        begun = time.monotonic()
        publisher, _ = await pool.mcu.publish(CAMERA, described(await offer()), PublishOptions(timeout=3.0), Heard())
        assert 1.4 < time.monotonic() - begun < 2.9
        pool.janus[0].thaw()
        await comes_to(pool.rooms, [0, 1])
        await comes_to(pool.handles, [0, 1])
        await publisher.close()
        await pool.is_clean()


async def test_one_that_dies_takes_only_its_own_streams_and_they_come_back_on_the_other(loopback: None) -> None:
    async with several(2) as pool:
        await pool.start()
        call = pool.call()
        lost, kept = key("lost"), key("kept")
        _, _, publisher = await call.publisher(1, key=lost, video=True)
        _, steady, other = await call.publisher(2, key=kept, video=True)
        _, _, subscriber = await call.subscriber(lost)
        _, watcher, watching = await call.subscriber(kept)
        await watcher.wait_for_picture(2)
        await pool.janus[0].kill()
        assert await publisher.end() is CloseReason.LOST
        assert await subscriber.end() is CloseReason.LOST
        assert pool.mcu.status().ready
        waiting = asyncio.create_task(call.subscriber(lost))  # waits for the publisher wherever it appears
        begun = time.monotonic()
        _, again, _ = await call.publisher(3, key=lost, video=True)
        assert time.monotonic() - begun < 2.0
        _, back, _ = await waiting
        await back.wait_for_picture(3)
        await back.wait_for_tone(again.frequency)
        await watcher.wait_for_picture(2)
        await watcher.wait_for_tone(steady.frequency)
        assert (other.closed, watching.closed) == ([], [])
        assert len(await pool.janus[1].rooms()) == 2
        await pool.janus[0].start()
        await pool.states.until(lambda status: all(sfu.state is SfuState.READY for sfu in status.sfus))
        await call.publisher(4, key=key("new"))
        assert await pool.rooms() == [1, 2]
        await pool.mcu.stop()
        await pool.is_clean()


@pytest.mark.full
async def test_streams_of_one_that_stands_still_come_back_on_the_other_and_are_cleared_away(loopback: None) -> None:
    async with several(2) as pool:
        await pool.start()
        call = pool.call()
        lost, kept = key("lost"), key("kept")
        _, _, publisher = await call.publisher(1, key=lost)
        _, steady, other = await call.publisher(2, key=kept)
        _, _, subscriber = await call.subscriber(lost)
        _, watcher, _ = await call.subscriber(kept)
        pool.janus[0].freeze()
        await pool.states.until(lambda status: status.sfus[0].state is SfuState.CONNECTING)
        begun = time.monotonic()
        _, sender, _ = await call.publisher(3, key=lost)  # nobody waits for it, also while it may come back
        assert time.monotonic() - begun < 2.0
        assert await subscriber.end() is CloseReason.REPLACED
        _, again, _ = await call.subscriber(lost)
        await again.wait_for_tone(sender.frequency)
        await watcher.wait_for_tone(steady.frequency)
        assert (publisher.closed, other.closed) == ([], [])
        pool.janus[0].thaw()
        await pool.states.until(lambda status: status.sfus[0].state is SfuState.READY, 20)
        await comes_to(pool.rooms, [0, 2])
        await comes_to(pool.handles, [0, 4])


@pytest.mark.full
async def test_what_one_that_stands_still_had_is_lost_in_the_end(loopback: None) -> None:
    async with several(2) as pool:
        await pool.start()
        call = pool.call()
        _, _, publisher = await call.publisher(1)
        _, _, subscriber = await call.subscriber()
        pool.janus[0].freeze()
        assert await publisher.end(30) is CloseReason.LOST
        assert await subscriber.end() is CloseReason.LOST
        await call.publisher(2)
        assert len(await pool.janus[1].rooms()) == 1
        pool.janus[0].thaw()
        await pool.states.until(lambda status: status.sfus[0].state is SfuState.READY, 20)
        await comes_to(pool.rooms, [0, 1])
        await comes_to(pool.handles, [0, 1])


@pytest.mark.full
async def test_a_verb_under_way_on_one_that_dies_is_carried_out_on_the_other(loopback: None) -> None:
    async with several(2) as pool:
        await pool.start()
        pool.janus[0].freeze()
        publishing = asyncio.create_task(pool.mcu.publish(CAMERA, described(await offer()), SOON, Heard()))
        async with asyncio.timeout(WAIT):
            while pool.status(0).load == 0:  # noqa: ASYNC110  nobody is told of a stream that is about to come
                await asyncio.sleep(0)
        await pool.janus[0].kill()
        await publishing
        assert len(await pool.janus[1].rooms()) == 1


@pytest.mark.full
async def test_one_that_is_drained_keeps_its_streams_and_takes_no_new_ones(loopback: None) -> None:
    async with several(2) as pool:
        await pool.start()
        call = pool.call()
        stays = key("stays")
        publisher, _, heard = await call.publisher(1, key=stays, video=True)
        pool.change(0, draining=True)
        await pool.reload()
        assert pool.status(0).state is SfuState.DRAINING
        assert "no new streams" in pool.status(0).reason
        for number in range(3):
            await call.publisher(2 + number, key=key(f"{number}"))
        assert await pool.rooms() == [1, 3]
        _, watcher, _ = await call.subscriber(stays)  # who comes later is served as well
        await watcher.wait_for_picture(1)
        assert heard.closed == []
        await publisher.close()
        await pool.states.until(lambda status: status.sfus[0].state is SfuState.STOPPED)
        assert pool.status(0).reason == "drained"
        assert (await pool.janus[0].rooms(), await pool.janus[0].handles()) == ([], [])
        pool.change(0, draining=False)
        await pool.reload()
        await pool.states.until(lambda status: status.sfus[0].state is SfuState.READY)
        await call.publisher(6, key=key("back"))
        assert await pool.rooms() == [1, 3]


@pytest.mark.full
async def test_one_that_is_taken_out_is_drained_and_one_that_is_added_takes_streams(loopback: None) -> None:
    async with several(3) as pool:
        first, second, third = pool.servers
        pool.servers = [first, second]
        await pool.start()
        call = pool.call()
        publisher, sender, _ = await call.publisher(1, key=key("stays"))
        _, watcher, _ = await call.subscriber(key("stays"))
        pool.servers = [second, third]
        await pool.reload()
        assert [sfu.url for sfu in pool.mcu.status().sfus] == [second.url, third.url, first.url]
        await pool.states.until(lambda status: status.sfus[1].state is SfuState.READY)
        for number in range(4):
            await call.publisher(2 + number, key=key(f"{number}"))
        assert await pool.rooms() == [1, 2, 2]
        await watcher.wait_for_tone(sender.frequency)
        await publisher.close()
        await pool.states.until(lambda status: len(status.sfus) == 2)
        assert await pool.janus[0].handles() == []
        pool.servers = [first, third]
        await pool.reload()
        await pool.states.until(lambda status: status.sfus[0].state is SfuState.READY)


@pytest.mark.full
async def test_one_that_is_drained_from_the_start_is_not_connected_to(loopback: None) -> None:
    async with several(2) as pool:
        pool.change(0, draining=True)
        await pool.start()
        assert pool.status(0).state is SfuState.STOPPED
        assert await pool.janus[0].handles() == []
        await pool.mcu.publish(CAMERA, described(await offer()), SOON, Heard())
        pool.change(1, draining=True)
        await pool.reload()
        assert not pool.mcu.status().ready
        with pytest.raises(Rejected, match="being drained"):
            await pool.mcu.publish(key("other"), described(await offer()), SOON, Heard())
        with pytest.raises(Rejected, match="being drained"):
            await pool.mcu.subscribe(key("other"), SubscribeOptions(timeout=5.0), Heard())


@pytest.mark.full
async def test_one_that_is_drained_and_dies_is_left(loopback: None) -> None:
    async with several(2) as pool:
        await pool.start()
        _, _, heard = await pool.call().publisher(1)
        pool.change(0, draining=True)
        await pool.reload()
        await pool.janus[0].kill()
        assert await heard.end() is CloseReason.LOST
        await pool.states.until(lambda status: status.sfus[0].state is SfuState.STOPPED)
        await pool.call().publisher(2)
        assert len(await pool.janus[1].rooms()) == 1


@pytest.mark.full
async def test_each_that_is_missing_is_named(states: States, loopback: None) -> None:
    first, second = free_ports(2)
    servers = tuple(type(server(JanusProcess()))(f"ws://127.0.0.1:{port}") for port in (first, second))
    mcu = JanusMcu(servers, timeout=WAIT)
    await mcu.start(states)
    await states.until(lambda status: all("refused" in sfu.reason for sfu in status.sfus))
    with pytest.raises(McuLost, match=r"not there: Janus 1: connection refused; Janus 2: connection refused$"):
        await mcu.publish(CAMERA, described(await offer()), PublishOptions(timeout=0.2), Heard())
    await mcu.stop()
    with pytest.raises(McuLost, match="stopped"):
        await mcu.publish(CAMERA, described(await offer()), SOON, Heard())
