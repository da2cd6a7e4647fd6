"""Two and three real Janus behind one backend: choice of the Janus for a stream, draining, and failures."""

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
from mcu.janus.settings import JanusServerSettings
from mcu.janus.streams.publisher import JanusPublisher
from tests.janus_process import API_SECRET, JanusProcess
from tests.mcu.descriptions import WITHOUT_MEDIA, parse_frozen
from tests.mcu.janus.conftest import (
    CAMERA,
    INSTANCE,
    POLL,
    PUBLISH,
    WAIT,
    RecordedStates,
    WaitableListener,
    offer_of_closed_peer,
    settings_for,
)
from tests.mcu.janus.events.sample_events import statistics_event
from tests.mcu.janus.janus_group import start_several, stream_key, until_equal
from tests.media import PublishingPeer
from tests.media.loopback import loopback
from tests.ports import free_ports

pytestmark = pytest.mark.usefixtures("janus_version")

__all__ = ["loopback"]

PATIENT = PublishOptions(timeout=4 * WAIT)  # a call waits half of it for an unreachable Janus: longer than WAIT


async def test_publishers_are_spread_and_their_subscribers_follow_them(loopback: None) -> None:
    async with start_several(2) as group:
        await group.start()
        call = group.new_call()
        first, second = stream_key("first"), stream_key("second")
        _, first_peer, _ = await call.publish(1, key=first, video=True)
        _, second_peer, _ = await call.publish(2, key=second, video=True)
        assert await group.room_counts() == [1, 1]
        for stream, peer in ((first, first_peer), (second, second_peer)):
            _, watcher, _ = await call.subscribe(stream)
            await watcher.wait_for_picture(peer.number)
            await watcher.wait_for_tone(peer.frequency)
        assert await group.handle_counts() == [2, 2]
        assert [(sfu.publishers, sfu.subscribers, sfu.load) for sfu in group.mcu.status().sfus] == [(1, 1, 3.0)] * 2
        await group.mcu.stop()
        await group.until_clean()


@pytest.mark.full
async def test_the_bandwidth_in_janus_events_counts_as_load_and_becomes_a_metric(loopback: None) -> None:
    async with start_several(2) as group:
        group.change(0, country="DE")
        await group.start()
        description = await offer_of_closed_peer()
        heavy, _ = await group.mcu.publish(stream_key("heavy"), description, PUBLISH, WaitableListener())
        light, _ = await group.mcu.publish(stream_key("light"), description, PUBLISH, WaitableListener())
        assert isinstance(heavy, JanusPublisher)
        assert isinstance(light, JanusPublisher)
        for publisher, rate in ((heavy, 1_000_000), (light, 12_500)):
            label = f"portunus|{INSTANCE}|cloud|x|video"
            event = statistics_event(publisher.session.id, publisher.handle.id, label, bytes_received_lastsec=rate)
            group.mcu.receive_events(json.dumps(event).encode())
        await asyncio.sleep(BANDWIDTH_AGE)  # until then an earlier measurement is used
        assert [sfu.load for sfu in group.mcu.status().sfus] == [10.0, 2.1]
        for number in range(3):
            await group.mcu.publish(stream_key(f"{number}"), description, PUBLISH, WaitableListener())
        assert await group.room_counts() == [1, 4]
        metrics = {metric.name: dict(metric.samples) for metric in group.mcu.metrics()}
        first, second = (server.url for server in group.servers)
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
    async with start_several(3) as group:
        group.change(0, weight=4.0)
        group.change(1, weight=1.0)
        group.change(2, weight=1.0)
        await group.start()
        async with PublishingPeer(1, 440.0, video=False) as peer:
            description = parse_frozen(await peer.offer())
            await asyncio.gather(
                *(
                    group.mcu.publish(stream_key(f"{number}"), description, PUBLISH, WaitableListener())
                    for number in range(30)
                )
            )
        assert await group.room_counts() == [20, 5, 5]
        await group.mcu.stop()
        await group.until_clean()


