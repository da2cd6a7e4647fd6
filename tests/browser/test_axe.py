"""axe-core finds nothing on the call page in any state, on a desktop and on a phone, light and dark."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from playwright.async_api import Browser

from gateway.tools.demo import Demo
from tests.browser.axe import violations
from tests.browser.call_page import CallPage, joining_page

pytestmark = pytest.mark.full

PHONE = {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"}
Examine = Callable[[str], Awaitable[None]]


def examiner(page: CallPage, found: list[str]) -> Examine:
    """Return a function that adds to ``found`` what axe-core finds in the state with the given description."""

    async def examine(state: str) -> None:
        found.extend(f"{state}: {violation}" for violation in await violations(page.page))

    return examine


@pytest.mark.parametrize("context", [{}, PHONE], ids=["desktop", "phone"])
async def test_axe_finds_nothing_on_the_call_page(
    browser: Browser, inprocess_demo: Demo, context: dict[str, object]
) -> None:
    found: list[str] = []
    ada = await CallPage.open(browser, inprocess_demo.url, **context)
    examine = examiner(ada, found)
    await examine("lobby")
    await ada.page.click("#preview summary")
    await ada.until("a level", "Number(document.querySelector('#preview [role=meter]').ariaValueNow) > 0")
    await examine("check of devices")
    await ada.page.click("#preview summary")
    await ada.join(" ", wanted="listen")
    await examine("lobby with an error")
    await ada.page.fill("#name", "Ada")
    await ada.page.keyboard.press("Enter")
    await ada.until_state("nobody else is in the call")
    await examine("alone, a listener with a notice")
    bob = await joining_page(browser, inprocess_demo.url, "Bob", wanted="generated")
    await ada.until_advances("Bob", frames=1)
    await ada.page.click("#show-chat")
    await ada.page.locator("#chat-text").fill("https://example.org/")
    await ada.page.keyboard.press("Enter")
    await bob.page.click("#hand")
    await ada.until_tile("Bob", "hand raised")
    await examine("chat")
    await ada.page.click("#show-people")
    await ada.page.click("#share")
    await bob.page.click("#share")
    await ada.until_advances("Bob's screen", frames=1)
    await examine("people and screens")
    await ada.page.click("#change-layout")
    await ada.page.locator('[aria-label*="quality of Bob\'s screen"]:visible').press(
        "Enter"
    )  # a panel is above it on a phone
    await examine("speaker view and figures")
    await ada.page.keyboard.press("Escape")
    await ada.page.click("#change-layout")
    await ada.page.locator("#mute").focus()
    await examine("the reason of a button")
    await ada.page.click("#show-settings")
    await examine("settings")
    await ada.page.keyboard.press("Escape")
    await inprocess_demo.stop_gateway()
    await ada.until_state("Gateway away")
    await examine("connection lost")
    await ada.page.click("#leave")
    await examine("left")
    assert found == []
