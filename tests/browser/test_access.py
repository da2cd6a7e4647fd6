"""Accessibility of the demo page (keyboard, screen reader, small screen, contrast); its isolation from other hosts."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest
from playwright.async_api import Browser

from gateway.tools.demo import Demo
from tests.browser.call_page import OPEN_SOCKET, CallPage

pytestmark = pytest.mark.full

SMALL_SCREEN = {"viewport": {"width": 360, "height": 640}}


async def focused_element(page: CallPage) -> tuple[str, str, str]:
    """Return id, role and accessible name of the focused element."""
    devtools = await page.page.context.new_cdp_session(page.page)
    evaluated = await devtools.send("Runtime.evaluate", {"expression": "document.activeElement"})
    query = {"objectId": evaluated["result"]["objectId"], "fetchRelatives": False}
    node: dict[str, Any] = (await devtools.send("Accessibility.getPartialAXTree", query))["nodes"][0]
    id = await page.page.evaluate("document.activeElement.id")
    await devtools.detach()
    return str(id), str(node["role"]["value"]), str(node.get("name", {}).get("value", ""))


async def tab_to(page: CallPage, id: str) -> None:
    """Press Tab until the element ``id`` has the focus; assert a name and an outline of each element on the way."""
    for _ in range(30):
        await page.page.keyboard.press("Tab")
        focused, role, name = await focused_element(page)
        if await page.page.evaluate("document.activeElement === document.body"):
            continue  # after the last control Tab leaves the page once
        assert name, f"{role} {focused!r} has no name"
        outline = "getComputedStyle(document.activeElement).outlineStyle"
        assert await page.page.evaluate(outline) != "none", f"the focus on {name!r} cannot be seen"
        if focused == id:
            return
    raise AssertionError(f"Tab does not reach {id!r}")


async def test_the_page_can_be_used_with_the_keyboard_only(browser: Browser, inprocess_demo: Demo) -> None:
    bob = await CallPage.open(browser, inprocess_demo.url)
    await bob.join("Bob")
    ada = await CallPage.open(browser, inprocess_demo.url)
    keyboard = ada.page.keyboard
    assert (await focused_element(ada))[0] == "name"
    await keyboard.type("Ada")
    await tab_to(ada, "room")
    await keyboard.type("kitchen")
    for id in ("wanted", "join"):
        await tab_to(ada, id)
    await keyboard.press("Enter")
    await ada.until_state("in the call with 1 other")
    await tab_to(ada, "mute")
    await keyboard.press("Space")
    await bob.until_tile("Ada", "microphone muted")
    await tab_to(ada, "camera")
    await keyboard.press("Space")
    await bob.until_tile("Ada", "camera off")
    await tab_to(ada, "share")
    await keyboard.press("Enter")
    await bob.until_advances("Ada's screen")
    await tab_to(ada, "show-people")
    await keyboard.press("Enter")
    assert await ada.page.get_attribute("#show-people", "aria-expanded") == "false"
    await tab_to(ada, "show-settings")
    await keyboard.press("Enter")
    await tab_to(ada, "call-bitrate")
    await keyboard.press("Escape")
    assert (await focused_element(ada))[0] == "show-settings"
    await tab_to(ada, "leave")
    await keyboard.press("Enter")
    await bob.until_no_tile("Ada")


async def test_state_and_notices_are_announced_to_screen_readers(browser: Browser, inprocess_demo: Demo) -> None:
    ada = await CallPage.open(browser, inprocess_demo.url)
    await ada.join("Ada", wanted="listen")
    await ada.until_notice("listener")
    assert await ada.page.get_attribute("#state", "role") == "status"
    assert await ada.page.get_attribute(".notice", "role") == "alert"


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_nothing_is_wider_than_a_small_screen(browser: Browser, inprocess_demo: Demo, scheme: str) -> None:
    async def fits(page: CallPage) -> bool:
        return bool(await page.page.evaluate("document.documentElement.scrollWidth <= innerWidth"))

    ada = await CallPage.open(browser, inprocess_demo.url, color_scheme=scheme, **SMALL_SCREEN)
    assert await fits(ada)
    await ada.join("Ada with a name that is as long as the field lets one type it")
    bob = await CallPage.open(browser, inprocess_demo.url, **SMALL_SCREEN)
    await bob.join("Bob", wanted="listen")
    await ada.until_state("in the call with 1 other")
    assert await fits(ada)
    await ada.page.click("#share")
    await bob.until("a shared screen", "document.querySelectorAll('.tile.screen').length === 1")
    await bob.until_notice("listener")
    assert await fits(bob)
    for button in ("#show-people", "#show-settings"):
        await ada.page.click(button)
        assert await fits(ada)
    box = await ada.page.locator("#settings button[value=apply]").bounding_box()
    assert box is not None
    assert box["x"] + box["width"] <= 360


async def test_text_contrasts_with_its_background(browser: Browser, inprocess_demo: Demo) -> None:
    for scheme in ("light", "dark"):
        ada = await CallPage.open(browser, inprocess_demo.url, color_scheme=scheme)
        await ada.join("Ada", wanted="generated")
        await ada.until_state("Connected")
        for selector in ("#state", "#room-title", ".brand", "#leave", "#mute", ".person-name", ".person-state"):
            assert await ada.page.evaluate(_CONTRAST, selector) >= 4.5, (scheme, selector)


# Contrast ratio (WCAG 2.1, 1.4.3) of the text and the nearest background, its own or an ancestor's, that is opaque.
_CONTRAST = """selector => {
  const parse = colour => colour.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => [r, g, b].map(one => one / 255)
    .map(one => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4)
    .reduce((sum, one, index) => sum + one * [0.2126, 0.7152, 0.0722][index], 0);
  let element = document.querySelector(selector);
  const text = luminance(parse(getComputedStyle(element).color));
  while (parse(getComputedStyle(element).backgroundColor)[3] === 0) element = element.parentElement;
  const background = luminance(parse(getComputedStyle(element).backgroundColor));
  return (Math.max(text, background) + 0.05) / (Math.min(text, background) + 0.05);
}"""


async def test_names_are_shown_as_text_and_nothing_is_loaded_from_other_hosts(
    browser: Browser, inprocess_demo: Demo
) -> None:
    name = "<img src=x onerror=alert(1)>"
    ada = await CallPage.open(browser, inprocess_demo.url)
    requested: list[str] = []
    ada.page.on("request", lambda request: requested.append(request.url))
    await ada.page.reload()
    await ada.join("Ada")
    bob = await CallPage.open(browser, inprocess_demo.url)
    await bob.join(name)
    await ada.until_tile(name)
    await ada.until_people(name)
    assert await ada.page.locator("img").count() == 0
    assert [url for url in requested if not url.startswith(inprocess_demo.url)] == []
    assert ada.problems + bob.problems == []
    async with aiohttp.ClientSession() as client, client.get(inprocess_demo.url) as response:
        policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


async def test_the_page_opens_sockets_to_its_own_host_only(browser: Browser, inprocess_demo: Demo) -> None:
    own = inprocess_demo.url.replace("http", "ws") + "spreed"
    foreign = own.replace("127.0.0.1", "localhost")  # the same server, but not the same origin
    page = await CallPage.open(browser, inprocess_demo.url)
    assert await page.page.evaluate(OPEN_SOCKET, own) == "open"
    assert await page.page.evaluate(OPEN_SOCKET, foreign) == "connect-src"
