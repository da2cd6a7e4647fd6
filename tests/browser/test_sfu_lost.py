"""A call in the browser with an SFU that is killed, drained or stopped: the tiles recover without a reload."""

from __future__ import annotations

import asyncio

import pytest
from playwright.async_api import Browser

from tests.browser.call_page import CallPage, joining_page
from tests.browser.conftest import demo_with, janus
from tests.janus_process import JanusProcess

pytestmark = pytest.mark.full

# Records the ``republish`` messages; a reload would clear the record.
_RECORD = """globalThis.asked = [];
  portunus.signaling.addEventListener("message", ({detail}) => {
    if (detail.type === "republish") asked.push(detail.republish.roomType + " " + detail.republish.reason);
  })"""


async def two_pages(browser: Browser, url: str) -> tuple[CallPage, CallPage]:
    """Open two pages that receive each other; the first one also shares its screen."""
    ada, bob = await joining_page(browser, url, "Ada"), await joining_page(browser, url, "Bob")
    await ada.until_advances("Bob")
    await bob.until_advances("Ada")
    await ada.page.click("#share")
    await bob.until_advances("Ada's screen")
    for page in (ada, bob):
        await page.page.evaluate(_RECORD)
    return ada, bob


@pytest.mark.parametrize("away", [0.0, 4.0])
async def test_tiles_recover_from_a_killed_janus_without_a_reload(browser: Browser, away: float) -> None:
    async with JanusProcess() as process, demo_with(janus(process)) as demo:
        ada, bob = await two_pages(browser, demo.url)
        sessions = [await ada.session_id(), await bob.session_id()]
        await process.kill()
        await asyncio.sleep(away)
        await process.start()
        for page, *asked in ((ada, "video lost", "screen lost"), (bob, "video lost")):
            await page.until(f"asked for {asked}", f"asked.toSorted().join() === {','.join(sorted(asked))!r}")
        await ada.until_advances("Bob")
        await bob.until_advances("Ada")
        await bob.until_advances("Ada's screen")
        assert [await ada.session_id(), await bob.session_id()] == sessions
        for page in (ada, bob):
            await page.until_state("in the call with 1 other")
            assert await page.notices() == ""


@pytest.mark.parametrize("seconds", [3.0, 12.0])
async def test_tiles_recover_from_a_stopped_janus(browser: Browser, seconds: float) -> None:
    async with JanusProcess() as process, demo_with(janus(process)) as demo:
        ada, bob = await two_pages(browser, demo.url)
        sessions = [await ada.session_id(), await bob.session_id()]
        process.freeze()
        await asyncio.sleep(seconds)
        process.thaw()
        await ada.until_advances("Bob")
        await bob.until_advances("Ada")
        await bob.until_advances("Ada's screen")
        assert [await ada.session_id(), await bob.session_id()] == sessions
        assert await ada.page.evaluate("Array.isArray(asked)")  # the page was not reloaded
