"""The quality policy in a real call through Janus: Chromium's bitrate while other members join and leave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from functools import partial
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
from playwright.async_api import Page, Route

from gateway.core.limits import QualityRules
from tests.browser.chromium import CAMERA_GRANTED, FAKE_DEVICES, chromium
from tests.interop.conftest import CallGateway, start_gateway
from tests.interop.member import Member
from tests.media.recorded import RecordedPeer, record

BUDGET, CEILING = 1_200_000, 400_000
WINDOW = 8  # consecutive samples that show that the page sends no more than its share; 2 s on an idle machine
OBSERVED_SAMPLES = 16  # samples after that in which the limit has to hold
LIMIT = 120.0  # seconds for each change to take effect; measured 2 to 12 on an idle machine
POLL = 0.25  # seconds between two requests for the samples

PAGE = """<!doctype html><title>publisher</title><script>
"use strict";
let pc;
const samples = [];
async function publish(maxBitrate) {
  pc = new RTCPeerConnection({iceServers: []});
  const media = await navigator.mediaDevices.getUserMedia({audio: true, video: {width: 320, height: 240}});
  for (const track of media.getTracks()) {
    const sendEncodings = track.kind === "video" ? [{maxBitrate}] : [];
    pc.addTransceiver(track, {direction: "sendonly", streams: [media], sendEncodings});
  }
  await pc.setLocalDescription(await pc.createOffer());
  while (pc.iceGatheringState !== "complete") await new Promise(done => setTimeout(done, 20));
  setInterval(sample, 250);
  return pc.localDescription.sdp;
}
async function sample() {
  const report = [...(await pc.getStats()).values()];
  const video = report.find(entry => entry.type === "outbound-rtp" && entry.kind === "video");
  const pair = report.find(entry => entry.type === "candidate-pair" && entry.nominated);
  if (!video?.targetBitrate || !pair?.availableOutgoingBitrate) return;
  samples.push({
    time: video.timestamp / 1000,
    target: video.targetBitrate,
    available: pair.availableOutgoingBitrate,
    bytes: video.bytesSent + video.headerBytesSent,
  });
}
const accept = sdp => pc.setRemoteDescription({type: "answer", sdp});
</script>"""


class BitrateSample(msgspec.Struct):
    """Chromium's statistics of its video at one time."""

    time: float  # unix time, seconds
    target: float  # bit/s of the encoder
    available: float  # bit/s that Chromium estimates it can send, all media together
    bytes: int  # sent since the beginning, with headers and retransmissions


