"""Simulcast layers of Firefox, whose offer names the SSRCs beside the RIDs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from mcu.base import MediaSelection, PublishOptions, SubscribeOptions
from mcu.inprocess import InprocessSettings
from mcu.inprocess.backend import InprocessMcu
from tests.browser.firefox import Firefox, firefox
from tests.mcu.contract.clients import MediaClient
from tests.mcu.descriptions import parse_frozen
from tests.mcu.inprocess.tabs import KEY, PAGE, WAIT
from tests.mcu.inprocess.test_simulcast_chromium import LAYERS
from tests.media import SubscribingPeer

WIDTHS = [160, 320, 640]
NO_TRICKLE = "function sendCandidate() {}"  # the descriptions include the candidates
ALL_GATHERED = """.then(() => new Promise((done) => {
  const check = () => pc.iceGatheringState === "complete" && done(pc.localDescription.sdp);
  pc.onicegatheringstatechange = check;
  check();
}))"""


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """Serve the page and yield its URL."""
    html = PAGE.read_text().replace('"use strict";', f'"use strict"; {NO_TRICKLE}', 1)

    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=html, content_type="text/html")

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    await runner.cleanup()


async def wait_for_width(browser: Firefox, tab: str, width: int) -> None:
    """Wait until pictures of that width are decoded."""
    async with asyncio.timeout(WAIT):
        while (await browser.evaluate(tab, "received()"))["width"] != width:  # noqa: ASYNC110  the page has no event for it
            await asyncio.sleep(0.1)


@pytest.mark.full
async def test_layers_of_firefox_are_switched_up_and_down(url: str) -> None:
    mcu = InprocessMcu(InprocessSettings(address="127.0.0.1"))
    await mcu.start(lambda status: None)
    listener = MediaClient(SubscribingPeer())
    async with firefox() as browser:
        alice, carol = await browser.open(url), await browser.open(url)
        sdp = await browser.evaluate(alice, f"publish({{video: true}}, {json.dumps(LAYERS)}){ALL_GATHERED}")
        _, answer = await mcu.publish(KEY, parse_frozen(sdp), PublishOptions(), listener)
        await browser.evaluate(alice, f"accept({json.dumps(str(answer))})")
        subscriber, offer = await mcu.subscribe(KEY, SubscribeOptions(), listener)
        sdp = await browser.evaluate(carol, f"subscribe({json.dumps(str(offer))}){ALL_GATHERED}")
        await subscriber.accept(parse_frozen(sdp))
        for substream in (2, 0, 1, 2):
            await subscriber.select(MediaSelection(substream=substream))
            await wait_for_width(browser, carol, WIDTHS[substream])
    await listener.leave()
    await mcu.stop()
