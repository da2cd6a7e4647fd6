"""Participation in a room: devices that the browser opens late, and a session that is lost again while rejoining."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser

from gateway.tools.demo import Demo
from tests.browser.call_page import CallPage
from tests.browser.conftest import inprocess

pytestmark = pytest.mark.full

# Holds requests for devices in ``asked`` until they are granted, and keeps the granted tracks in ``given``.
_GATE = """method => {
  const media = navigator.mediaDevices;
  const real = media[method].bind(media);
  globalThis.asked = [];
  globalThis.given = [];
  media[method] = async (...wish) => {
    await new Promise(grant => asked.push(grant));
    const stream = await real(...wish);
    given.push(...stream.getTracks());
    return stream;
  };
}"""
_GRANT = "for (const grant of asked.splice(0)) grant()"
_DEVICES_GIVEN = "given.length > 0 && asked.length === 0"
_LIVE_TRACKS = "given.filter(track => track.readyState === 'live').length"
_NOTHING_LIVE = f"{_DEVICES_GIVEN} && {_LIVE_TRACKS} === 0"


@pytest.fixture
async def demo() -> AsyncIterator[Demo]:
    """A demo gateway with the in-process SFU."""
    running = Demo("127.0.0.1", 0, inprocess())
    await running.start()
    yield running
    await running.stop()


async def joined_page(browser: Browser, demo: Demo, name: str, **choices: str) -> CallPage:
    page = await CallPage.open(browser, demo.url)
    await page.join(name, **choices)
    await page.until_state("Connected")
    return page


async def test_a_second_click_during_the_screen_dialog_shares_no_second_screen(browser: Browser, demo: Demo) -> None:
    ada = await joined_page(browser, demo, "Ada")
    await ada.page.evaluate(_GATE, "getDisplayMedia")
    for _ in range(2):
        await ada.page.click("#share")
    assert await ada.page.evaluate("asked.length") == 1
    await ada.page.evaluate(_GRANT)
    await ada.until("a shared screen", "document.querySelectorAll('.tile.screen').length === 1")
    await ada.page.click("#share")
    assert await ada.page.evaluate(_LIVE_TRACKS) == 0
    await ada.page.click("#share")  # sharing again works
    await ada.page.evaluate(_GRANT)
    await ada.until("a shared screen", "document.querySelectorAll('.tile.screen').length === 1")


@pytest.mark.parametrize("button", ["share", "camera"])
async def test_devices_granted_after_leaving_are_closed(browser: Browser, demo: Demo, button: str) -> None:
    ada = await joined_page(browser, demo, "Ada")
    if button == "camera":
        await ada.page.click("#camera")  # off
    await ada.page.evaluate(_GATE, "getDisplayMedia" if button == "share" else "getUserMedia")
    await ada.page.click(f"#{button}")
    await ada.page.click("#leave")
    await ada.page.evaluate(_GRANT)
    await ada.until("captures that ended", _NOTHING_LIVE)
    assert await ada.page.locator(".tile").count() == 0
    assert await ada.state() == "Not connected"
    assert ada.problems == []


async def test_leaving_during_the_device_dialog_does_not_join(browser: Browser, demo: Demo) -> None:
    ada = await CallPage.open(browser, demo.url)
    await ada.page.evaluate(_GATE, "getUserMedia")
    await ada.join("Ada")
    await ada.page.evaluate("dispatchEvent(new Event('pagehide'))")  # the browser may bring the page back
    bob = await joined_page(browser, demo, "Bob")
    await ada.page.evaluate(_GRANT)
    await ada.until("devices that were let go", _NOTHING_LIVE)
    await ada.page.click("#join")
    await ada.page.evaluate(_GRANT)
    await ada.until_state("in the call with 1 other")
    await bob.until_state("in the call with 1 other")
    assert ada.problems == []


_REJOINS = """() => {
  const { call } = portunus;
  const [renew, fetch] = [call.renew.bind(call), globalThis.fetch];
  globalThis.renewed = 0;
  call.renew = () => { renewed += 1; renew(); };
  globalThis.refusals = 1;
  globalThis.fetch = (...wish) => (refusals-- > 0 ? Promise.reject(new Error("not now")) : fetch(...wish));
}"""
_LOSE_SESSION = "() => portunus.signaling.dispatchEvent(new CustomEvent('session', {detail: {resumed: false}}))"


async def test_a_session_lost_again_while_rejoining_joins_once(browser: Browser, demo: Demo) -> None:
    ada = await joined_page(browser, demo, "Ada")
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
  globalThis.fetch = (url, ...wish) =>
    url.endsWith("/call") && refusals-- > 0 ? Promise.reject(new Error("not now")) : fetch(url, ...wish);
}"""


async def test_entering_the_call_at_the_second_attempt_shows_the_others(browser: Browser, demo: Demo) -> None:
    ada, bob = await joined_page(browser, demo, "Ada"), await joined_page(browser, demo, "Bob")
    await bob.until_advances("Ada")
    await ada.page.evaluate(_CALL_REFUSED_ONCE)
    await demo.stop_gateway()
    await ada.until_notice("The gateway cannot be reached")
    await demo.start_gateway()
    for page, other in ((ada, "Bob"), (bob, "Ada")):
        await page.until_state("in the call with 1 other")
        await page.until_advances(other)
    assert "not now" in "".join(await ada.shown_texts())