@pytest.mark.full
async def test_a_client_is_served_in_its_country_and_on_its_continent(loopback: None) -> None:
    async with start_several(2) as group:
        group.change(0, country="US", continents=("NA",))
        group.change(1, country="DE", continents=("EU",))
        await group.start()
        description = await offer_of_closed_peer()
        for number, location in enumerate([("DE", "EU"), ("DE", "EU"), ("FR", "EU"), ("CA", "NA")]):
            options = PublishOptions(country=location[0], continent=location[1])
            await group.mcu.publish(stream_key(f"{number}"), description, options, WaitableListener())
        assert await group.room_counts() == [1, 3]


@pytest.mark.full
async def test_a_stream_that_is_published_again_may_move_to_another_janus(loopback: None) -> None:
    async with start_several(2) as group:
        group.change(0, country="US")
        group.change(1, country="DE")
        await group.start()
        call = group.new_call()
        await call.publish(1, options=PublishOptions(country="US"))
        _, _, listener = await call.subscribe()
        assert await group.room_counts() == [1, 0]
        _, sender, _ = await call.publish(2, options=PublishOptions(country="DE"))
        assert await listener.close_reason() is CloseReason.REPLACED
        _, watcher, _ = await call.subscribe()
        await watcher.wait_for_tone(sender.frequency)
        assert await group.room_counts() == [0, 1]
        assert await group.handle_counts() == [0, 2]


@pytest.mark.full
async def test_no_call_waits_for_an_unreachable_janus(states: RecordedStates, loopback: None) -> None:
    (port,) = free_ports(1)
    async with JanusProcess() as janus:
        away = JanusServerSettings(f"ws://127.0.0.1:{port}", api_secret=API_SECRET)
        mcu = JanusMcu((away, settings_for(janus)), timeout=WAIT)
        await mcu.start(states)
        await states.until(lambda status: status.ready)
        async with asyncio.timeout(WAIT):
            publisher, _ = await mcu.publish(CAMERA, await offer_of_closed_peer(), PATIENT, WaitableListener())
        assert [sfu.state for sfu in mcu.status().sfus] == [SfuState.CONNECTING, SfuState.READY]
        await publisher.close()
        await mcu.stop()


@pytest.mark.full
async def test_a_stream_that_one_janus_refuses_before_the_offer_is_published_on_the_next(
    states: RecordedStates, loopback: None
) -> None:
    async with JanusProcess() as refusing, JanusProcess() as accepting:
        mcu = JanusMcu((settings_for(refusing), settings_for(accepting)), timeout=WAIT)
        await mcu.start(states)
        await states.until(lambda status: all(sfu.state is SfuState.READY for sfu in status.sfus))
        mcu.server(refusing.url).rooms.admin_key = "wrong"
        await mcu.publish(CAMERA, await offer_of_closed_peer(), PUBLISH, WaitableListener())
        assert [len(await process.rooms()) for process in (refusing, accepting)] == [0, 1]
        await mcu.stop()
        assert await refusing.handles() == []


@pytest.mark.full
async def test_an_offer_that_a_janus_has_refused_is_not_sent_to_the_next(loopback: None) -> None:
    async with start_several(2) as group:
        await group.start()
        with pytest.raises(Rejected):
            await group.mcu.publish(CAMERA, WITHOUT_MEDIA, PUBLISH, WaitableListener())
        await group.until_clean()


@pytest.mark.full
async def test_a_frozen_janus_is_replaced_by_the_next_and_its_late_successes_are_undone(loopback: None) -> None:
    async with start_several(2) as group:
        await group.start()
        group.janus[0].freeze()
        begun = time.monotonic()
        publisher, _ = await group.mcu.publish(
            CAMERA, await offer_of_closed_peer(), PublishOptions(timeout=12.0), WaitableListener()
        )
        assert time.monotonic() - begun > 5.0  # half of the time limit, less a second
        group.janus[0].thaw()
        await until_equal(group.room_counts, [0, 1])
        await until_equal(group.handle_counts, [0, 1])
        await publisher.close()
        await group.until_clean()


