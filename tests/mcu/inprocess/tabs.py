"""Chromium as a client of the in-process SFU: two tabs, driven by Playwright."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from playwright.async_api import Page, Route, async_playwright

from mcu.base import (
    BackendId,
    Candidate,
    CloseReason,
    MediaKind,
    MediaSelection,
    PublisherId,
    PublishOptions,
    StreamKey,
    StreamType,
    SubscribeOptions,
)
from mcu.inprocess import InprocessSettings
from mcu.inprocess.backend import InprocessMcu
from mcu.inprocess.publisher import InprocessPublisher
from mcu.inprocess.subscriber import InprocessSubscriber
from sdp.document import Description
from tests.mcu.descriptions import described

KEY = StreamKey(BackendId("cloud"), PublisherId("alice"), StreamType.VIDEO)
CHROMIUM = Path("/usr/bin/chromium")
PAGE = Path(__file__).parent / "page.html"
FLAGS = (
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--allow-loopback-in-peer-connection",
    "--disable-features=WebRtcHideLocalIpsWithMdns",
    "--autoplay-policy=no-user-gesture-required",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
)
WAIT = 20.0  # seconds for anything that media must do
LOOK = 0.1  # seconds between two looks at a page's statistics
EVERYTHING = MediaSelection()
Stream = InprocessPublisher | InprocessSubscriber


class Received(msgspec.Struct):
    """What a page says of what it gets."""

    frames: int
    energy: float
    codec: str
    messages: list[tuple[str, str]]
    streams: list[tuple[str, str, float]]
    width: int = 0  # of the last picture


class Tab:
    """A page with a peer in it; listens for the SFU's offers and hands candidates over one by one."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.stream: Stream | None = None
        self._jobs: asyncio.Queue[Candidate | str | None] = asyncio.Queue()
        self._worker: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Load the page."""

        async def serve(route: Route) -> None:
            await route.fulfill(path=PAGE, content_type="text/html")

        await self.page.route("**/*", serve)
        await self.page.expose_function("tell", self._tell)
        await self.page.goto("http://localhost/")

    def attach(self, stream: Stream) -> None:
        """Hand over to ``stream`` what the page says from now on and has said before."""
        self.stream = stream
        self._worker = asyncio.create_task(self._work(stream))

    async def close(self) -> None:
        """Stop handing over."""
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.wait([self._worker])

    async def run(self, call: str, *arguments: object) -> Any:
        """Call a function of the page."""
        return await self.page.evaluate(f"(given) => {call}(...given)", list(arguments))

    async def receives(self, frames: int = 5, energy: float = 0.0) -> Received:
        """Wait until so many more frames were decoded and so much more was heard; return how things stand."""
        before: Received | None = None
        async with asyncio.timeout(WAIT):
            while True:
                now = msgspec.convert(await self.run("received"), Received)
                before = before or now
                if now.frames - before.frames >= frames and now.energy - before.energy >= energy:
                    return now
                await asyncio.sleep(LOOK)

    async def rate(self, seconds: float = 2.0) -> float:
        """Return how many pictures per second are decoded now."""
        loop = asyncio.get_running_loop()
        before, begun = await self.receives(1), loop.time()
        await asyncio.sleep(seconds)
        after = await self.receives(0)
        return (after.frames - before.frames) / (loop.time() - begun)

    def on_candidate(self, candidate: Candidate | None) -> None:
        """Never called: candidates are within the descriptions."""

    def on_offer(self, offer: Description) -> None:
        """Answer it."""
        self._jobs.put_nowait(str(offer))

    def on_media(self, kind: MediaKind, flowing: bool) -> None:
        """Be told."""

    def on_closed(self, reason: CloseReason) -> None:
        """Be told."""

    def _tell(self, candidate: dict[str, Any] | None) -> None:
        if candidate is None:
            self._jobs.put_nowait(None)
        else:
            self._jobs.put_nowait(Candidate(candidate["candidate"], candidate["sdpMid"], candidate["sdpMLineIndex"]))

    async def _work(self, stream: Stream) -> None:
        while True:
            job = await self._jobs.get()
            if isinstance(job, str):
                assert isinstance(stream, InprocessSubscriber)
                await stream.accept(described(await self.run("watch", job)))
            else:
                await stream.add_candidate(job)


class Tabs:
    """Two tabs and the SFU between them."""

    def __init__(self, mcu: InprocessMcu, alice: Tab, carol: Tab) -> None:
        self.mcu, self.alice, self.carol = mcu, alice, carol

    async def publish(self, constraints: dict[str, Any], options: PublishOptions, *more: object) -> InprocessPublisher:
        """Let alice publish; her candidates follow the offer."""
        offer = await self.alice.run("publish", constraints, *more)
        publisher, answer = await self.mcu.publish(KEY, described(offer), options, self.alice)
        self.alice.attach(publisher)
        await self.alice.run("accept", str(answer))
        return publisher

    def rate(self) -> int:
        """Return the bit/s of alice's picture over the last second."""
        rates = (r.bits_per_second for r in self.mcu.streams() if r.kind is MediaKind.VIDEO and not r.subscriber)
        return next(rates, None) or 0

    async def subscribe(self, layer: MediaSelection = EVERYTHING) -> InprocessSubscriber:
        """Let carol watch."""
        subscriber, offer = await self.mcu.subscribe(KEY, SubscribeOptions(selection=layer), self.carol)
        self.carol.attach(subscriber)
        await subscriber.accept(described(await self.carol.run("watch", str(offer))))
        return subscriber


@pytest.fixture
def chromium() -> Path:
    """Return where Chromium is."""
    if not CHROMIUM.exists():
        raise pytest.UsageError("the tests need Chromium: apt-get install chromium")
    return CHROMIUM


@pytest.fixture
async def tabs(chromium: Path) -> AsyncIterator[Tabs]:
    """Open the browser, two tabs and the SFU."""
    mcu = InprocessMcu(InprocessSettings(address="127.0.0.1"))
    await mcu.start(lambda status: None)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        context = await browser.new_context(permissions=["camera", "microphone"])
        alice, carol = Tab(await context.new_page()), Tab(await context.new_page())
        for tab in (alice, carol):
            await tab.open()
        yield Tabs(mcu, alice, carol)
        for tab in (alice, carol):
            await tab.close()
        await mcu.stop()
        await browser.close()
