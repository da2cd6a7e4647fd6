"""Participation in a room: devices that the browser opens late, and a session that is lost again while rejoining."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser

from gateway.tools.demo import Demo
from tests.browser.call_page import CallPage, joining_page
from tests.browser.devices import GRANT, HOLD_REQUESTS

pytestmark = pytest.mark.full

_DEVICES_GIVEN = "granted.length > 0 && pending.length === 0"
_LIVE_TRACKS = "granted.filter(track => track.readyState === 'live').length"
_NOTHING_LIVE = f"{_DEVICES_GIVEN} && {_LIVE_TRACKS} === 0"


async def connected_page(browser: Browser, inprocess_demo: Demo, name: str) -> CallPage:
    """Open a page in the call whose media are connected."""
    page = await joining_page(browser, inprocess_demo.url, name)
    await page.until_state("Connected")
    return page


async def test_a_second_click_during_the_screen_dialog_shares_no_second_screen(
    browser: Browser, inprocess_demo: Demo
) -> None:
    ada = await connected_page(browser, inprocess_demo, "Ada")
    await ada.page.evaluate(HOLD_REQUESTS, "getDisplayMedia")
    for _ in range(2):
        await ada.page.click("#share")
    assert await ada.page.evaluate("pending.length") == 1
    await ada.page.evaluate(GRANT)
    await ada.until("a shared screen", "document.querySelectorAll('.tile.screen').length === 1")
    await ada.page.click("#share")
    assert await ada.page.evaluate(_LIVE_TRACKS) == 0
    await ada.page.click("#share")  # sharing again works
    await ada.page.evaluate(GRANT)
    await ada.until("a shared screen", "document.querySelectorAll('.tile.screen').length === 1")


@pytest.mark.parametrize("button", ["share", "camera"])
async def test_devices_granted_after_leaving_are_closed(browser: Browser, inprocess_demo: Demo, button: str) -> None:
    ada = await connected_page(browser, inprocess_demo, "Ada")
    if button == "camera":
        await ada.page.click("#camera")  # off
    await ada.page.evaluate(HOLD_REQUESTS, "getDisplayMedia" if button == "share" else "getUserMedia")
    await ada.page.click(f"#{button}")
    await ada.page.click("#leave")
    await ada.page.evaluate(GRANT)
    await ada.until("captures that ended", _NOTHING_LIVE)
    assert await ada.page.locator(".tile").count() == 0
    assert await ada.state() == "Not connected"
    assert ada.problems == []


async def test_leaving_during_the_device_dialog_does_not_join(browser: Browser, inprocess_demo: Demo) -> None:
    ada = await CallPage.open(browser, inprocess_demo.url)
    await ada.page.evaluate(HOLD_REQUESTS, "getUserMedia")
    await ada.join("Ada")
    await ada.page.evaluate("dispatchEvent(new Event('pagehide'))")  # the browser may bring the page back
    bob = await connected_page(browser, inprocess_demo, "Bob")
    await ada.page.evaluate(GRANT)
    await ada.until("devices that were released", _NOTHING_LIVE)
    await ada.page.click("#join")
    await ada.page.evaluate(GRANT)
    await ada.until_state("in the call with 1 other")
    await bob.until_state("in the call with 1 other")
    assert ada.problems == []


_REJOINS = """() => {
  const { call } = portunus;
  const [renew, fetch] = [call.renew.bind(call), globalThis.fetch];
  globalThis.renewed = 0;
  call.renew = () => { renewed += 1; renew(); };
  globalThis.refusals = 1;
  globalThis.fetch = (...args) => (refusals-- > 0 ? Promise.reject(new Error("not now")) : fetch(...args));
}"""
_LOSE_SESSION = "() => portunus.signaling.dispatchEvent(new CustomEvent('session', {detail: {resumed: false}}))"


async def test_a_session_lost_again_while_rejoining_joins_once(browser: Browser, inprocess_demo: Demo) -> None:
    ada = await connected_page(browser, inprocess_demo, "Ada")
    await ada.page.evaluate(_REJOINS)
    await ada.page.evaluate(_LOSE_SESSION)
    await ada.until_notice("not now")  # tried again in 2 s
    await ada.page.evaluate(f"{{ ({_LOSE_SESSION})(); ({_LOSE_SESSION})(); }}")
    await ada.until("the call joined anew", "renewed > 0")
    await ada.page.wait_for_timeout(2500)  # past the second attempt of the first
    assert await ada.page.evaluate("renewed") == 1
    await ada.until_state("Connected")
    assert ada.problems == []


_CALL_REFUSED_ONCE = """() => {
  const fetch = globalThis.fetch;
  let refusals = 1;
  globalThis.fetch = (url, ...args) =>
    url.endsWith("/call") && refusals-- > 0 ? Promise.reject(new Error("not now")) : fetch(url, ...args);
}"""


async def test_entering_the_call_at_the_second_attempt_shows_the_others(browser: Browser, inprocess_demo: Demo) -> None:
    ada, bob = (
        await connected_page(browser, inprocess_demo, "Ada"),
        await connected_page(browser, inprocess_demo, "Bob"),
    )
    await bob.until_advances("Ada")
    await ada.page.evaluate(_CALL_REFUSED_ONCE)
    await inprocess_demo.stop_gateway()
    await ada.until_notice("The gateway cannot be reached")
    await inprocess_demo.start_gateway()
    for page, other in ((ada, "Bob"), (bob, "Ada")):
        await page.until_state("in the call with 1 other")
        await page.until_advances(other)
    assert "not now" in "".join(await ada.shown_texts())
