"""The admin page in Chromium during a call: figures, reasons, a timeline, the drain, and its width on a phone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from playwright.async_api import Browser, Page, expect

from gateway.config import AdminSection, Config, McuSection
from gateway.tools.demo import Demo
from tests.browser.call_page import CallPage
from tests.browser.conftest import inprocess

pytestmark = pytest.mark.full

SECRET = "5a0f1d7c3b9e8642"
WAIT = 60_000.0  # milliseconds; measured 2000 on an idle machine
PHONE = {"width": 390, "height": 844}


class DemoWithAdminPage(Demo):
    """A demo gateway whose configuration has a secret for the admin page."""

    def __init__(self, mcu: McuSection) -> None:
        super().__init__("127.0.0.1", 0, mcu)

    def _config(self, files: tuple[Path, Path] | None = None) -> Config:
        return replace(super()._config(files), admin=AdminSection(secret=SECRET))


@pytest.fixture
async def demo() -> AsyncIterator[Demo]:
    running = DemoWithAdminPage(inprocess())
    await running.start()
    yield running
    await running.stop()


async def open_page(browser: Browser, demo: Demo, problems: list[str], **context: object) -> Page:
    """Open the page in a context of its own; ``problems`` gets the errors and warnings of its console."""
    page = await (await browser.new_context(**context)).new_page()  # type: ignore[arg-type]
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
    await page.goto(f"{demo.url}admin/")
    return page


async def log_in(page: Page, secret: str = SECRET) -> None:
    await page.fill("#secret", secret)
    await page.click("#login-form button")


async def test_an_operator_sees_a_call_and_drains_the_gateway(browser: Browser, demo: Demo, tmp_path: Path) -> None:
    problems: list[str] = []
    ada, bob = await CallPage.open(browser, demo.url), await CallPage.open(browser, demo.url)
    await ada.join("Ada")
    await bob.join("Bob")
    await ada.until_advances("Bob")
    await bob.until_advances("Ada")
    page = await open_page(browser, demo, problems)
    await log_in(page)
    await expect(page.locator("#state")).to_contain_text("ok", timeout=WAIT)
    await expect(page.locator("#totals")).to_have_text(
        "sessions2rooms1in calls2publications2subscriptions2", timeout=WAIT
    )
    await page.screenshot(path=tmp_path / "admin.png", full_page=True)
    await page.click("#rooms td button >> nth=0")
    await expect(page.locator("#details-body")).to_contain_text("Its camera may send up to", timeout=WAIT)
    await page.click("#details button")
    await page.click("text=timeline")
    await expect(page.locator("#details-body")).to_contain_text("joined", timeout=WAIT)
    async with page.expect_download() as download:
        await page.click("#details-save")
    saved = await (await download.value).path()
    timeline = json.loads(await asyncio.to_thread(saved.read_text))
    assert {event["step"] for event in timeline["events"]} >= {"joined", "published", "subscribed"}
    await page.click("#details button")
    page.once("dialog", lambda dialog: dialog.accept())
    await page.fill("#drain-deadline", "600")
    await page.click("#drain-begin")
    await expect(page.locator("#drain-state")).to_contain_text("Draining: 2 sessions are in calls", timeout=WAIT)
    await page.click("#drain-cancel")
    await expect(page.locator("#drain-state")).to_contain_text("Not draining", timeout=WAIT)
    await page.reload()
    await expect(page.locator("#overview")).to_be_visible(timeout=WAIT)
    await page.click("#log-out")
    await expect(page.locator("#login")).to_be_visible(timeout=WAIT)
    assert problems == []


async def test_the_page_fits_a_phone_and_the_end_of_a_login_leads_back_to_the_form(
    browser: Browser, demo: Demo
) -> None:
    problems: list[str] = []
    page = await open_page(browser, demo, problems, viewport=PHONE)
    await log_in(page, "a wrong secret")
    await expect(page.locator("#message")).to_have_text("The secret is wrong.", timeout=WAIT)
    problems.clear()  # the browser reports the status 403
    await log_in(page)
    await expect(page.locator("#overview")).to_be_visible(timeout=WAIT)
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await page.context.clear_cookies()
    await expect(page.locator("#message")).to_have_text("The log-in has ended.", timeout=WAIT)
    await expect(page.locator("#login")).to_be_visible(timeout=WAIT)
