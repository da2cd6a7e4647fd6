"""Simulcast through a second Janus: a Chromium page sends three layers to one, another page selects on the other."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import msgspec
import pytest

from gateway.config import GeoIpSection, McuSection
from mcu.janus.settings import JanusServerSettings
from tests.browser.test_simulcast import ALL_TEMPORAL_LAYERS, BASE_TEMPORAL_LAYER, HEIGHTS, WAIT, two_page_call
from tests.janus_process import ADMIN_KEY, API_SECRET, JanusProcess

pytestmark = [pytest.mark.full, pytest.mark.timeout(300)]


async def test_a_subscriber_selects_layers_of_a_stream_from_another_janus() -> None:
    async with AsyncExitStack() as stack:
        janus = [await stack.enter_async_context(JanusProcess()) for _ in range(2)]
        far, near = (
            JanusServerSettings(one.url, api_secret=API_SECRET, admin_key=ADMIN_KEY, remote_streams=True)
            for one in janus
        )
        near = msgspec.structs.replace(near, country="DE", draining=True)
        geoip = GeoIpSection(overrides={"127.0.0.1": "DE"})
        call = await stack.enter_async_context(two_page_call(McuSection("janus", settings=(far, near)), geoip))
        ada, bob = call.ada, call.bob
        await ada.publish("qhf")
        near = msgspec.structs.replace(near, draining=False)
        await call.gateway.gateway.reload(
            msgspec.structs.replace(call.gateway.config, mcu=McuSection("janus", settings=(far, near)))
        )
        async with asyncio.timeout(WAIT):
            while not await janus[1].handles():  # noqa: ASYNC110 - Janus can only be polled
                await asyncio.sleep(0.05)
        await bob.subscribe(ada)
        await bob.wait_for_height(HEIGHTS["f"])
        assert [len(await one.rooms()) for one in janus] == [1, 1]
        assert [len(await one.handles()) for one in janus] == [2, 2]
        for substream, name in ((0, "q"), (2, "f"), (1, "h")):
            await bob.select(ada, substream=substream)
            await bob.wait_for_height(HEIGHTS[name])
        await bob.wait_for_share(ALL_TEMPORAL_LAYERS, ada, "h")
        await bob.select(ada, temporal=0)
        await bob.wait_for_share(BASE_TEMPORAL_LAYER, ada, "h")
