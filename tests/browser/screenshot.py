"""Renew docs/call-page.png and docs/admin-page.png: ``python -m tests.browser.screenshot``."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from playwright.async_api import Browser, expect

from gateway.tools.demo import Demo
from tests.browser.admin_demo import AdminDemo, log_in, open_admin_page
from tests.browser.call_page import CallPage
from tests.browser.chromium import CAMERA_GRANTED, NO_CAMERA, chromium

DOCS = Path(__file__).resolve().parents[2] / "docs"
CHAT = (
    ("Grace", "Good morning! The agenda is at https://example.org/agenda."),
    ("Ada", "Thanks. I have two points on the codec."),
    ("Margaret", "I am muted; my neighbour drills."),
)
SIZE = {"width": 1200, "height": 720}
WAIT = 60_000.0  # milliseconds


async def renew() -> None:
    """Start a call of three pages and save a screenshot of one of them; then one of the admin page with two."""
    with tempfile.TemporaryDirectory() as folder:
        demo = AdminDemo(Path(folder) / "portunus.toml")
        await demo.start()
        try:
            async with chromium(NO_CAMERA, CAMERA_GRANTED) as browser:
                pages = await start_call(browser, demo)
                await show_call(pages)
                await pages["Margaret"].page.close()
                await show_administration(browser, demo)
        finally:
            await demo.stop()


async def start_call(browser: Browser, demo: Demo) -> dict[str, CallPage]:
    """Return the pages of a call by name; the first one receives the others."""
    pages = {name: await CallPage.open(browser, demo.url, viewport=SIZE) for name in ("Ada", "Grace", "Margaret")}
    for name, page in pages.items():
        await page.join(name, "planning")
    for name in ("Grace", "Margaret"):
        await pages["Ada"].until_advances(name, frames=40)
    return pages


async def show_call(pages: dict[str, CallPage]) -> None:
    """Save the picture of the call page."""
    ada = pages["Ada"]
    await pages["Margaret"].page.click("#mute")
    await ada.until_tile("Margaret", "microphone muted")
    await ada.until(
        "a word of quality on each tile",
        "[...document.querySelectorAll('.tile-quality')].every(one => one.textContent)",
    )
    await pages["Grace"].page.click("#hand")
    await ada.page.click("#show-chat")
    for name, text in CHAT:
        page = pages[name].page
        if not await page.is_visible("#chat-text"):
            await page.click("#show-chat")
        await page.fill("#chat-text", text)
        await page.press("#chat-text", "Enter")
        await ada.until(f"the message of {name}", f"document.getElementById('chat-log').textContent.includes({text!r})")
    await ada.page.locator("#room-title").focus()
    await ada.page.click(".notice-dismiss")
    await ada.until_tile("Grace", "speaking")
    await ada.page.screenshot(path=DOCS / "call-page.png")


async def show_administration(browser: Browser, demo: Demo) -> None:
    """Save the picture of the admin page."""
    problems: list[str] = []
    page = await open_admin_page(browser, demo, problems, viewport=SIZE)
    await log_in(page)
    await expect(page.locator("#totals")).to_contain_text("in calls2publications2subscriptions2", timeout=WAIT)
    await page.wait_for_function("/vp8\\s*[1-9]/.test(document.getElementById('streams').innerText)", timeout=WAIT)
    await page.screenshot(path=DOCS / "admin-page.png", full_page=True)
    assert problems == []


if __name__ == "__main__":
    asyncio.run(renew())
