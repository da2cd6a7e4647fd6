"""Renegotiation through the in-process SFU: Chromium and Firefox stop, replace, add again and recycle transceivers.

After each step publisher and subscriber negotiate, and at the end of each sequence a picture arrives.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from gateway.app import Gateway
from gateway.config import Config, HttpSection, SessionsSection
from gateway.tools.fake_nextcloud import FakeNextcloud
from gateway.tools.talk_rooms import nextcloud_session
from tests.browser.chromium import FAKE_DEVICES, GRANTED, chromium
from tests.browser.conftest import inprocess
from tests.browser.firefox import firefox

pytestmark = [pytest.mark.full, pytest.mark.timeout(300)]

PAGE = Path(__file__).parent / "transceivers.html"
ROOM = "kitchen"
PARTICIPANTS = ("ada", "bob")
SECRET = "6f1b0c7d9ae24835b6cf01d27e9a4488"
STEPS = ("stop", "replace", "readd", "recycle")
TOGGLES = 80
SEQUENCE_TIMEOUT = 60.0

Evaluate = Callable[[str, object], Awaitable[Any]]


@asynccontextmanager
async def chromium_page(url: str) -> AsyncIterator[Evaluate]:
    """Open the page in Chromium and yield the call of one of its functions."""
    async with chromium(FAKE_DEVICES, GRANTED) as browser:
        page = await browser.new_page()
        await page.goto(url)
        yield lambda function, argument: page.evaluate(f"argument => {function}(argument)", argument)


@asynccontextmanager
async def firefox_page(url: str) -> AsyncIterator[Evaluate]:
    """Open the page in Firefox and yield the call of one of its functions."""
    async with firefox() as browser:
        tab = await browser.open(url)
        yield lambda function, argument: browser.evaluate(tab, f"{function}({json.dumps(argument)})")


BROWSERS = {"chromium": chromium_page, "firefox": firefox_page}


@pytest_asyncio.fixture(params=list(BROWSERS))
async def call(request: pytest.FixtureRequest) -> AsyncIterator[Evaluate]:
    """Run a gateway and a browser whose page has two sessions in one call."""
    async with AsyncExitStack() as stack:
        nextcloud = await stack.enter_async_context(FakeNextcloud())
        gateway = Gateway(
            Config(
                sessions=SessionsSection(secret=SECRET),
                http=HttpSection(listen=("127.0.0.1:0",)),
                backends=(nextcloud.backend(),),
                mcu=inprocess(),
            )
        )
        (url,) = await gateway.start()
        nextcloud.gateway = url
        stack.push_async_callback(gateway.stop)
        evaluate = await stack.enter_async_context(BROWSERS[request.param](await serve(stack)))
        settings = [
            {
                "url": url.replace("http", "ws", 1) + "/spreed",
                "auth": {"url": nextcloud.url, "params": nextcloud.ticket(name)},
                "room": {"roomid": ROOM, "sessionid": nextcloud_session(name)},
            }
            for name in PARTICIPANTS
        ]
        await evaluate("enter", settings)
        for name in PARTICIPANTS:
            await nextcloud.talk.set_in_call(ROOM, nextcloud_session(name), 7)
        yield evaluate


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


async def play(call: Evaluate, *media: str) -> str:
    """Take the steps in every order, and return what went wrong."""
    failures = []
    for kinds, names in itertools.product(media, itertools.permutations(STEPS)):
        async with asyncio.timeout(SEQUENCE_TIMEOUT):
            failures.append(await call("play", [kinds, names]))
    return "\n".join(filter(None, failures))


async def test_both_sides_negotiate_after_each_step(call: Evaluate) -> None:
    assert await play(call, "audio video", "video") == ""


@pytest.mark.parametrize("call", ["chromium"], indirect=True)
async def test_transport_of_a_stopped_section_is_followed(call: Evaluate) -> None:
    assert await play(call, "video audio") == ""


async def test_camera_that_is_stopped_and_added_again_reuses_its_section(call: Evaluate) -> None:
    async with asyncio.timeout(2 * SEQUENCE_TIMEOUT):
        sections = await call("toggle", ["audio video", TOGGLES])
    assert sections == {"answer": 2, "offer": 2}
