"""Simulcast through each SFU: one Chromium page sends three layers, another one selects and measures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page

from gateway.config import GeoIpSection, McuSection
from tests.browser.chromium import CAMERA_GRANTED, FAKE_DEVICES, chromium
from tests.browser.page_gateway import NO_LOCATIONS, PageGateway, page_gateway

pytestmark = [pytest.mark.full, pytest.mark.timeout(300)]

PAGE = Path(__file__).parent / "simulcast.html"
WAIT = 60.0  # seconds for a step with a negotiation or a keyframe; measured below 5 on an idle machine
FRAMES = 40  # encoded by the publisher while the frames that arrive are counted
ALL_TEMPORAL_LAYERS, BASE_TEMPORAL_LAYER = (0.8, 1.2), (0.1, 0.4)  # shares of the frames: all, and a quarter
HEIGHTS = {"q": 90, "h": 180, "f": 360}  # quarter, half, full
RATES = {"q": 80_000, "h": 150_000, "f": 400_000}  # bit/s
SHARES = {"q": 4, "h": 2, "f": 1}
# By default Chromium sends a third layer only from 960 x 540 on; smaller layers need less CPU.
SMALL_LAYERS = "--force-fieldtrials=WebRTC-LegacySimulcastLayerLimit/Disabled/"

Measured = dict[str, Any]


def encodings(sizes: str, rids: Sequence[str]) -> list[dict[str, Any]]:
    """Return layers of these sizes and names, each with three temporal layers."""
    return [
        {"rid": rid, "scaleResolutionDownBy": SHARES[size], "maxBitrate": RATES[size], "scalabilityMode": "L1T3"}
        for size, rid in zip(sizes, rids, strict=True)
    ]


@dataclass
class SimulcastPage:
    """One page in the room. ``problems`` has the errors and warnings of its console."""

    page: Page
    problems: list[str]
    id: str = ""

    async def publish(
        self, sizes: str, rids: Sequence[str] = (), *, codec: str = "", accepted: Sequence[str] = ()
    ) -> None:
        """Offer layers in this order, and wait until all of them, or exactly the ``accepted`` ones, are sent.

        The names (``rids``) of the layers are their sizes, unless others are given.
        """
        names = rids or sizes
        async with asyncio.timeout(WAIT):
            await self.page.evaluate("camera => publish(camera)", [encodings(sizes, names), codec])
        await self._until(
            "sent()", lambda sent: {rid for rid, layer in sent.items() if layer["frames"]} == set(accepted or names)
        )

    async def subscribe(self, publisher: SimulcastPage, layers: dict[str, int] | None = None) -> None:
        """Subscribe with these layers."""
        async with asyncio.timeout(WAIT):
            await self.page.evaluate("selection => subscribe(selection)", [publisher.id, layers])

    async def select(self, publisher: SimulcastPage, **layers: int) -> None:
        """Select layers with ``selectStream``."""
        await self.page.evaluate("selection => select(selection)", [publisher.id, layers])

    async def wait_for_height(self, height: int, connections: int = 0) -> None:
        """Wait until frames of that height are shown, after at least ``connections`` connections were opened."""
        await self._until(
            "received()",
            lambda seen: seen["height"] == height and seen["shown"] == height and seen["connections"] >= connections,
        )

    async def wait_for_share(self, share: tuple[float, float], publisher: SimulcastPage, rid: str) -> None:
        """Wait until the share of the publisher's frames of a layer that arrives is between these two."""
        least, most = share
        async with asyncio.timeout(WAIT):
            while not least <= await self._received_share(publisher, rid) <= most:
                pass

    async def _received_share(self, publisher: SimulcastPage, rid: str) -> float:
        """Return how many frames arrive for each one of a layer that the publisher encodes from now on."""

        async def frames() -> tuple[int, int]:
            pages = publisher.page.evaluate("sent()"), self.page.evaluate("received()")
            sent, received = await asyncio.gather(*pages)
            return sent[rid]["frames"], received["arrived"]

        begin = end = await frames()
        while end[0] - begin[0] < FRAMES:
            await asyncio.sleep(0.1)
            end = await frames()
        return (end[1] - begin[1]) / (end[0] - begin[0])

    async def _until(self, script: str, wanted: Callable[[Measured], bool]) -> None:
        measured: Measured = {}
        try:
            async with asyncio.timeout(WAIT):
                while not wanted(measured := await self.page.evaluate(script)):  # noqa: ASYNC110 - a page can only be polled
                    await asyncio.sleep(0.1)
        except TimeoutError:
            errors = await self.page.evaluate("page.errors")
            raise AssertionError(f"{script} is {measured}; {errors} {self.problems}") from None


