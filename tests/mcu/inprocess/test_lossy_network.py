"""A call with 5 % loss and 50 ms of jitter between the publisher and the SFU, in both directions, for 300 frames."""

from __future__ import annotations

import asyncio
import statistics
import time
from fractions import Fraction

import numpy as np
import pytest
from aiortc import MediaStreamTrack
from av import VideoFrame

from mcu.inprocess import InprocessSettings
from mcu.inprocess.backend import InprocessMcu
from tests.mcu.contract.clients import KEY, sender, viewer

LOSS, JITTER = 0.05, 0.05
FRAMES = 300  # 12 s on a machine that is fast enough
WAIT = 120.0  # seconds
SEEDS = (1, 2, 3)
MIN_DECODED_SHARE = 0.85
WIDTH, HEIGHT, FRAMES_PER_SECOND = 640, 360, 25
MIN_PACKETS_PER_FRAME = 2  # on average: so packets of one picture are reordered


class MovingTrack(MediaStreamTrack):
    """A video track whose moving pictures take several packets each."""

    kind = "video"

    def __init__(self) -> None:
        super().__init__()
        self.frames = 0
        self._begun = time.monotonic()
        self._picture = (
            np.random.default_rng(1)
            .integers(0, 255, (HEIGHT // 4, WIDTH // 4), dtype=np.uint8)
            .repeat(4, 0)
            .repeat(4, 1)
        )

    async def recv(self) -> VideoFrame:
        """Return the next picture when it is time for it."""
        await asyncio.sleep(max(0.0, self._begun + self.frames / FRAMES_PER_SECOND - time.monotonic()))
        luma = np.roll(self._picture, (self.frames * 3, self.frames * 5), axis=(0, 1))
        chroma = np.full((HEIGHT // 2, WIDTH), 128, dtype=np.uint8)
        frame = VideoFrame.from_ndarray(np.vstack((luma, chroma)), format="yuv420p")
        frame.pts, frame.time_base = self.frames * 90_000 // FRAMES_PER_SECOND, Fraction(1, 90_000)
        self.frames += 1
        return frame


async def decoded_share(seed: int) -> float:
    """Return the share of the sent frames that the subscriber decoded."""
    mcu = InprocessMcu(InprocessSettings(address="127.0.0.1"))
    await mcu.start(lambda status: None)
    try:
        async with sender(video=False) as alice, viewer() as carol:
            track = MovingTrack()
            alice.peer.pc.addTransceiver(track, direction="sendonly")
            await alice.publish(mcu)
            await carol.subscribe(mcu)
            await carol.peer.until(lambda: sum(carol.peer.frames.values()) > FRAMES_PER_SECOND, "a picture")
            mcu.impair(KEY, loss=LOSS, jitter=JITTER, seed=seed)
            sent, decoded = track.frames, sum(carol.peer.frames.values())
            async with asyncio.timeout(WAIT):
                while track.frames < sent + FRAMES:  # noqa: ASYNC110  aiortc's sender sets no event
                    await asyncio.sleep(0.1)
            sent, decoded = track.frames - sent, sum(carol.peer.frames.values()) - decoded
            (stream,) = mcu.counters()
            video = next(medium.layers[0] for medium in stream.media if medium.kind == "video")
            print(f"seed {seed}: {decoded} of {sent} frames decoded; {video}")  # noqa: T201
            assert video.packets > MIN_PACKETS_PER_FRAME * sent
            assert video.lost > video.packets * LOSS / 2
    finally:
        await mcu.stop()
    return decoded / sent


@pytest.mark.full
@pytest.mark.timeout(600)
async def test_most_frames_are_decoded_on_a_lossy_network(loopback: None) -> None:
    shares = [await decoded_share(seed) for seed in SEEDS]
    assert statistics.median(shares) >= MIN_DECODED_SHARE, f"decoded {shares}"
