"""A call without an SFU: two Chromium pages with direct peer connections, and a gateway that relays (5.2)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from playwright.async_api import Browser, Page

from gateway.app import Gateway
from gateway.config import Config, HttpSection, McuSection, SessionsSection
from gateway.tools.fake_nextcloud import FakeNextcloud
from gateway.tools.talk_rooms import nextcloud_session

pytestmark = pytest.mark.full

PAGE = Path(__file__).parent / "peer_to_peer.html"
ROOM = "kitchen"
SECRET = "6f1b0c7d9ae24835b6cf01d27e9a4488"
WAIT = 60.0  # seconds for what takes a negotiation
FRAMES = 10  # that a video has to advance by

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
    """A gateway without an SFU, its Nextcloud, and a server of the page."""

    def __init__(self, gateway: str, nextcloud: FakeNextcloud, page: str, browser: Browser) -> None:
        self._gateway = gateway
        self._nextcloud = nextcloud
        self._page = page
        self._browser = browser

    async def enter(self, name: str) -> PeerPage:
        """Open the page in a context of its own, and join the room."""
        page = await (await self._browser.new_context()).new_page()
        person = PeerPage(name, page, [])
        page.on("pageerror", lambda error: person.problems.append(str(error)))
        page.on("console", lambda message: person.problems.append(message.text))
        await page.goto(self._page)
        settings = {
            "url": self._gateway.replace("http", "ws", 1) + "/spreed",
            "auth": {"url": self._nextcloud.url, "params": self._nextcloud.ticket(name)},
            "room": {"roomid": ROOM, "sessionid": nextcloud_session(name)},
        }
        async with asyncio.timeout(WAIT):
            person.id = await page.evaluate("settings => enter(settings)", settings)
        return person

    async def call(self, *people: PeerPage) -> None:
        """Put these members into the call, as Nextcloud does."""
        for person in people:
            await self._nextcloud.talk.set_in_call(ROOM, nextcloud_session(person.name), 7)


@pytest.fixture
async def room(browser: Browser) -> AsyncIterator[RoomWithoutSfu]:
    async with AsyncExitStack() as stack:
        nextcloud = await stack.enter_async_context(FakeNextcloud())
        gateway = Gateway(
            Config(
                sessions=SessionsSection(secret=SECRET),
                http=HttpSection(listen=("127.0.0.1:0",)),
                backends=(nextcloud.backend(),),
                mcu=McuSection(type="none"),
            )
        )
        (url,) = await gateway.start()
        nextcloud.gateway = url
        stack.push_async_callback(gateway.stop)
        yield RoomWithoutSfu(url, nextcloud, await serve(stack), browser)


async def serve(stack: AsyncExitStack) -> str:
    async def answer(request: web.Request) -> web.FileResponse:
        return web.FileResponse(PAGE)

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return f"http://127.0.0.1:{runner.addresses[0][1]}/"


def goes_on_from(first: Measured) -> Callable[[Measured], bool]:
    """Return a check for video that has advanced, and for audio."""

    def test(seen: Measured) -> bool:
        advanced = seen["frames"] >= first["frames"] + FRAMES and seen["time"] > first["time"]
        return bool(advanced and seen["energy"] > 0)

    return test


async def test_two_pages_see_and_hear_each_other_without_an_sfu(room: RoomWithoutSfu) -> None:
    people = [await room.enter(name) for name in ("ada", "bob")]
    await room.call(*people)
    ports = []
    for person, other in (people, people[::-1]):
        first = await person.until(other, lambda seen: seen["frames"] > 0 and seen["time"] > 0)
        last = await person.until(other, goes_on_from(first))
        assert last["connection"] == "connected"
        assert last["offered"] == (person.id > other.id)
        assert "mcu" not in await person.page.evaluate("page.features")
        assert await person.page.evaluate("page.errors") == []
        assert person.problems == []
        ports.append(last["ports"])
    assert len(ports[0]) == 2
    assert ports[0] == ports[1][::-1]  # the two pages' own ports: media flow directly between them
