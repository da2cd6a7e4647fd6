"""The order of simulcast layers by size, whatever their names and places: Chromium through each SFU.

With Janus the sizes show in the bytes of each layer, from its Admin API or its events.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from gateway.config import GeoIpSection, McuSection
from mcu.janus.settings import JanusServerSettings
from tests.browser.conftest import inprocess
from tests.browser.test_simulcast import ALL_TEMPORAL_LAYERS, HEIGHTS, TwoPageCall, two_page_call
from tests.janus_process import ADMIN_KEY, ADMIN_SECRET, API_SECRET, JanusProcess

pytestmark = [pytest.mark.full, pytest.mark.timeout(300)]


@pytest.fixture(params=["inprocess", "janus with admin api", "janus with events"])
async def call(request: pytest.FixtureRequest) -> AsyncIterator[TwoPageCall]:
    """Yield a call over each SFU that can measure the layers."""
    async with AsyncExitStack() as stack:
        if request.param == "inprocess":
            yield await stack.enter_async_context(two_page_call(inprocess()))
            return
        janus = JanusProcess()
        settings = JanusServerSettings(janus.url, api_secret=API_SECRET, admin_key=ADMIN_KEY)
        if request.param == "janus with admin api":
            settings = JanusServerSettings(
                janus.url,
                api_secret=API_SECRET,
                admin_key=ADMIN_KEY,
                admin_url=janus.admin_url,
                admin_secret=ADMIN_SECRET,
            )
        call = await stack.enter_async_context(two_page_call(McuSection("janus", settings=(settings,)), GeoIpSection()))
        if request.param == "janus with events":
            janus.values["EVENTS_URL"] = call.gateway.url.replace("http", "ws", 1) + "/spreed"
        await stack.enter_async_context(janus)
        yield call


async def test_substream_2_is_the_largest_picture_whatever_the_layers_are_called(call: TwoPageCall) -> None:
    ada, bob = call.ada, call.bob
    await ada.publish("qhf", ("r0", "r1", "r2"))  # as webrtc-pc scales by default
    await bob.subscribe(ada)
    await bob.wait_for_height(HEIGHTS["f"])
    await bob.select(ada, substream=0)
    await bob.wait_for_height(HEIGHTS["q"])
    await ada.publish("qhf", ("h", "m", "l"))  # names that lie
    await bob.wait_for_height(HEIGHTS["q"], connections=2)
    for substream, size in ((2, "f"), (1, "h")):
        await bob.select(ada, substream=substream)
        await bob.wait_for_height(HEIGHTS[size])
    await ada.publish("fqh", ("r0", "r1", "r2"))  # places that mislead
    await bob.wait_for_height(HEIGHTS["h"], connections=3)
    for substream, size in ((0, "q"), (2, "f")):
        await bob.select(ada, substream=substream)
        await bob.wait_for_height(HEIGHTS[size])
    assert await call.errors() == []


async def test_an_old_janus_gets_the_largest_layer_only_of_a_codec_whose_layers_it_would_mix() -> None:
    async with AsyncExitStack() as stack:
        janus = await stack.enter_async_context(JanusProcess())
        settings = JanusServerSettings(janus.url, api_secret=API_SECRET, admin_key=ADMIN_KEY)
        call = await stack.enter_async_context(two_page_call(McuSection("janus", settings=(settings,)), GeoIpSection()))
        ada, bob = call.ada, call.bob
        await ada.publish("fqh", codec="av1", accepted="f")
        await bob.subscribe(ada, {"substream": 0})
        await bob.wait_for_height(HEIGHTS["f"])
        await bob.wait_for_share(ALL_TEMPORAL_LAYERS, ada, "f")
        assert await call.errors() == []
