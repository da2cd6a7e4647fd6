"""The tiles of a call: their places, the speaker view, pin and full screen, and quality in words."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Browser

from gateway.tools.demo import Demo
from tests.browser.call_page import CallPage

pytestmark = pytest.mark.full

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True}
_NAMES = "[...document.querySelectorAll('.tile-name')].map(name => name.textContent)"
_SIZES = """Object.fromEntries([...document.querySelectorAll(".tile")].map(tile =>
  [tile.querySelector(".tile-name").textContent, tile.getBoundingClientRect().width]))"""


async def call_of(browser: Browser, demo: Demo, *names: str, **context: Any) -> list[CallPage]:
    """Open a page for each name, the first with the settings of a context, and join with generated pictures."""
    pages = [await CallPage.open(browser, demo.url, **(context if name == names[0] else {})) for name in names]
    for name, page in zip(names, pages, strict=True):
        await page.join(name, wanted="generated", **{"lobby-bitrate": "200000"})
    for page in pages:
        await page.until_state(f"in the call with {len(names) - 1} other")
    return pages


async def until_largest(page: CallPage, name: str) -> None:
    """Wait until the tile of a name is larger than each other one."""
    await page.until(f"{name} large", f"Object.entries({_SIZES}).sort((a, b) => b[1] - a[1])[0][0] === {name!r}")


async def test_places_views_pin_and_full_screen(browser: Browser, inprocess_demo: Demo) -> None:
    ada, bob, _ = await call_of(browser, inprocess_demo, "Ada", "Bob", "Cleo")
    await ada.until("three tiles", f"{_NAMES}.length === 3")
    order = await ada.page.evaluate(_NAMES)
    await bob.page.click("#leave")
    await ada.until_no_tile("Bob")
    await bob.page.click("#join")
    await ada.until_tile("Bob")
    assert await ada.page.evaluate(_NAMES) == order

    await ada.page.click("#change-layout")
    await ada.until(
        "the own tile is the smallest", f"Object.entries({_SIZES}).sort((a, b) => a[1] - b[1])[0][0] === 'Ada (you)'"
    )
    other = (
        "Cleo" if (await ada.page.locator(".tile.large").get_attribute("aria-label") or "").startswith("Bob") else "Bob"
    )
    pin = ada.page.locator(f"[aria-label='Pin {other}']")
    await pin.focus()
    await ada.page.keyboard.press("Enter")
    await until_largest(ada, other)
    assert await pin.get_attribute("aria-pressed") == "true"
    await ada.page.keyboard.press("Tab")  # to the button for full screen
    await ada.page.keyboard.press("Enter")
    await ada.until("full screen", "document.fullscreenElement?.classList.contains('large')")
    await ada.page.keyboard.press("Enter")
    await ada.until("no full screen", "!document.fullscreenElement")
    await ada.page.click("#change-layout")
    await until_largest(ada, other)  # pinned in the grid, too
    await pin.click()
    await ada.until("tiles of one size", f"new Set(Object.values({_SIZES}).map(Math.round)).size === 1")
    await ada.page.click("#change-layout")
    await ada.page.click("#leave")
    await ada.page.reload()
    await ada.join("Ada", wanted="generated")
    await ada.until("the kept speaker view", "document.querySelectorAll('.tile.large:not(.own)').length === 1")
    assert ada.problems + bob.problems == []


_JUDGE = """async () => {
  const {judgeReceived, judgeSent, steadied, videoLimit} = await import("/demo/quality.js");
  const size = {width: 640, height: 360};
  const video = {kind: "video", codec: "VP8", ...size, bitrate: 500, loss: 0, frameRate: 25, concealed: 0,
                 limitedBy: ""};
  const judge = (judgement, stream, path, more) => {
    const reading = {streams: [{...video, ...stream}], roundTrip: 20, available: 5000, ...path};
    const {level, reasons} = judgement(reading, {screen: false, camera: true, limit: null, ...more});
    return [level, ...reasons];
  };
  return {
    good: judge(judgeReceived, {}),
    unknown: judge(judgeReceived, {bitrate: null, loss: null, frameRate: null, concealed: null}),
    loss: judge(judgeReceived, {loss: 3}),
    heavyLoss: judge(judgeReceived, {loss: 9}),
    noPicture: judge(judgeReceived, {bitrate: 0}),
    delay: judge(judgeReceived, {}, {roundTrip: 500}),
    small: judge(judgeReceived, {height: 90}),
    stillScreen: judge(judgeReceived, {frameRate: 1}, {}, {screen: true}),
    policy: judge(judgeSent, {bitrate: 195, limitedBy: "bandwidth"}, {}, {limit: 200}),
    upload: judge(judgeSent, {bitrate: 150, limitedBy: "bandwidth"}, {available: 160}, {limit: 1000}),
    busy: judge(judgeSent, {limitedBy: "cpu"}),
    steady: steadied({level: "good", reasons: []}, {level: "poor", reasons: ["x"]}).level,
    limit: videoLimit(["m=audio 9", "b=AS:64", "m=video 9", "b=AS:200", "b=TIAS:200000"].join(String.fromCharCode(10))),
  };
}"""

_UNKNOWN_AGAIN = """async () => {
  const {QualityDetails} = await import("/demo/quality_details.js");
  const details = new QualityDetails();
  const quality = (level) => ({judgement: {level, reasons: []}, reading: {streams: [], roundTrip: null}, limit: null});
  const tile = {label: "Bob", own: false, tools: {quality: document.body}, quality: quality("fair")};
  const headings = [];
  details.open(tile);
  for (const level of ["", "good"]) {
    tile.quality = quality(level);
    details.update(tile);
    headings.push(document.getElementById("quality-title").textContent);
  }
  return headings;
}"""


async def test_open_figures_stay_until_the_quality_of_a_new_connection_is_known(
    browser: Browser, inprocess_demo: Demo
) -> None:
    page = await CallPage.open(browser, inprocess_demo.url)
    assert await page.page.evaluate(_UNKNOWN_AGAIN) == ["Fair quality: Bob", "Good quality: Bob"]


async def test_quality_is_a_word_with_its_reasons_and_the_figures_on_demand(
    browser: Browser, inprocess_demo: Demo
) -> None:
    ada, bob = await call_of(browser, inprocess_demo, "Ada", "Bob", **PHONE)
    assert await ada.page.evaluate(_JUDGE) == {
        "good": ["good"],
        "unknown": [""],
        "loss": ["fair", "3 % of the packets of the picture are lost on the way to you."],
        "heavyLoss": ["poor", "9 % of the packets of the picture are lost on the way to you."],
        "noPicture": ["poor", "No picture arrives."],
        "delay": ["fair", "Packets need 500 ms to the server and back."],
        "small": ["poor", "The picture is sent small: the sender's upload is slow, or a limit of the server is low."],
        "stillScreen": ["good"],
        "policy": ["fair", "The server allows 200 kbit/s for your picture."],
        "upload": ["fair", "Your upload is too slow for a better picture."],
        "busy": ["fair", "This device is too busy to send a better picture."],
        "steady": "good",
        "limit": 200,
    }
    await bob.until_advances("Ada")
    button = ada.page.locator("[aria-label*='quality of Bob:']")
    await ada.page.evaluate("for (const button of document.querySelectorAll('.notice-dismiss')) button.click()")
    await button.tap(timeout=60_000)
    await ada.until(
        "figures of a codec", "/(VP8|VP9|H264|AV1) · .* kbit/.test(document.querySelector('#quality').innerText)"
    )
    box, tile = await button.bounding_box(), await ada.page.locator(".tile:not(.own)").bounding_box()
    assert box is not None
    assert tile is not None
    assert box["width"] * box["height"] < 0.08 * tile["width"] * tile["height"]
    assert await ada.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await ada.page.keyboard.press("Escape")
    assert not await ada.page.locator("#quality").is_visible()
    await ada.page.locator("[aria-label*='quality of Ada (you):']").tap()
    await ada.until("the limit", "/the server allows 200 kbit/.test(document.querySelector('#quality').innerText)")
    assert ada.problems + bob.problems == []
