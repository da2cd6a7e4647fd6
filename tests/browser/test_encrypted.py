"""End-to-end encrypted frames through each SFU: all but the codec header of a frame is encrypted, as Talk does it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.config import McuSection
from tests.browser.test_simulcast import HEIGHTS, WAIT, SimulcastPage, two_page_call

pytestmark = pytest.mark.full

KEY, OTHER_KEY = list(range(16)), list(range(16, 32))  # 128 bits


async def until_frames(person: SimulcastPage, wanted: set[str], least: int = 20) -> dict[str, int]:
    """Wait until ``least`` frames have passed a page's transforms with each wanted outcome; return the counts."""
    frames: dict[str, Any] = {}
    try:
        async with asyncio.timeout(WAIT):
            while any(frames.get(outcome, 0) < least for outcome in wanted):
                frames = await person.page.evaluate("page.frames")
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"frames are {frames}, not {wanted}; {person.problems}") from None
    return frames


async def test_encrypted_frames_reach_a_receiver_with_the_key_in_each_layer(mcu: McuSection) -> None:
    async with two_page_call(mcu) as call:
        ada, bob = call.ada, call.bob
        async with asyncio.timeout(WAIT):
            assert await ada.page.evaluate("message => shareKey(message)", [bob.id, KEY, "7"]) == "7"
        await ada.publish("fhq")  # not in the order of the sizes, which the SFU reads in the keyframes
        await until_frames(ada, {"audio encrypted", "video encrypted"})
        await bob.subscribe(ada)
        await bob.wait_for_height(HEIGHTS["f"])
        for substream, rid in ((0, "q"), (2, "f"), (1, "h")):
            await bob.select(ada, substream=substream)
            await bob.wait_for_height(HEIGHTS[rid])
        frames = await until_frames(bob, {"audio decrypted", "video decrypted"})
        assert frames.keys() == {"audio decrypted", "video decrypted"}
        await bob.page.evaluate("key => replaceKey(key)", OTHER_KEY)
        await bob.subscribe(ada)
        await until_frames(bob, {"audio refused", "video refused"})
        seen = await bob.page.evaluate("received()")
        assert seen["packets"] > 0
        assert seen["frames"] == 0
        assert await call.errors() == []
