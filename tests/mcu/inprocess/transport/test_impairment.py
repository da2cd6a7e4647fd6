"""Test controls of the in-process SFU: counters, loss, delay, silenced publishers."""

from __future__ import annotations

import asyncio
import time

import aioice.ice
import pytest

from mcu.base import BackendId, CloseReason, MediaKind, NoSuchStream, PublisherId, StreamKey, StreamType
from mcu.inprocess.backend import InprocessMcu
from mcu.inprocess.counters import LayerCounters, SentMediaCounters
from mcu.inprocess.transport.impairment import MAX_DELAY, ImpairedLink, Impairment
from tests.mcu.contract.clients import KEY, SubscribingClient, sender, viewer

UNPUBLISHED_STREAM = StreamKey(BackendId("cloud"), PublisherId("unpublished"), StreamType.VIDEO)


def received(mcu: InprocessMcu) -> LayerCounters:
    """Return the counters of the only publisher's video."""
    (stream,) = mcu.counters()
    return next(medium.layers[0] for medium in stream.media if medium.kind == "video")


def sent(mcu: InprocessMcu) -> SentMediaCounters:
    """Return the counters of the only subscriber's video."""
    (stream,) = mcu.counters()
    (subscriber,) = stream.subscribers
    return next(medium for medium in subscriber.media if medium.kind == "video")


async def wait_for_pictures(carol: SubscribingClient, pictures: int = 30) -> None:
    """Wait until more pictures are decoded; not for a certain one: aiortc repeats a NACK only after another loss."""
    before = sum(carol.peer.frames.values())
    await carol.peer.until(lambda: sum(carol.peer.frames.values()) >= before + pictures, f"{pictures} pictures")


def delivered(seed: int) -> list[int]:
    """Return the numbers of the packets that a link with this seed delivers, of 4000."""
    arrived: list[int] = []
    link = ImpairedLink(Impairment(loss=0.25, seed=seed), "out", lambda data: arrived.append(int(data)))
    for number in range(4000):
        assert link.send(str(number).encode())
    return arrived


def test_link_loses_its_share_and_the_same_packets_with_the_same_seed() -> None:
    assert delivered(1) == delivered(1) != delivered(2)
    assert 2850 < len(delivered(1)) < 3150


async def test_link_delays_and_reorders_within_bounds() -> None:
    begun, arrived = time.monotonic(), list[tuple[float, int]]()
    done = asyncio.Event()

    def deliver(data: bytes) -> None:
        arrived.append((time.monotonic() - begun, int(data)))
        if len(arrived) == 100:
            done.set()

    link = ImpairedLink(Impairment(delay=0.05, jitter=0.1, seed=3), "out", deliver)
    for number in range(100):
        link.send(str(number).encode())
    assert arrived == []
    async with asyncio.timeout(60):
        await done.wait()
    assert min(at for at, _ in arrived) >= 0.045
    assert [number for _, number in arrived] != sorted(number for _, number in arrived)


async def test_closed_link_delivers_no_delayed_packet() -> None:
    arrived: list[bytes] = []
    link = ImpairedLink(Impairment(delay=0.01), "out", arrived.append)
    link.send(b"1")
    link.close()
    await asyncio.sleep(0.05)
    assert arrived == []


@pytest.mark.parametrize(
    "figures", [{"loss": -0.1}, {"loss": 1.1}, {"delay": -1.0}, {"jitter": MAX_DELAY + 1}, {"delay": float("nan")}]
)
async def test_figures_out_of_bounds_are_refused(mcu: InprocessMcu, figures: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"loss is|delay and jitter"):
        mcu.impair(KEY, **figures)  # type: ignore[arg-type]  # mypy checks the values against all parameters


async def test_controls_of_an_unpublished_stream_raise(mcu: InprocessMcu) -> None:
    for control in (mcu.impair, mcu.silence, mcu.revive):
        with pytest.raises(NoSuchStream):
            control(UNPUBLISHED_STREAM)
    with pytest.raises(ValueError, match="nowhere"):
        mcu.impair(KEY, leg="nowhere")
    assert mcu.counters() == []


async def test_loss_on_either_leg_is_repaired_and_counted(mcu: InprocessMcu) -> None:
    async with sender(61) as alice, viewer() as carol:
        await alice.publish(mcu)
        mcu.impair(KEY, loss=0.1, seed=1)
        mcu.impair(KEY, loss=0.15, seed=1, leg="subscribers")  # applies to carol's later subscription
        await carol.subscribe(mcu)
        await carol.peer.wait_for_picture(61)
        await wait_for_pictures(carol)
        from_publisher, to_subscriber = received(mcu), sent(mcu)
        assert from_publisher.packets > 30
        assert from_publisher.bytes > from_publisher.packets
        assert from_publisher.lost > 0
        assert from_publisher.repaired > 0
        assert from_publisher.keyframe_requests > 0
        assert to_subscriber.packets > 30
        assert to_subscriber.repaired > 0
        assert to_subscriber.substream == 0
        (stream,) = mcu.counters()
        assert (stream.backend, stream.publisher, stream.type) == (KEY.backend, KEY.publisher, "video")
        assert stream.connected
        assert {leg: impairment.loss for leg, impairment in stream.impairments.items()} == {
            "publisher": 0.1,
            "subscribers": 0.15,
        }
        for leg in ("publisher", "subscribers"):
            mcu.impair(KEY, leg=leg)
        (stream,) = mcu.counters()
        assert stream.impairments == {}


async def test_silenced_publisher_sends_nothing_until_it_is_revived(mcu: InprocessMcu) -> None:
    async with sender(62) as alice, viewer() as carol:
        await alice.publish(mcu)
        await carol.subscribe(mcu)
        await carol.peer.wait_for_picture(62)
        alice.media.clear()
        mcu.silence(KEY)
        before = received(mcu).packets
        await alice.until(lambda: (MediaKind.VIDEO, False) in alice.media, "the end of the video")
        assert received(mcu).packets == before
        (stream,) = mcu.counters()
        assert stream.silent
        mcu.revive(KEY)
        await carol.peer.wait_for_picture(62)
        assert alice.closed == carol.closed == []


@pytest.mark.full
async def test_publisher_that_stays_silent_has_failed(mcu: InprocessMcu, monkeypatch: pytest.MonkeyPatch) -> None:
    assert aioice.ice.CONSENT_INTERVAL * aioice.ice.CONSENT_FAILURES == 30  # seconds, as docs/testing.md says
    monkeypatch.setattr(aioice.ice, "CONSENT_INTERVAL", 1)
    async with sender(63) as alice, viewer() as carol:
        await alice.publish(mcu)
        await carol.subscribe(mcu)
        await carol.peer.wait_for_picture(63)
        mcu.silence(KEY)
        await alice.wait_for_close(CloseReason.ICE_FAILED, 60.0)
        await carol.wait_for_close(CloseReason.PUBLISHER_GONE)
        with pytest.raises(NoSuchStream):
            mcu.revive(KEY)
