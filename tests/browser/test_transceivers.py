"""Renegotiation through both SFUs: Chromium and Firefox stop, replace, add again and recycle transceivers.

After each step publisher and subscriber negotiate, and at the end of each sequence a picture arrives.

``make test-full`` takes the steps in all orders with a camera behind a microphone, and in four orders without it or in
front of it; ``make soak`` takes them in all orders there, too. When the camera in front is stopped, Firefox begins
another transport, which the in-process SFU follows, and Janus cannot.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway.config import McuSection
from tests.browser.chromium import CAMERA_GRANTED, FAKE_DEVICES, chromium
from tests.browser.firefox import firefox
from tests.browser.page_gateway import page_gateway

full = pytest.mark.full

PAGE = Path(__file__).parent / "transceivers.html"
PARTICIPANTS = ("ada", "bob")
STEPS = ("stop", "replace", "readd", "recycle")
ORDERS = tuple(itertools.permutations(STEPS))
# each step at each position, and directly after each other step
FEW_ORDERS = tuple(
    tuple(STEPS[at] for at in order) for order in ((0, 1, 3, 2), (1, 2, 0, 3), (2, 3, 1, 0), (3, 0, 2, 1))
)
TOGGLES = 80
SEQUENCE_TIMEOUT = 120.0  # seconds; measured 1, and 4 for all toggles, on an idle machine
FOLLOWED = pytest.mark.parametrize(
    ("call", "mcu"), [("chromium", "inprocess"), ("chromium", "janus"), ("firefox", "inprocess")], indirect=True
)

Evaluate = Callable[[str, object], Awaitable[Any]]


@asynccontextmanager
async def chromium_page(url: str) -> AsyncIterator[Evaluate]:
    """Open the page in Chromium and yield the call of one of its functions."""
    async with chromium(FAKE_DEVICES, CAMERA_GRANTED) as browser:
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
async def call(request: pytest.FixtureRequest, mcu: McuSection) -> AsyncIterator[Evaluate]:
    """Run a gateway and a browser whose page has two sessions in one call."""
    async with page_gateway(mcu, PAGE) as gateway, BROWSERS[request.param](gateway.page_url) as evaluate:
        await evaluate("enter", [gateway.settings(name) for name in PARTICIPANTS])
        await gateway.set_in_call(*PARTICIPANTS)
        yield evaluate


async def play(call: Evaluate, media: str, orders: Sequence[Sequence[str]]) -> int:
    """Take the steps in each of the orders; return how many offers were refused."""
    failures, refused = [], 0
    for order in orders:
        async with asyncio.timeout(SEQUENCE_TIMEOUT):
            result = await call("play", [media, order])
        if isinstance(result, str):
            failures.append(result)
        else:
            refused += result
    assert failures == []
    return refused


@full
@pytest.mark.timeout(600)
async def test_both_sides_negotiate_after_each_step(call: Evaluate) -> None:
    assert await play(call, "audio video", ORDERS) == 0
    assert await play(call, "video", FEW_ORDERS) == 0


@full
@pytest.mark.timeout(600)
@FOLLOWED
async def test_transport_of_a_stopped_section_is_followed(call: Evaluate) -> None:
    assert await play(call, "video audio", FEW_ORDERS) == 0


@full
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("call", "mcu"), [("firefox", "janus")], indirect=True)
async def test_client_connects_anew_if_janus_cannot_follow_its_transport(call: Evaluate) -> None:
    # "readd" makes another section the camera's: two of the orders stop the first section, and not only a later one
    assert await play(call, "video audio", FEW_ORDERS) == 2


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_both_sides_negotiate_after_each_step_in_every_order(call: Evaluate) -> None:
    assert await play(call, "video", ORDERS) == 0


@pytest.mark.soak
@pytest.mark.timeout(900)
@FOLLOWED
async def test_transport_of_a_stopped_section_is_followed_in_every_order(call: Evaluate) -> None:
    assert await play(call, "video audio", ORDERS) == 0


@full
@pytest.mark.timeout(600)
async def test_camera_that_is_stopped_and_added_again_reuses_its_section(call: Evaluate) -> None:
    async with asyncio.timeout(2 * SEQUENCE_TIMEOUT):
        sections = await call("toggle", ["audio video", TOGGLES])
    assert sections == {"answer": 2, "offer": 2}


@full
@pytest.mark.timeout(600)
@FOLLOWED
async def test_first_section_that_is_stopped_and_added_again_is_reused(call: Evaluate) -> None:
    async with asyncio.timeout(2 * SEQUENCE_TIMEOUT):
        sections = await call("toggle", ["video audio", TOGGLES])
    assert sections["answer"] == 2
    assert sections["offer"] <= 3  # the in-process SFU keeps the first section of a subscription, inactive
