"""Renew docs/call-page.png: ``python -m tests.browser.screenshot``."""

from __future__ import annotations

import asyncio
from pathlib import Path

from gateway.tools.demo import Demo
from tests.browser.call_page import CallPage
from tests.browser.chromium import CAMERA_GRANTED, NO_CAMERA, chromium
from tests.browser.conftest import inprocess

TARGET = Path(__file__).resolve().parents[2] / "docs" / "call-page.png"
SIZE = {"width": 1200, "height": 720}


async def renew() -> None:
    """Start a call of three pages and save a screenshot."""
    demo = Demo("127.0.0.1", 0, inprocess())
    await demo.start()
    async with chromium(NO_CAMERA, CAMERA_GRANTED) as browser:
        pages = {name: await CallPage.open(browser, demo.url, viewport=SIZE) for name in ("Ada", "Grace", "Margaret")}
        for name, page in pages.items():
            await page.join(name, "planning")
        ada = pages["Ada"]
        for name in ("Grace", "Margaret"):
            await ada.until_advances(name, frames=40)
        await pages["Margaret"].page.click("#mute")
        await ada.until_tile("Margaret", "microphone muted")
        await ada.until(
            "a word of quality on each tile",
            "[...document.querySelectorAll('.tile-quality')].every(one => one.textContent)",
        )
        await ada.page.click(".notice-dismiss")
        await ada.until_tile("Grace", "speaking")
        await ada.page.screenshot(path=TARGET)
    await demo.stop()


if __name__ == "__main__":
    asyncio.run(renew())
