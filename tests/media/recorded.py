"""A publisher of video encoded beforehand, which costs next to no CPU."""

from __future__ import annotations

import asyncio
import time
from fractions import Fraction
from typing import Any

import av
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError
from av.video.frame import VideoFrame

from tests.media.peers import PublishingPeer
from tests.media.signals import draw
from tests.media.tracks import FRAMES_PER_SECOND, VIDEO_CLOCK

FRAMES = 2 * FRAMES_PER_SECOND  # a loop of two seconds that begins with a keyframe


def record(number: int, bits_per_second: int = 100_000) -> list[bytes]:
    """Return pictures that show ``number``, encoded as VP8."""
    encoder = av.CodecContext.create("libvpx", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    first = draw(number, 0)
    encoder.width, encoder.height, encoder.pix_fmt = first.width, first.height, "yuv420p"
    encoder.bit_rate, encoder.time_base = bits_per_second, Fraction(1, FRAMES_PER_SECOND)
    encoder.options = {"deadline": "realtime", "cpu-used": "8", "auto-alt-ref": "0", "lag-in-frames": "0"}
    packets = []
    for step in range(FRAMES):
        frame: VideoFrame = draw(number, step).reformat(format="yuv420p")
        frame.pts, frame.time_base = step, encoder.time_base
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    return [bytes(packet) for packet in packets]


class RecordedTrack(MediaStreamTrack):
    """A video track that repeats encoded pictures."""

    kind = "video"

    def __init__(self, recording: list[bytes]) -> None:
        super().__init__()
        self._recording = recording
        self._step = 0
        self._begun = time.monotonic()

    async def recv(self) -> av.Packet[Any]:
        """Return the next packet when it is time for it."""
        await asyncio.sleep(max(0.0, self._begun + self._step / FRAMES_PER_SECOND - time.monotonic()))
        if self.readyState != "live":
            raise MediaStreamError
        packet = av.Packet(self._recording[self._step % len(self._recording)])
        packet.pts, packet.time_base = self._step * VIDEO_CLOCK // FRAMES_PER_SECOND, Fraction(1, VIDEO_CLOCK)
        self._step += 1
        return packet


class RecordedPeer(PublishingPeer):
    """A publisher of encoded pictures, without audio."""

    def __init__(self, recording: list[bytes]) -> None:
        super().__init__(0, 0.0, audio=False, video=False, channels=())
        self.pc.addTransceiver(RecordedTrack(recording), direction="sendonly")