async def test_a_killed_janus_ends_only_its_own_streams_and_they_are_published_on_the_other(loopback: None) -> None:
    async with start_several(2) as group:
        await group.start()
        call = group.new_call()
        lost, kept = stream_key("lost"), stream_key("kept")
        _, _, publisher = await call.publish(1, key=lost, video=True)
        _, steady, other = await call.publish(2, key=kept, video=True)
        _, _, subscriber = await call.subscribe(lost)
        _, watcher, watching = await call.subscribe(kept)
        await watcher.wait_for_picture(2)
        await group.janus[0].kill()
        assert await publisher.close_reason() is CloseReason.LOST
        assert await subscriber.close_reason() is CloseReason.LOST
        assert group.mcu.status().ready
        waiting = asyncio.create_task(call.subscribe(lost))  # waits for the publisher on any Janus
        async with asyncio.timeout(WAIT):
            _, again, _ = await call.publish(3, key=lost, video=True, options=PATIENT)
        _, back, _ = await waiting
        await back.wait_for_picture(3)
        await back.wait_for_tone(again.frequency)
        await watcher.wait_for_picture(2)
        await watcher.wait_for_tone(steady.frequency)
        assert (other.closed, watching.closed) == ([], [])
        assert len(await group.janus[1].rooms()) == 2
        await group.janus[0].start()
        await group.states.until(lambda status: all(sfu.state is SfuState.READY for sfu in status.sfus))
        await call.publish(4, key=stream_key("new"))
        assert await group.room_counts() == [1, 2]
        await group.mcu.stop()
        await group.until_clean()


@pytest.mark.full
async def test_streams_of_a_frozen_janus_are_published_on_the_other_and_removed_from_the_first(loopback: None) -> None:
    async with start_several(2) as group:
        await group.start()
        call = group.new_call()
        lost, kept = stream_key("lost"), stream_key("kept")
        _, _, publisher = await call.publish(1, key=lost)
        _, steady, other = await call.publish(2, key=kept)
        _, _, subscriber = await call.subscribe(lost)
        _, watcher, _ = await call.subscribe(kept)
        group.janus[0].freeze()
        await group.states.until(lambda status: status.sfus[0].state is SfuState.CONNECTING)
        async with asyncio.timeout(WAIT):  # the frozen Janus, which may resume, is not waited for
            _, sender, _ = await call.publish(3, key=lost, options=PATIENT)
        assert await subscriber.close_reason() is CloseReason.REPLACED
        _, again, _ = await call.subscribe(lost)
        await again.wait_for_tone(sender.frequency)
        await watcher.wait_for_tone(steady.frequency)
        assert (publisher.closed, other.closed) == ([], [])
        group.janus[0].thaw()
        await group.states.until(lambda status: status.sfus[0].state is SfuState.READY)
        await until_equal(group.room_counts, [0, 2])
        await until_equal(group.handle_counts, [0, 4])


@pytest.mark.full
async def test_streams_of_a_janus_that_stays_frozen_are_lost(loopback: None) -> None:
    async with start_several(2) as group:
        await group.start()
        call = group.new_call()
        _, _, publisher = await call.publish(1)
        _, _, subscriber = await call.subscribe()
        group.janus[0].freeze()
        assert await publisher.close_reason(60) is CloseReason.LOST
        assert await subscriber.close_reason() is CloseReason.LOST
        await call.publish(2)
        assert len(await group.janus[1].rooms()) == 1
        group.janus[0].thaw()
        await group.states.until(lambda status: status.sfus[0].state is SfuState.READY)
        await until_equal(group.room_counts, [0, 1])
        await until_equal(group.handle_counts, [0, 1])


@pytest.mark.full
async def test_a_publish_under_way_on_a_janus_that_is_killed_succeeds_on_the_other(loopback: None) -> None:
    async with start_several(2) as group:
        await group.start()
        group.janus[0].freeze()
        publishing = asyncio.create_task(
            group.mcu.publish(CAMERA, await offer_of_closed_peer(), PUBLISH, WaitableListener())
        )
        async with asyncio.timeout(WAIT):
            while group.status(0).load == 0:  # noqa: ASYNC110  there is no event of a publisher that is being opened
                await asyncio.sleep(POLL)
        await group.janus[0].kill()
        await publishing
        assert len(await group.janus[1].rooms()) == 1


