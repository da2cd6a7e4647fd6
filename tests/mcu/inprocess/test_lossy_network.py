"""A call over a bad line: 5 % loss and 50 ms of jitter between the publisher and the SFU, both ways, for 30 s."""

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
SECONDS = 30.0
SEEDS = (1, 2, 3)
ENOUGH = 0.85
WIDTH, HEIGHT, FRAMES_PER_SECOND = 640, 360, 25
PACKETS_PER_FRAME = 2  # at least, on average: packets of one picture overtake one another


class Scene(MediaStreamTrack):
    """Moves without end, so that each picture takes several packets."""

    kind = "video"

    def __init__(self) -> None:
        super().__init__()
        self.frames = 0
        self._begun = time.monotonic()
        self._chance = np.random.default_rng(1)
        self._scene = self._chance.integers(0, 255, (HEIGHT // 4, WIDTH // 4), dtype=np.uint8).repeat(4, 0).repeat(4, 1)

    async def recv(self) -> VideoFrame:
        """Return the next picture when it is time for it."""
        await asyncio.sleep(max(0.0, self._begun + self.frames / FRAMES_PER_SECOND - time.monotonic()))
        luma = np.roll(self._scene, (self.frames * 3, self.frames * 5), axis=(0, 1))
        chroma = np.full((HEIGHT // 2, WIDTH), 128, dtype=np.uint8)
        frame = VideoFrame.from_ndarray(np.vstack((luma, chroma)), format="yuv420p")
        frame.pts, frame.time_base = self.frames * 90_000 // FRAMES_PER_SECOND, Fraction(1, 90_000)
        self.frames += 1
        return frame


async def share_decoded(seed: int) -> float:
    """Return which share of the frames sent was decoded."""
    mcu = InprocessMcu(InprocessSettings(address="127.0.0.1"))
    await mcu.start(lambda status: None)
    try:
        async with sender(video=False) as alice, viewer() as carol:
            scene = Scene()
            alice.peer.pc.addTransceiver(scene, direction="sendonly")
            await alice.publish(mcu)
            await carol.subscribe(mcu)
            await carol.peer.until(lambda: sum(carol.peer.frames.values()) > FRAMES_PER_SECOND, "a picture")
            mcu.impair(KEY, loss=LOSS, jitter=JITTER, seed=seed)
            sent, decoded = scene.frames, sum(carol.peer.frames.values())
            await asyncio.sleep(SECONDS)
            sent, decoded = scene.frames - sent, sum(carol.peer.frames.values()) - decoded
            (stream,) = mcu.counters()
            picture = next(medium.layers[0] for medium in stream.media if medium.kind == "video")
            print(f"seed {seed}: {decoded} of {sent} frames decoded; {picture}")  # noqa: T201
            assert picture.packets > PACKETS_PER_FRAME * sent
            assert picture.lost > picture.packets * LOSS / 2
            assert sent > SECONDS * FRAMES_PER_SECOND / 2
    finally:
        await mcu.stop()
    return decoded / sent


@pytest.mark.full
async def test_picture_survives_a_bad_line(loopback: None) -> None:
    shares = [await share_decoded(seed) for seed in SEEDS]
    assert statistics.median(shares) >= ENOUGH, f"decoded {shares}"
