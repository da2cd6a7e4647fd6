"""Names in the lobby and in the call: blanks, two people of one name, and the call after a reload of the page."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser

from gateway.tools.demo import Demo
from tests.browser.call_page import CallPage, joining_page

pytestmark = pytest.mark.full

NAMES = "[...document.querySelectorAll('.tile-name')].map(one => one.textContent).sort().join()"
SOUND_SENT = """portunus.call.publishing.connection("video").getSenders()
  .some(({track}) => track?.kind === "audio" && track.enabled)"""


async def test_a_name_of_blanks_is_answered_at_the_field(browser: Browser, inprocess_demo: Demo) -> None:
    ada = await CallPage.open(browser, inprocess_demo.url)
    await ada.join(" \u200b ", room=" ", wanted="listen")
    for field in ("name", "room"):
        assert "blanks alone are none" in await ada.page.inner_text(f"#{field}-error")
        assert await ada.page.get_attribute(f"#{field}", "aria-describedby") == f"{field}-error"
    assert await ada.page.evaluate("document.activeElement.id") == "name"
    await ada.page.fill("#name", "Ada")
    await ada.page.fill("#room", "kitchen")
    await ada.page.keyboard.press("Enter")
    await ada.until_state("nobody else is in the call")
    assert await ada.page.locator(".field-error").count() == 0


async def test_a_reload_continues_the_call_with_name_and_devices(browser: Browser, inprocess_demo: Demo) -> None:
    first = await joining_page(browser, inprocess_demo.url, "Ada")
    await first.until_state("nobody else is in the call")
    second = await joining_page(browser, inprocess_demo.url, "ada")
    bob = await joining_page(browser, inprocess_demo.url, "Bob", wanted="listen")
    await bob.until("two names", f"{NAMES} === 'Ada,Bob (you),ada (2)'")
    await second.page.click("#mute")
    await second.page.click("#camera")
    await bob.until_tile("ada (2)", "microphone muted", "camera off")
    await second.page.reload()
    await second.until("the own tile", f"{NAMES} === 'Ada,Bob,ada (2) (you)'")
    await bob.until("the same names", f"{NAMES} === 'Ada,Bob (you),ada (2)'")
    await bob.until_tile("ada (2)", "microphone muted", "camera off")
    assert await second.page.inner_text("#mute") == "Unmute"
    assert not await second.page.evaluate(SOUND_SENT)
    await second.page.click("#mute")
    await second.page.click("#camera")
    await bob.until_advances("ada (2)", frames=3)
    await bob.until_audio_received("ada (2)")
    await second.page.click("#leave")
    await second.page.reload()
    assert await second.state() == "Not connected"
    await first.page.reload()
    await bob.until_advances("Ada", frames=3)
    assert first.problems + second.problems + bob.problems == []
