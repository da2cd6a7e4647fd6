"""A call without an SFU: two Chromium pages with direct peer connections, and a gateway that relays (5.2)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page

from gateway.config import McuSection
from tests.browser.page_gateway import PageGateway, page_gateway

pytestmark = pytest.mark.full

PAGE = Path(__file__).parent / "peer_to_peer.html"
WAIT = 60.0  # seconds for a step with a negotiation
FRAMES = 10  # by which a video has to advance

Measured = dict[str, Any]


@dataclass
class PeerPage:
    """One page. ``problems`` has the errors and warnings of its console."""

    name: str
    page: Page
    problems: list[str]
    id: str = ""

    async def until(self, other: PeerPage, wanted: Callable[[Measured], bool]) -> Measured:
        """Read the statistics of the other page's stream until they pass a check."""
        measured: Measured | None = None
        try:
            async with asyncio.timeout(WAIT):
                while (measured := await self._measure(other)) is None or not wanted(measured):  # noqa: ASYNC110 - a page can only be polled
                    await asyncio.sleep(0.2)
        except TimeoutError:
            errors = await self.page.evaluate("page.errors")
            raise AssertionError(f"{self.name} measured {measured}; {errors} {self.problems}") from None
        return measured

    async def _measure(self, other: PeerPage) -> Measured | None:
        measured: Measured | None = await self.page.evaluate("id => measure(id)", other.id)
        return measured


class RoomWithoutSfu:
    """A room on a gateway without an SFU, and the browser of its members."""

    def __init__(self, gateway: PageGateway, browser: Browser) -> None:
        self._gateway = gateway
        self._browser = browser

    async def enter(self, name: str) -> PeerPage:
        """Open the page in a context of its own, and join the room."""
        page = await (await self._browser.new_context()).new_page()
        person = PeerPage(name, page, [])
        page.on("pageerror", lambda error: person.problems.append(str(error)))
        page.on("console", lambda message: person.problems.append(message.text))
        await page.goto(self._gateway.page_url)
        async with asyncio.timeout(WAIT):
            person.id = await page.evaluate("settings => enter(settings)", self._gateway.settings(name))
        return person

    async def set_in_call(self, *people: PeerPage) -> None:
        """Have these members join the call."""
        await self._gateway.set_in_call(*(person.name for person in people))


@pytest.fixture
async def room(browser: Browser) -> AsyncIterator[RoomWithoutSfu]:
    async with page_gateway(McuSection(type="none"), PAGE) as gateway:
        yield RoomWithoutSfu(gateway, browser)


def advanced_since(first: Measured) -> Callable[[Measured], bool]:
    """Return a check for video that has advanced, and for audio."""

    def check(seen: Measured) -> bool:
        advanced = seen["frames"] >= first["frames"] + FRAMES and seen["time"] > first["time"]
        return bool(advanced and seen["energy"] > 0)

    return check


async def test_two_pages_see_and_hear_each_other_without_an_sfu(room: RoomWithoutSfu) -> None:
    people = [await room.enter(name) for name in ("ada", "bob")]
    await room.set_in_call(*people)
    ports = []
    for person, other in (people, people[::-1]):
        first = await person.until(other, lambda seen: seen["frames"] > 0 and seen["time"] > 0)
        last = await person.until(other, advanced_since(first))
        assert last["connection"] == "connected"
        assert last["offered"] == (person.id > other.id)
        assert "mcu" not in await person.page.evaluate("page.features")
        assert await person.page.evaluate("page.errors") == []
        assert person.problems == []
        ports.append(last["ports"])
    assert len(ports[0]) == 2
    assert ports[0] == ports[1][::-1]  # the two pages' own ports: media flow directly between them
