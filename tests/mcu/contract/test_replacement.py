"""Replaced publishers, closed streams and cancelled calls leave nothing on the SFU."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

import pytest

from mcu.base import CloseReason, PublishOptions, Rejected, SubscribeOptions, TransportState
from sdp.document import Description
from tests.mcu.contract.clients import KEY, sender, viewer
from tests.mcu.contract.sfus import Sfu
from tests.mcu.descriptions import TONES_ONLY, WITHOUT_MEDIA, parse_frozen

T = TypeVar("T")


async def test_second_publisher_replaces_the_first(sfu: Sfu) -> None:
    async with sender(21) as old, sender(22) as new, viewer() as carol, viewer() as again:
        await old.publish(sfu.mcu)
        await carol.subscribe(sfu.mcu)
        await carol.peer.wait_for_picture(21)
        await new.publish(sfu.mcu)
        await carol.wait_for_close(CloseReason.REPLACED)
        await again.subscribe(sfu.mcu)
        await again.peer.wait_for_picture(22)
        assert old.closed == []
        assert await sfu.open_streams() == 2
        await old.publisher.close()  # no effect: it is closed
        await again.peer.wait_for_picture(22)
        await new.publisher.close()
        await again.wait_for_close(CloseReason.PUBLISHER_GONE)
        assert await sfu.open_streams() == 0


async def test_of_two_publishers_at_once_one_remains(sfu: Sfu) -> None:
    async with sender(23) as alice, sender(24) as ben, viewer() as carol:
        await asyncio.gather(alice.publish(sfu.mcu), ben.publish(sfu.mcu))
        await carol.subscribe(sfu.mcu)
        await carol.peer.until(lambda: bool(set(carol.peer.numbers.values()) & {23, 24}), "a picture")
        assert await sfu.open_streams() == 2
        assert sum(part.publishers for part in sfu.mcu.status().sfus) == 1


async def test_replacement_of_an_unconnected_publisher_serves_waiting_subscribers(sfu: Sfu) -> None:
    async with sender(25) as old, sender(26) as new, viewer() as carol, viewer() as dave:
        old.publisher, _ = await sfu.mcu.publish(KEY, parse_frozen(await old.peer.offer()), PublishOptions(), old)
        waiting = [asyncio.create_task(watcher.subscribe(sfu.mcu)) for watcher in (carol, dave)]
        await new.publish(sfu.mcu)
        await asyncio.gather(*waiting)
        for watcher in (carol, dave):
            await watcher.peer.wait_for_picture(26)
            assert watcher.closed == []
        assert await sfu.open_streams() == 3


async def test_closing_a_subscription_affects_no_other(sfu: Sfu) -> None:
    async with sender(27) as alice, viewer() as carol, viewer() as dave:
        await alice.publish(sfu.mcu)
        left = await carol.subscribe(sfu.mcu)
        await dave.subscribe(sfu.mcu)
        await left.close()
        await left.close()
        await dave.peer.wait_for_picture(27)
        assert carol.closed == []
        assert await sfu.open_streams() == 2


async def test_client_that_ends_its_peer_connection_is_reported(sfu: Sfu) -> None:
    async with sender(28) as alice, viewer() as carol, viewer() as dave:
        await alice.publish(sfu.mcu)
        await carol.subscribe(sfu.mcu)
        await dave.subscribe(sfu.mcu)
        await dave.peer.wait_for_picture(28)
        for client in (alice, dave):
            assert client.transport[-1:] == [TransportState.CONNECTED]
        await dave.peer.close()
        await dave.wait_for_close(CloseReason.CLIENT_CLOSED)
        await carol.peer.wait_for_picture(28)
        await alice.peer.close()
        await alice.wait_for_close(CloseReason.CLIENT_CLOSED)
        await carol.wait_for_close(CloseReason.PUBLISHER_GONE)
        await alice.publisher.close()
        assert await sfu.open_streams() == 0


@pytest.mark.parametrize("unusable", [WITHOUT_MEDIA, TONES_ONLY], ids=["without media", "tones only"])
async def test_refused_offer_leaves_nothing(sfu: Sfu, unusable: Description) -> None:
    async with sender(29) as alice:
        with pytest.raises(Rejected):
            await sfu.mcu.publish(KEY, unusable, PublishOptions(), alice)
    await sfu.clean()


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5, 8, 13])
async def test_cancelled_calls_leave_nothing(sfu: Sfu, steps: int) -> None:
    async with sender(30) as alice, sender(31) as other, viewer() as carol, viewer() as dave:
        offer = await alice.peer.offer()
        published = await _cancel_after(sfu.mcu.publish(KEY, parse_frozen(offer), PublishOptions(), alice), steps)
        if published is not None:
            await published[0].close()
        subscribed = await _cancel_after(sfu.mcu.subscribe(KEY, SubscribeOptions(timeout=1.0), carol), steps)
        assert subscribed is None
        await sfu.clean()
        await other.publish(sfu.mcu)
        await dave.subscribe(sfu.mcu)
        subscribed = await _cancel_after(sfu.mcu.subscribe(KEY, SubscribeOptions(), carol), steps)
        if subscribed is not None:
            await subscribed[0].close()
        await other.publisher.close()
    await sfu.clean()


async def _cancel_after(call: Coroutine[object, object, T], steps: int) -> T | None:
    """Cancel a call after some loop iterations; return its result if it returned before."""
    task = asyncio.create_task(call)
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    try:
        return await task
    except asyncio.CancelledError:
        return None
