"""The admin page in Chromium during a call: live figures, reasons, a timeline, the drain, refusals, doctor, a phone."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from gateway.tools.talk_client import RequestRefused, TalkClient
from tests.browser.admin_demo import AdminDemo, log_in, open_admin_page
from tests.browser.axe import violations
from tests.browser.call_page import CallPage

pytestmark = pytest.mark.full

WAIT = 60_000.0  # milliseconds; measured 2000 on an idle machine
PHONE = {"width": 390, "height": 844}
Row = dict[str, str]
ROWS = """(() => {
  const headings = [...document.querySelectorAll("#streams th")].map(cell => cell.textContent);
  const rows = [...document.querySelectorAll("#streams tbody tr")];
  return rows.map(row => Object.fromEntries([...row.cells].map((cell, index) => [headings[index], cell.textContent])));
})()"""
# Buttons that are too small for a finger (WCAG 2.2, 2.5.8).
SMALL_TARGETS = """[...document.querySelectorAll("button, input")]
  .filter(one => one.checkVisibility() && Math.min(one.offsetWidth, one.offsetHeight) < 24)
  .map(one => one.id || one.textContent)"""


@pytest.fixture
async def demo(tmp_path: Path) -> AsyncIterator[AdminDemo]:
    running = AdminDemo(tmp_path / "portunus.toml")
    await running.start()
    yield running
    await running.stop()


async def test_an_operator_sees_a_call_and_drains_the_gateway(
    browser: Browser, demo: AdminDemo, tmp_path: Path
) -> None:
    problems: list[str] = []
    ada, bob = await CallPage.open(browser, demo.url), await CallPage.open(browser, demo.url)
    await ada.join("Ada")
    await bob.join("Bob")
    await ada.until_advances("Bob")
    await bob.until_advances("Ada")
    page = await open_admin_page(browser, demo, problems)
    found = await violations(page)
    await log_in(page)
    await expect(page.locator("#state")).to_contain_text("ok", timeout=WAIT)
    await expect(page.locator("#totals")).to_have_text(
        "sessions2rooms1in calls2publications2subscriptions2", timeout=WAIT
    )
    await page.screenshot(path=tmp_path / "admin.png", full_page=True)
    found += await violations(page)
    await page.click("#rooms td button >> nth=0")
    await expect(page.locator("#details-body")).to_contain_text("Its camera may send up to", timeout=WAIT)
    found += await violations(page)
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
    found += await violations(page)
    await page.click("#drain-cancel")
    await expect(page.locator("#drain-state")).to_contain_text("Not draining", timeout=WAIT)
    await page.reload()
    await expect(page.locator("#overview")).to_be_visible(timeout=WAIT)
    await page.click("#log-out")
    await expect(page.locator("#login")).to_be_visible(timeout=WAIT)
    assert problems == []
    assert found == []


async def test_the_page_fits_a_phone_and_the_end_of_a_login_leads_back_to_the_form(
    browser: Browser, demo: AdminDemo
) -> None:
    problems: list[str] = []
    page = await open_admin_page(browser, demo, problems, viewport=PHONE, color_scheme="dark")
    await log_in(page, "a wrong secret")
    await expect(page.locator("#message")).to_have_text("The secret is wrong.", timeout=WAIT)
    found = await violations(page)
    problems.clear()  # the browser reports the status 403
    await log_in(page)
    await expect(page.locator("#overview")).to_be_visible(timeout=WAIT)
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    found += await violations(page)
    await page.context.clear_cookies()
    await expect(page.locator("#message")).to_have_text("The log-in has ended.", timeout=WAIT)
    await expect(page.locator("#login")).to_be_visible(timeout=WAIT)
    assert found == []


async def test_figures_of_a_call_change_live_on_a_phone_and_loss_is_shown(browser: Browser, demo: AdminDemo) -> None:
    problems: list[str] = []
    ada, bob = await CallPage.open(browser, demo.url), await CallPage.open(browser, demo.url)
    await ada.join("Ada")
    await bob.join("Bob")
    await ada.until_advances("Bob")
    await bob.until_advances("Ada")
    page = await open_admin_page(browser, demo, problems, viewport=PHONE, has_touch=True, is_mobile=True)
    await log_in(page)
    session = await bob.page.evaluate("portunus.call.others()[0].sessionId")
    for kind, codec in (("video", "vp8"), ("audio", "opus")):
        figures = await until_row(
            page, session[:8], kind, lambda row: int(row["In, kbit/s"]) > 0 < int(row["Out, kbit/s"])
        )
        assert (figures["Codec"], figures["Stream"], figures["Subscriptions"]) == (codec, "camera", "1")
    before = await until_row(page, session[:8], "video", lambda row: row["Lost packets"] == "0")
    demo.lose_packets_of(session, 0.2)
    lossy = await until_row(page, session[:8], "video", lambda row: int(row["Lost packets"]) > 0)
    assert lossy["In, kbit/s"] != before["In, kbit/s"]
    await assert_fits_the_phone(page)
    await page.tap("#rooms td button >> nth=0")
    await expect(page.locator("#details-body")).to_contain_text("Its camera may send up to", timeout=WAIT)
    await assert_fits_the_phone(page)
    await page.tap("#details form button")
    await bob.page.close()
    await expect(page.locator("#totals")).to_contain_text("in calls1publications1", timeout=WAIT)
    assert problems == []


async def test_refusals_are_told_in_words_and_the_doctor_examines_the_gateway(
    browser: Browser, demo: AdminDemo
) -> None:
    problems: list[str] = []
    page = await open_admin_page(browser, demo, problems)
    await log_in(page)
    await expect(page.locator("#refused")).to_have_text("Nothing was refused since the start.", timeout=WAIT)
    async with TalkClient(demo.url.rstrip("/"), "https://unknown.invalid/") as stranger:
        with pytest.raises(RequestRefused):
            await stranger.hello({"userid": "eve", "ticket": "forged"})
    await expect(page.locator("#refusals li")).to_contain_text("https://unknown.invalid/", timeout=WAIT)
    await expect(page.locator("#refused")).to_contain_text("Since the start: ", timeout=WAIT)
    await page.click("#doctor-run")
    await expect(page.locator("#doctor-state")).to_have_text("The doctor is at work …", timeout=WAIT)
    await expect(page.locator("#doctor-state")).to_have_text(re.compile(r"^No step of \d+ failed\.$"), timeout=WAIT)
    await expect(page.locator("#doctor-results .level[data-level=ok]").first).to_be_visible()
    await expect(page.locator("#doctor-results")).to_contain_text("configuration")
    assert await violations(page) == []
    assert problems == []


async def until_row(page: Page, session: str, kind: str, wanted: Callable[[Row], bool]) -> Row:
    """Return the row of a session's stream once it is as wanted: its figures by the heading of their column."""
    async with asyncio.timeout(WAIT / 1000):
        while True:
            rows: list[Row] = await page.evaluate(ROWS)
            found = [row for row in rows if (row["Session"], row["Media"]) == (session, kind)]
            if found and "–" not in found[0].values() and wanted(found[0]):
                return found[0]
            await asyncio.sleep(0.1)


async def assert_fits_the_phone(page: Page) -> None:
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    small = await page.evaluate(SMALL_TARGETS)
    assert small == []
