"""The call page in Firefox, whose offers and answers differ from Chromium's."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.config import McuSection
from gateway.tools.demo import Demo
from tests.browser.call_page import OPEN_SOCKET
from tests.browser.conftest import demo_with
from tests.browser.firefox import Firefox, firefox

WAIT = 60.0

_JOIN = """(name => {
  document.getElementById("name").value = name;
  document.getElementById("size").value = "360";
  document.getElementById("join-form").requestSubmit();
})(%r)"""
_RECEIVED_MEDIA = """(async () => {
  const call = globalThis.portunus?.call;
  const other = call?.others()[0];
  const pc = other && call.receiving.connection(other.sessionId, "video");
  const entries = pc ? [...(await pc.getStats()).values()].filter(one => one.type === "inbound-rtp") : [];
  const of = kind => entries.find(one => one.kind === kind) ?? {};
  return {name: other?.name, frames: of("video").framesDecoded ?? 0, energy: of("audio").totalAudioEnergy ?? 0,
    audio: other?.audio, state: document.getElementById("state").textContent,
    notices: document.getElementById("notices").innerText};
})()"""


@pytest.mark.full
async def test_two_people_see_and_hear_each_other_in_firefox(demo: Demo) -> None:
    async with firefox() as browser:
        tabs = {name: await browser.open(demo.url) for name in ("Ada", "Bob")}
        for name, tab in tabs.items():
            await browser.evaluate(tab, _JOIN % name)
        for tab in tabs.values():
            first = await until(browser, tab, "frames", lambda value: value > 0)
            await until(browser, tab, "frames", lambda value, first=first: value > first + 10)
            await until(browser, tab, "energy", lambda value: value > 0)
            await until(browser, tab, "state", lambda value: value == "Connected, in the call with 1 other")
        await browser.evaluate(tabs["Ada"], "document.getElementById('mute').click()")
        await until(browser, tabs["Bob"], "audio", lambda value: value is False)


@pytest.mark.full
async def test_the_page_opens_sockets_to_its_own_host_only_in_firefox() -> None:
    async with demo_with(McuSection()) as demo, firefox() as browser:
        tab = await browser.open(demo.url)
        own = demo.url.replace("http", "ws") + "spreed"
        foreign = own.replace("127.0.0.1", "localhost")  # the same server, but not the same origin
        assert await browser.evaluate(tab, f"{OPEN_SOCKET}({own!r})") == "open"
        assert await browser.evaluate(tab, f"{OPEN_SOCKET}({foreign!r})") == "connect-src"


async def until(browser: Firefox, tab: str, condition: str, good: Any) -> Any:
    """Wait until a value of the page passes a check, and return it."""
    seen: dict[str, Any] = {}
    try:
        async with asyncio.timeout(WAIT):
            while not seen or not good(seen[condition]):
                seen = await browser.evaluate(tab, _RECEIVED_MEDIA)
                await asyncio.sleep(0.2)
    except TimeoutError:
        raise AssertionError(f"{condition} did not come about; the page is at {seen}") from None
    return seen[condition]
