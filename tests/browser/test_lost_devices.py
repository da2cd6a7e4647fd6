"""Devices that are lost, switched off and opened again while the browser's dialog for a device is open."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser

from gateway.tools.demo import Demo
from tests.browser.call_page import CallPage, joining_page
from tests.browser.devices import GRANT, HOLD_REQUESTS, LOSE_TRACK

pytestmark = pytest.mark.full

OWN = "Ada (you)"


async def page_that_lost(*kinds: str, browser: Browser, demo: Demo) -> CallPage:
    """Open a page in the call that has lost devices; from then on requests for devices are held."""
    ada = await joining_page(browser, demo.url, "Ada")
    await ada.until_state("Connected")
    await ada.until_tile(OWN, "microphone on", "camera on")
    await ada.page.evaluate(HOLD_REQUESTS, "getUserMedia")
    for kind in kinds:
        await ada.page.evaluate(LOSE_TRACK, kind)
    return ada


async def try_again(page: CallPage) -> None:
    """Press the button of the notice, and wait until devices are requested."""
    await page.page.click("text=Try again")
    await page.until("a request for devices", "pending.length === 1")


async def test_a_camera_lost_during_the_request_for_the_microphone_is_shown_as_off(
    browser: Browser, inprocess_demo: Demo
) -> None:
    ada = await page_that_lost("audio", browser=browser, demo=inprocess_demo)
    await try_again(ada)
    await ada.until_tile(OWN, "microphone muted", "camera on")
    await ada.page.evaluate(LOSE_TRACK, "video")
    await ada.until_tile(OWN, "microphone muted", "camera off")
    await ada.page.evaluate(GRANT)
    await ada.until_tile(OWN, "microphone on", "camera off")
    await ada.until_notice("The camera was unplugged")
    await try_again(ada)
    await ada.page.evaluate(GRANT)
    await ada.until_tile(OWN, "microphone on", "camera on")
    await ada.until_no_notice("unplugged")
    assert ada.problems == []


async def test_a_microphone_lost_during_the_request_for_the_camera_is_shown_as_off(
    browser: Browser, inprocess_demo: Demo
) -> None:
    ada = await page_that_lost("video", browser=browser, demo=inprocess_demo)
    await try_again(ada)
    await ada.page.evaluate(LOSE_TRACK, "audio")
    await ada.until_tile(OWN, "microphone muted", "camera off")
    await ada.page.click("#mute")
    await ada.until_notice("The others neither see nor hear you")
    await ada.page.evaluate(GRANT)
    await ada.until_tile(OWN, "microphone muted", "camera on")
    await ada.until_notice("No microphone was found")
    assert ada.problems == []


async def test_trying_again_switches_on_nothing_that_the_user_has_switched_off(
    browser: Browser, inprocess_demo: Demo
) -> None:
    ada = await page_that_lost(browser=browser, demo=inprocess_demo)
    await ada.page.click("#mute")
    await ada.page.evaluate(LOSE_TRACK, "audio")
    await try_again(ada)
    await ada.page.click("#camera")  # switched off during the dialog for the microphone
    await ada.until_tile(OWN, "microphone muted", "camera off")
    await ada.page.evaluate(GRANT)
    await ada.until_no_notice("unplugged")
    await ada.until("a microphone", "granted.length === 1 && granted[0].kind === 'audio' && !granted[0].enabled")
    await ada.until_tile(OWN, "microphone muted", "camera off")
    await ada.page.click("#mute")
    await ada.until_tile(OWN, "microphone on", "camera off")
    assert ada.problems == []


async def test_a_generated_picture_switched_off_during_the_request_for_a_camera_stays_off(
    browser: Browser, inprocess_demo: Demo
) -> None:
    ada = await page_that_lost("audio", "video", browser=browser, demo=inprocess_demo)
    await ada.page.evaluate("refusal = 'NotFoundError'")
    await ada.page.click("text=Try again")
    await ada.until_notice("No camera or microphone was found")
    await ada.until_tile(OWN, "microphone muted", "camera on")  # a generated picture
    await ada.page.evaluate("refusal = ''")
    await try_again(ada)
    await ada.page.click("#camera")
    await ada.page.evaluate(GRANT)
    await ada.until_tile(OWN, "microphone on", "camera off")
    await ada.until("a stopped camera", "granted.some(one => one.kind === 'video' && one.readyState === 'ended')")
    assert ada.problems == []


async def test_a_device_lost_before_the_page_gets_its_track_is_shown_as_off(
    browser: Browser, inprocess_demo: Demo
) -> None:
    ada = await page_that_lost("video", browser=browser, demo=inprocess_demo)
    await try_again(ada)
    await ada.page.evaluate("endGranted = true")
    await ada.page.evaluate(GRANT)
    await ada.until("an ended track", "granted.length === 1 && granted[0].readyState === 'ended'")
    await ada.until_notice("The camera was unplugged")
    await ada.until_tile(OWN, "microphone on", "camera off")
    assert ada.problems == []