class QualityCall:
    """A call of a Chromium page and a changing number of other members."""

    def __init__(self, gateway: CallGateway, page: Page) -> None:
        self._gateway = gateway
        self._page = page
        self._recording = record(3)
        self._joined = 0
        self.others: list[Member] = []

    async def publish(self) -> None:
        """Have the page publish within the bandwidth of its room reply, and one of the other members receive it."""
        self.page_member = await self._gateway.join("page", 1, in_call=False)
        joined = next(it for it in self.page_member.client.messages if it["type"] == "room")
        bandwidth = joined["room"]["bandwidth"]
        assert bandwidth == {"maxstreambitrate": CEILING, "maxscreenbitrate": BUDGET}
        await self.page_member.set_in_call()
        start = len(self.page_member.client.messages)
        offer = await self._page.evaluate("bitrate => publish(bitrate)", bandwidth["maxstreambitrate"])
        await self.page_member.send_offer("video", offer, sid="page")
        message = await self.page_member.client.wait_for(
            lambda message: message["type"] == "message" and message["message"]["data"].get("type") == "answer",
            since=start,
        )
        await self._page.evaluate("sdp => accept(sdp)", message["message"]["data"]["payload"]["sdp"])
        subscriber = self.others[0]
        await subscriber.request_offer(self.page_member)
        received = await subscriber.wait_for_stream(self.page_member)
        await received.peer.until(lambda: sum(received.peer.frames.values()) >= 5, "a picture of the page")

    async def change(self, publishers: int) -> int:
        """Have members join or leave until ``publishers`` publish, the page included; return each share in bit/s."""
        missing = publishers - 1 - len(self.others)
        for member in [self.others.pop() for _ in range(-missing)]:
            await member.set_in_call(0)
        self.others += await asyncio.gather(*(self._join_other() for _ in range(missing)))
        return min(BUDGET // publishers, CEILING)

    async def _join_other(self) -> Member:
        self._joined += 1
        member = await self._gateway.join(f"other-{self._joined}", 1 + self._joined)
        peer = await self._gateway.stack.enter_async_context(RecordedPeer(self._recording))
        member.published["video"], member.sids["video"] = peer, "recorded"
        await member.renegotiate()
        await peer.wait_until_connected()
        return member

    async def samples_until(self, condition: Callable[[list[BitrateSample]], bool]) -> list[BitrateSample]:
        """Wait until the samples that the page takes from now on fulfil a condition, and return them."""
        samples: list[BitrateSample] = []
        start = len(await self._page.evaluate("samples"))
        try:
            async with asyncio.timeout(LIMIT):
                while not condition(samples):
                    await asyncio.sleep(POLL)
                    new = await self._page.evaluate("start => samples.slice(start)", start)
                    samples = msgspec.convert(new, list[BitrateSample])
        except TimeoutError:
            raise AssertionError(f"since the last change: {summary(samples)}") from None
        return samples


@pytest.fixture
async def call(loopback: None, tmp_path: Path) -> AsyncIterator[QualityCall]:
    """Yield a call without members through Janus, with a bitrate budget for its room."""
    async with AsyncExitStack() as stack:
        rules = QualityRules(room_budget=BUDGET, ceiling=CEILING)
        gateway = await stack.enter_async_context(start_gateway("janus", rules))
        video_file = tmp_path / "texture.y4m"
        write_texture(video_file)
        from_file = f"--use-file-for-fake-video-capture={video_file}"
        browser = await stack.enter_async_context(chromium(FAKE_DEVICES, CAMERA_GRANTED, from_file))
        page = await browser.new_page()
        await page.route("**/*", serve)
        await page.goto("http://localhost/")
        yield QualityCall(gateway, page)


def write_texture(path: Path, width: int = 320, height: int = 240, frames: int = 60) -> None:
    """Write a video that VP8 encodes at any target bitrate between 130 and 400 kbit/s (measured)."""
    generator = np.random.default_rng(1)
    texture = generator.normal(0, 30, (height // 8, width // 8)).repeat(8, 0).repeat(8, 1)
    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W{width} H{height} F20:1 Ip A1:1 C420jpeg\n".encode())
        for step in range(frames):
            luma = 128 + np.roll(texture, 4 * step, axis=1) + generator.normal(0, 4, texture.shape)
            file.write(b"FRAME\n" + luma.clip(16, 235).astype(np.uint8).tobytes() + b"\x80" * (width * height // 2))


async def serve(route: Route) -> None:
    await route.fulfill(body=PAGE, content_type="text/html")


@pytest.mark.full
@pytest.mark.timeout(600)
async def test_page_sends_its_share_while_other_members_join_and_leave(call: QualityCall) -> None:
    await call.change(2)
    await call.publish()
    for publishers in (2, 8, 4):  # the shares differ by more than the tolerances of ``follows``
        share = await call.change(publishers)
        await call.samples_until(partial(follows, share=share))
        later = await call.samples_until(lambda samples: len(samples) >= OBSERVED_SAMPLES)
        assert max(sample.available for sample in later) <= 1.05 * share, summary(later)


def follows(samples: list[BitrateSample], share: int) -> bool:
    """Return whether the encoder's target has come near the share, and the last samples do not exceed it."""
    last = samples[-WINDOW:]
    return (
        len(last) == WINDOW
        and any(0.8 * share <= sample.target <= 1.2 * share for sample in samples)
        and all(sample.available <= 1.05 * share for sample in last)
        and sent_bitrate(last) <= 1.1 * share
    )


def sent_bitrate(samples: list[BitrateSample]) -> float:
    """Return the bit/s that were sent from the first sample to the last."""
    first, last = samples[0], samples[-1]
    return (last.bytes - first.bytes) * 8 / (last.time - first.time)


def summary(samples: list[BitrateSample]) -> str:
    """Return available, target and sent kbit/s of every fourth sample, for the message of a failed assertion."""
    return ", ".join(
        f"{first.available / 1000:.0f}/{first.target / 1000:.0f}/{sent_bitrate([first, last]) / 1000:.0f}"
        for first, last in pairwise(samples[::4])
    )