@pytest.mark.full
async def test_a_draining_janus_keeps_its_streams_and_accepts_no_new_ones(loopback: None) -> None:
    async with start_several(2) as group:
        await group.start()
        call = group.new_call()
        stays = stream_key("stays")
        publisher, _, listener = await call.publish(1, key=stays, video=True)
        group.change(0, draining=True)
        await group.reload()
        assert group.status(0).state is SfuState.DRAINING
        assert "no new streams" in group.status(0).reason
        for number in range(3):
            await call.publish(2 + number, key=stream_key(f"{number}"))
        assert await group.room_counts() == [1, 3]
        _, watcher, _ = await call.subscribe(stays)  # a later subscriber is served as well
        await watcher.wait_for_picture(1)
        assert listener.closed == []
        await publisher.close()
        await group.states.until(lambda status: status.sfus[0].state is SfuState.STOPPED)
        assert group.status(0).reason == "drained"
        assert (await group.janus[0].rooms(), await group.janus[0].handles()) == ([], [])
        group.change(0, draining=False)
        await group.reload()
        await group.states.until(lambda status: status.sfus[0].state is SfuState.READY)
        await call.publish(6, key=stream_key("back"))
        assert await group.room_counts() == [1, 3]


@pytest.mark.full
async def test_a_removed_janus_is_drained_and_an_added_one_accepts_streams(loopback: None) -> None:
    async with start_several(3) as group:
        first, second, third = group.servers
        group.servers = [first, second]
        await group.start()
        call = group.new_call()
        publisher, sender, _ = await call.publish(1, key=stream_key("stays"))
        _, watcher, _ = await call.subscribe(stream_key("stays"))
        group.servers = [second, third]
        await group.reload()
        assert [sfu.url for sfu in group.mcu.status().sfus] == [second.url, third.url, first.url]
        await group.states.until(lambda status: status.sfus[1].state is SfuState.READY)
        for number in range(4):
            await call.publish(2 + number, key=stream_key(f"{number}"))
        assert await group.room_counts() == [1, 2, 2]
        await watcher.wait_for_tone(sender.frequency)
        await publisher.close()
        await group.states.until(lambda status: len(status.sfus) == 2)
        assert await group.janus[0].handles() == []
        group.servers = [first, third]
        await group.reload()
        await group.states.until(lambda status: status.sfus[0].state is SfuState.READY)


@pytest.mark.full
async def test_a_janus_that_drains_from_the_start_is_not_connected_to(loopback: None) -> None:
    async with start_several(2) as group:
        group.change(0, draining=True)
        await group.start()
        assert group.status(0).state is SfuState.STOPPED
        assert await group.janus[0].handles() == []
        await group.mcu.publish(CAMERA, await offer_of_closed_peer(), PUBLISH, WaitableListener())
        group.change(1, draining=True)
        await group.reload()
        assert not group.mcu.status().ready
        with pytest.raises(Rejected, match="being drained"):
            await group.mcu.publish(stream_key("other"), await offer_of_closed_peer(), PUBLISH, WaitableListener())
        with pytest.raises(Rejected, match="being drained"):
            await group.mcu.subscribe(stream_key("other"), SubscribeOptions(timeout=5.0), WaitableListener())


@pytest.mark.full
async def test_a_draining_janus_that_is_killed_is_disconnected(loopback: None) -> None:
    async with start_several(2) as group:
        await group.start()
        _, _, listener = await group.new_call().publish(1)
        group.change(0, draining=True)
        await group.reload()
        await group.janus[0].kill()
        assert await listener.close_reason() is CloseReason.LOST
        await group.states.until(lambda status: status.sfus[0].state is SfuState.STOPPED)
        await group.new_call().publish(2)
        assert len(await group.janus[1].rooms()) == 1


@pytest.mark.full
async def test_the_error_names_each_unreachable_janus(states: RecordedStates, loopback: None) -> None:
    first, second = free_ports(2)
    servers = tuple(JanusServerSettings(f"ws://127.0.0.1:{port}") for port in (first, second))
    mcu = JanusMcu(servers, timeout=WAIT)
    await mcu.start(states)
    await states.until(lambda status: all("refused" in sfu.reason for sfu in status.sfus))
    with pytest.raises(McuLost, match=r"not there: Janus 1: connection refused; Janus 2: connection refused$"):
        await mcu.publish(CAMERA, await offer_of_closed_peer(), PublishOptions(timeout=0.2), WaitableListener())
    await mcu.stop()
    with pytest.raises(McuLost, match="stopped"):
        await mcu.publish(CAMERA, await offer_of_closed_peer(), PUBLISH, WaitableListener())
