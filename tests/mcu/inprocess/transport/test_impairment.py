"""Switches and counters of the in-process SFU, by which others test: loss, delay, dead publishers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from mcu.base import BackendId, CloseReason, MediaKind, NoSuchStream, PublisherId, StreamKey, StreamType
from mcu.inprocess import InprocessSettings
from mcu.inprocess.backend import InprocessMcu
from mcu.inprocess.counters import Received, Sent
from mcu.inprocess.transport.impairment import MAX_DELAY, ImpairedLink, Impairment
from tests.mcu.contract.clients import KEY, Viewer, sender, viewer

NOBODY = StreamKey(BackendId("cloud"), PublisherId("nobody"), StreamType.VIDEO)


@pytest.fixture
async def mcu(loopback: None) -> AsyncIterator[InprocessMcu]:
    """Return an SFU that is ready."""
    running = InprocessMcu(InprocessSettings(address="127.0.0.1"))
    await running.start(lambda status: None)
    yield running
    await running.stop()


def received(mcu: InprocessMcu) -> Received:
    """Return what the only publisher's picture counts."""
    (stream,) = mcu.counters()
    return next(medium.layers[0] for medium in stream.media if medium.kind == "video")


def sent(mcu: InprocessMcu) -> Sent:
    """Return what the only subscriber's picture counts."""
    (stream,) = mcu.counters()
    (subscriber,) = stream.subscribers
    return next(medium for medium in subscriber.media if medium.kind == "video")


async def watch(carol: Viewer, pictures: int = 30) -> None:
    """Wait for so many more pictures, over a line that goes on to lose: aiortc asks again only when more is lost."""
    before = sum(carol.peer.frames.values())
    await carol.peer.until(lambda: sum(carol.peer.frames.values()) >= before + pictures, f"{pictures} pictures")


def lossy(seed: int) -> list[int]:
    """Return which of many packets a line with this seed delivers."""
    arrived: list[int] = []
    line = ImpairedLink(Impairment(loss=0.25, seed=seed), "out", lambda data: arrived.append(int(data)))
    for number in range(4000):
        assert line.carry(str(number).encode())
    return arrived


def test_line_loses_its_share_and_the_same_packets_with_the_same_seed() -> None:
    assert lossy(1) == lossy(1) != lossy(2)
    assert 2850 < len(lossy(1)) < 3150


async def test_line_delays_and_reorders_within_bounds() -> None:
    begun, arrived = time.monotonic(), list[tuple[float, int]]()
    done = asyncio.Event()

    def arrive(data: bytes) -> None:
        arrived.append((time.monotonic() - begun, int(data)))
        if len(arrived) == 100:
            done.set()

    line = ImpairedLink(Impairment(delay=0.05, jitter=0.1, seed=3), "out", arrive)
    for number in range(100):
        line.carry(str(number).encode())
    assert arrived == []
    async with asyncio.timeout(10):
        await done.wait()
    assert min(at for at, _ in arrived) >= 0.045
    assert max(at for at, _ in arrived) - min(at for at, _ in arrived) > 0.05
    assert [number for _, number in arrived] != sorted(number for _, number in arrived)


async def test_closed_line_delivers_nothing_more() -> None:
    arrived: list[bytes] = []
    line = ImpairedLink(Impairment(delay=0.01), "out", arrived.append)
    line.carry(b"1")
    line.close()
    await asyncio.sleep(0.05)
    assert arrived == []


@pytest.mark.parametrize(
    "wrong", [{"loss": -0.1}, {"loss": 1.1}, {"delay": -1.0}, {"jitter": MAX_DELAY + 1}, {"delay": float("nan")}]
)
async def test_figures_out_of_bounds_are_refused(mcu: InprocessMcu, wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"loss is|delay and jitter"):
        mcu.impair(KEY, **wrong)  # type: ignore[arg-type]  # names and values as a program would make them


async def test_stream_that_nobody_publishes_cannot_be_switched(mcu: InprocessMcu) -> None:
    for switch in (mcu.impair, mcu.silence, mcu.revive):
        with pytest.raises(NoSuchStream):
            switch(NOBODY)
    with pytest.raises(ValueError, match="nowhere"):
        mcu.impair(KEY, leg="nowhere")
    assert mcu.counters() == []


async def test_loss_on_either_leg_is_repaired_and_counted(mcu: InprocessMcu) -> None:
    async with sender(61) as alice, viewer() as carol:
        await alice.publish(mcu)
        mcu.impair(KEY, loss=0.1, seed=1)
        mcu.impair(KEY, loss=0.15, seed=1, leg="subscribers")  # holds for carol, who comes later
        await carol.subscribe(mcu)
        await carol.peer.sees(61)
        await watch(carol)
        above, below = received(mcu), sent(mcu)
        assert above.packets > 30
        assert above.bytes > above.packets
        assert above.lost > 0
        assert above.repaired > 0
        assert above.keyframe_requests > 0
        assert below.packets > 30
        assert below.repaired > 0
        assert below.substream == 0
        (stream,) = mcu.counters()
        assert (stream.backend, stream.publisher, stream.type) == (KEY.backend, KEY.publisher, "video")
        assert stream.connected
        assert {leg: it.loss for leg, it in stream.impairments.items()} == {"publisher": 0.1, "subscribers": 0.15}
        for leg in ("publisher", "subscribers"):
            mcu.impair(KEY, leg=leg)
        (stream,) = mcu.counters()
        assert stream.impairments == {}


async def test_silenced_publisher_sends_nothing_until_it_is_revived(mcu: InprocessMcu) -> None:
    async with sender(62) as alice, viewer() as carol:
        await alice.publish(mcu)
        await carol.subscribe(mcu)
        await carol.peer.sees(62)
        alice.media.clear()
        mcu.silence(KEY)
        before = received(mcu).packets
        await alice.until(lambda: (MediaKind.VIDEO, False) in alice.media, "that the picture stops")
        assert received(mcu).packets == before
        (stream,) = mcu.counters()
        assert stream.silent
        mcu.revive(KEY)
        await carol.peer.sees(62)
        assert alice.closed == carol.closed == []


@pytest.mark.full
async def test_publisher_that_stays_silent_has_failed(mcu: InprocessMcu) -> None:
    async with sender(63) as alice, viewer() as carol:
        await alice.publish(mcu)
        await carol.subscribe(mcu)
        await carol.peer.sees(63)
        mcu.silence(KEY)
        await alice.hears_closed(CloseReason.FAILED, 60.0)
        await carol.hears_closed(CloseReason.PUBLISHER_GONE)
        with pytest.raises(NoSuchStream):
            mcu.revive(KEY)
