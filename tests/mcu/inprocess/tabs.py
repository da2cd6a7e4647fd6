"""Chromium as a client of the in-process SFU: a publishing and a subscribing tab, driven by Playwright."""

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
    CloseReason,
    IceCandidate,
    MediaKind,
    MediaSelection,
    PublisherId,
    PublishOptions,
    StreamKey,
    StreamType,
    SubscribeOptions,
    TransportState,
)
from mcu.inprocess import InprocessSettings
from mcu.inprocess.backend import InprocessMcu
from mcu.inprocess.publisher import InprocessPublisher
from mcu.inprocess.subscriber import InprocessSubscriber
from sdp.document import Description
from tests.mcu.descriptions import parse_frozen

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
WAIT = 60.0  # seconds, the timeout of each wait for media; measured below 5 on an idle machine
POLL_INTERVAL = 0.1  # seconds between two reads of a page's statistics
BEST_LAYERS = MediaSelection()
Stream = InprocessPublisher | InprocessSubscriber


class PageStatistics(msgspec.Struct):
    """The media that a page has received, as its function ``received`` returns it."""

    frames: int  # decoded
    energy: float  # of audio, totalAudioEnergy of W3C webrtc-stats
    codec: str  # MIME type of the video codec
    messages: list[tuple[str, str]]  # label of the data channel and message
    streams: list[tuple[str, str, float]]  # element name, MediaStream id, seconds played
    width: int = 0  # of the last picture


class Tab:
    """A page with a PeerConnection; answers the SFU's offers and trickles candidates to it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.stream: Stream | None = None
        self._pending: asyncio.Queue[IceCandidate | str | None] = asyncio.Queue()  # candidates, and offers to answer
        self._worker: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Load the page."""

        async def serve(route: Route) -> None:
            await route.fulfill(path=PAGE, content_type="text/html")

        await self.page.route("**/*", serve)
        await self.page.expose_function("sendCandidate", self._send_candidate)
        await self.page.goto("http://localhost/")

    def attach(self, stream: Stream) -> None:
        """Pass the page's candidates to ``stream``, including those gathered before."""
        self.stream = stream
        self._worker = asyncio.create_task(self._work(stream))

    async def close(self) -> None:
        """Stop passing candidates and answers."""
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.wait([self._worker])

    async def run(self, call: str, *arguments: object) -> Any:
        """Call a function of the page and return its result."""
        return await self.page.evaluate(f"(parameters) => {call}(...parameters)", list(arguments))

    async def wait_for_media(self, frames: int = 5, energy: float = 0.0) -> PageStatistics:
        """Wait until ``frames`` more frames and ``energy`` more audio energy are decoded; return the statistics."""
        before: PageStatistics | None = None
        async with asyncio.timeout(WAIT):
            while True:
                now = msgspec.convert(await self.run("received"), PageStatistics)
                before = before or now
                if now.frames - before.frames >= frames and now.energy - before.energy >= energy:
                    return now
                await asyncio.sleep(POLL_INTERVAL)

    def on_candidate(self, candidate: IceCandidate | None) -> None:
        """Ignore: the SFU's candidates are in its descriptions."""

    def on_offer(self, offer: Description) -> None:
        """Have the page answer the offer."""
        self._pending.put_nowait(str(offer))

    def on_media(self, kind: MediaKind, flowing: bool) -> None:
        """Ignore."""

    def on_transport(self, state: TransportState) -> None:
        """Ignore."""

    def on_closed(self, reason: CloseReason) -> None:
        """Ignore."""

    def _send_candidate(self, candidate: dict[str, Any] | None) -> None:
        if candidate is None:
            self._pending.put_nowait(None)
        else:
            self._pending.put_nowait(
                IceCandidate(candidate["candidate"], candidate["sdpMid"], candidate["sdpMLineIndex"])
            )

    async def _work(self, stream: Stream) -> None:
        while True:
            pending = await self._pending.get()
            if isinstance(pending, str):
                assert isinstance(stream, InprocessSubscriber)
                await stream.accept(parse_frozen(await self.run("subscribe", pending)))
            else:
                await stream.add_candidate(pending)


class Tabs:
    """Two tabs, alice publishing and carol subscribing, and the SFU between them."""

    def __init__(self, mcu: InprocessMcu, alice: Tab, carol: Tab) -> None:
        self.mcu, self.alice, self.carol = mcu, alice, carol

    async def publish(
        self, constraints: dict[str, Any], options: PublishOptions, *encodings: object
    ) -> InprocessPublisher:
        """Publish alice's media; her candidates follow the offer."""
        offer = await self.alice.run("publish", constraints, *encodings)
        publisher, answer = await self.mcu.publish(KEY, parse_frozen(offer), options, self.alice)
        self.alice.attach(publisher)
        await self.alice.run("accept", str(answer))
        return publisher

    async def subscribe(self, selection: MediaSelection = BEST_LAYERS) -> InprocessSubscriber:
        """Subscribe carol."""
        subscriber, offer = await self.mcu.subscribe(KEY, SubscribeOptions(selection=selection), self.carol)
        self.carol.attach(subscriber)
        await subscriber.accept(parse_frozen(await self.carol.run("subscribe", str(offer))))
        return subscriber


@pytest.fixture
def chromium() -> Path:
    """Return the path of Chromium."""
    if not CHROMIUM.exists():
        raise pytest.UsageError("the tests need Chromium: apt-get install chromium")
    return CHROMIUM


@pytest.fixture
async def tabs(chromium: Path) -> AsyncIterator[Tabs]:
    """Start the SFU, and Chromium with two tabs."""
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