def listen(person: SimulcastPage) -> None:
    """Collect the errors and warnings of the page's console."""
    person.page.on("pageerror", lambda error: person.problems.append(str(error)))
    person.page.on("console", lambda message: person.problems.append(message.text))


@dataclass
class TwoPageCall:
    """Two pages in a call, and their gateway."""

    ada: SimulcastPage
    bob: SimulcastPage
    gateway: PageGateway

    async def errors(self) -> list[str]:
        """Return the errors of the pages and of the gateway's replies."""
        people = (self.ada, self.bob)
        return [error for one in people for error in (*one.problems, *await one.page.evaluate("page.errors"))]


@pytest.fixture
async def call(mcu: McuSection) -> AsyncIterator[TwoPageCall]:
    async with two_page_call(mcu) as call:
        yield call


@asynccontextmanager
async def two_page_call(mcu: McuSection, geoip: GeoIpSection = NO_LOCATIONS) -> AsyncIterator[TwoPageCall]:
    """Open two pages that are in a call over a gateway with that SFU."""
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(page_gateway(mcu, PAGE, geoip))
        browser = await stack.enter_async_context(chromium(FAKE_DEVICES, CAMERA_GRANTED, SMALL_LAYERS))
        people = []
        for name in ("ada", "bob"):
            person = SimulcastPage(await (await browser.new_context()).new_page(), [])
            listen(person)
            await person.page.goto(gateway.page_url)
            async with asyncio.timeout(WAIT):
                person.id = await person.page.evaluate("settings => enter(settings)", gateway.settings(name))
            people.append(person)
        await gateway.set_in_call("ada", "bob")
        ada, bob = people
        yield TwoPageCall(ada, bob, gateway)


@pytest.mark.parametrize("rids", ["qhf", "fhq"])
async def test_a_subscriber_selects_simulcast_and_temporal_layers(call: TwoPageCall, rids: str) -> None:
    ada, bob = call.ada, call.bob
    assert "simulcast" in await bob.page.evaluate("page.features")
    await ada.publish(rids)
    await bob.subscribe(ada)
    await bob.wait_for_height(HEIGHTS["f"])  # without a selection the highest layer
    await bob.select(ada, substream=0)
    await bob.wait_for_height(HEIGHTS["q"])
    await bob.select(ada, substream=2)
    await bob.wait_for_height(HEIGHTS["f"])
    await bob.select(ada, substream=1)
    await bob.wait_for_height(HEIGHTS["h"])
    await bob.wait_for_share(ALL_TEMPORAL_LAYERS, ada, "h")
    await bob.select(ada, temporal=0)
    await bob.wait_for_share(BASE_TEMPORAL_LAYER, ada, "h")
    await bob.select(ada, temporal=2)
    await bob.wait_for_share(ALL_TEMPORAL_LAYERS, ada, "h")
    await bob.wait_for_height(HEIGHTS["h"])
    assert await call.errors() == []


async def test_a_selection_in_the_request_applies_to_later_connections_too(call: TwoPageCall) -> None:
    ada, bob = call.ada, call.bob
    await ada.publish("qhf")
    await bob.subscribe(ada, {"substream": 0})
    await bob.wait_for_height(HEIGHTS["q"])
    await bob.select(ada, substream=1)
    await bob.wait_for_height(HEIGHTS["h"])
    await bob.subscribe(ada, {"substream": 2, "temporal": 0})
    await bob.wait_for_height(HEIGHTS["f"])
    await bob.wait_for_share(BASE_TEMPORAL_LAYER, ada, "f")
    await bob.select(ada, substream=0)
    await bob.wait_for_height(HEIGHTS["q"])
    await ada.publish("fhq")  # bob gets an offer of the new connection without a request
    await bob.wait_for_height(HEIGHTS["q"], connections=3)
    await bob.wait_for_share(BASE_TEMPORAL_LAYER, ada, "q")
    assert await call.errors() == []
