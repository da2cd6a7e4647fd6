"""Endless tracks for the tests, at frame rates that two small cores can encode."""

from __future__ import annotations

import asyncio
import time
from fractions import Fraction

from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError
from av import AudioFrame, VideoFrame

from tests.media.signals import SAMPLE_RATE, draw, sine_wave

FRAMES_PER_SECOND = 10
VIDEO_CLOCK = 90000
AUDIO_SAMPLES = SAMPLE_RATE // 50  # 20 ms


class NumberTrack(MediaStreamTrack):
    """A video track whose pictures show a number."""

    kind = "video"

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number
        self._step = 0
        self._begun = time.monotonic()

    async def recv(self) -> VideoFrame:
        """Return the next picture when it is time for it."""
        await _wait(self, self._begun + self._step / FRAMES_PER_SECOND)
        frame = draw(self.number, self._step)
        frame.pts = self._step * VIDEO_CLOCK // FRAMES_PER_SECOND
        frame.time_base = Fraction(1, VIDEO_CLOCK)
        self._step += 1
        return frame


class ToneTrack(MediaStreamTrack):
    """An audio track of one frequency."""

    kind = "audio"

    def __init__(self, frequency: float) -> None:
        super().__init__()
        self.frequency = frequency
        self._sample = 0
        self._begun = time.monotonic()

    async def recv(self) -> AudioFrame:
        """Return the next 20 ms when it is time for them."""
        await _wait(self, self._begun + self._sample / SAMPLE_RATE)
        frame = sine_wave(self.frequency, self._sample, AUDIO_SAMPLES)
        frame.pts = self._sample
        frame.time_base = Fraction(1, SAMPLE_RATE)
        self._sample += AUDIO_SAMPLES
        return frame


async def _wait(track: MediaStreamTrack, until: float) -> None:
    if track.readyState != "live":
        raise MediaStreamError
    await asyncio.sleep(max(0.0, until - time.monotonic()))
