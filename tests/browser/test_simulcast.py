"""Simulcast through each SFU: one Chromium page sends three layers, another one selects and measures."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from playwright.async_api import Page

from gateway.app import Gateway
from gateway.config import Config, GeoIpSection, HttpSection, McuSection, SessionsSection
from gateway.tools.fake_nextcloud import FakeNextcloud
from gateway.tools.talk_rooms import nextcloud_session
from tests.browser.chromium import CAMERA_GRANTED, FAKE_DEVICES, chromium

pytestmark = [pytest.mark.full, pytest.mark.timeout(300)]

PAGE = Path(__file__).parent / "simulcast.html"
ROOM = "kitchen"
WAIT = 60.0  # seconds for a step with a negotiation or a keyframe; measured below 5 on an idle machine
FRAMES = 40  # of the publisher, for which those that arrive are counted
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
        """Offer layers in this order, and wait until all of them are sent, or exactly those ``accepted``.

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

    async def choose(self, publisher: SimulcastPage, **layers: int) -> None:
        """Select layers with ``selectStream``."""
        await self.page.evaluate("selection => choose(selection)", [publisher.id, layers])

    async def sees(self, height: int, connections: int = 0) -> None:
        """Wait until frames of that height are shown, after at least so many earlier connections."""
        await self._until(
            "received()",
            lambda seen: seen["height"] == height and seen["shown"] == height and seen["connections"] >= connections,
        )

    async def receives(self, share: tuple[float, float], publisher: SimulcastPage, rid: str) -> None:
        """Wait until a share of the publisher's frames of a layer arrives that is between these two."""
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
                while not wanted(measured := await self.page.evaluate(script)):  # noqa: ASYNC110 - as above
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
    gateway: Gateway
    config: Config
    url: str  # of the gateway

    async def complaints(self) -> list[str]:
        """Return the errors of the pages and those that the gateway sent."""
        people = (self.ada, self.bob)
        return [error for it in people for error in (*it.problems, *await it.page.evaluate("page.errors"))]


@pytest.fixture
async def call(mcu: McuSection) -> AsyncIterator[TwoPageCall]:
    async with two_page_call(mcu, GeoIpSection()) as call:
        yield call


@asynccontextmanager
async def two_page_call(mcu: McuSection, geoip: GeoIpSection) -> AsyncIterator[TwoPageCall]:
    """Bring two pages into a call over a gateway with that SFU."""
    async with AsyncExitStack() as stack:
        nextcloud = await stack.enter_async_context(FakeNextcloud())
        config = Config(
            sessions=SessionsSection(secret="6f1b0c7d9ae24835b6cf01d27e9a4488"),
            http=HttpSection(listen=("127.0.0.1:0",)),
            backends=(nextcloud.backend(),),
            mcu=mcu,
            geoip=geoip,
        )
        gateway = Gateway(config)
        (url,) = await gateway.start()
        nextcloud.gateway = url
        stack.push_async_callback(gateway.stop)
        page = await serve(stack)
        browser = await stack.enter_async_context(chromium(FAKE_DEVICES, CAMERA_GRANTED, SMALL_LAYERS))
        people = []
        for name in ("ada", "bob"):
            person = SimulcastPage(await (await browser.new_context()).new_page(), [])
            listen(person)
            await person.page.goto(page)
            settings = {
                "url": url.replace("http", "ws", 1) + "/spreed",
                "auth": {"url": nextcloud.url, "params": nextcloud.ticket(name)},
                "room": {"roomid": ROOM, "sessionid": nextcloud_session(name)},
            }
            async with asyncio.timeout(WAIT):
                person.id = await person.page.evaluate("settings => enter(settings)", settings)
            people.append(person)
        for name in ("ada", "bob"):
            await nextcloud.talk.set_in_call(ROOM, nextcloud_session(name), 7)
        ada, bob = people
        yield TwoPageCall(ada, bob, gateway, config, url)


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


@pytest.mark.parametrize("rids", ["qhf", "fhq"])
async def test_a_subscriber_selects_simulcast_and_temporal_layers(call: TwoPageCall, rids: str) -> None:
    ada, bob = call.ada, call.bob
    assert "simulcast" in await bob.page.evaluate("page.features")
    await ada.publish(rids)
    await bob.subscribe(ada)
    await bob.sees(HEIGHTS["f"])  # without a selection the highest layer
    await bob.choose(ada, substream=0)
    await bob.sees(HEIGHTS["q"])
    await bob.choose(ada, substream=2)
    await bob.sees(HEIGHTS["f"])
    await bob.choose(ada, substream=1)
    await bob.sees(HEIGHTS["h"])
    await bob.receives(ALL_TEMPORAL_LAYERS, ada, "h")
    await bob.choose(ada, temporal=0)
    await bob.receives(BASE_TEMPORAL_LAYER, ada, "h")
    await bob.choose(ada, temporal=2)
    await bob.receives(ALL_TEMPORAL_LAYERS, ada, "h")
    await bob.sees(HEIGHTS["h"])
    assert await call.complaints() == []


async def test_a_selection_in_the_request_outlives_the_connection(call: TwoPageCall) -> None:
    ada, bob = call.ada, call.bob
    await ada.publish("qhf")
    await bob.subscribe(ada, {"substream": 0})
    await bob.sees(HEIGHTS["q"])
    await bob.choose(ada, substream=1)
    await bob.sees(HEIGHTS["h"])
    await bob.subscribe(ada, {"substream": 2, "temporal": 0})
    await bob.sees(HEIGHTS["f"])
    await bob.receives(BASE_TEMPORAL_LAYER, ada, "f")
    await bob.choose(ada, substream=0)
    await bob.sees(HEIGHTS["q"])
    await ada.publish("fhq")  # bob gets an offer of the new connection without a request
    await bob.sees(HEIGHTS["q"], connections=3)
    await bob.receives(BASE_TEMPORAL_LAYER, ada, "q")
    assert await call.complaints() == []
