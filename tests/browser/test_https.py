"""The demo on https, as a second device opens it: camera and call over a self-signed certificate."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser

from gateway.tools.demo import Demo
from tests.browser.call_page import CallPage
from tests.browser.conftest import inprocess

pytestmark = pytest.mark.full


async def test_a_camera_is_sent_from_an_address_other_than_localhost(browser: Browser) -> None:
    demo = Demo("127.0.0.2", 0, inprocess(), https=True)
    await demo.start()
    try:
        ada, bob = [await CallPage.open(browser, demo.url, ignore_https_errors=True) for _ in range(2)]
        assert demo.url.startswith("https://127.0.0.2:")
        assert await ada.page.evaluate("isSecureContext")
        for page, name in ((ada, "Ada"), (bob, "Bob")):
            await page.join(name)
        await bob.until_tile("Ada", "camera on", "microphone on")
        await bob.until_advances("Ada")
        assert await ada.notices() == ""
        assert ada.problems + bob.problems == []
    finally:
        await demo.stop()
