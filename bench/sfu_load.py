"""RTP peers without codecs: a publisher that sends frames encoded beforehand, and subscribers that count packets.

Each packet carries its send time in its last bytes; some of the subscribers decrypt their packets and read it. The
peers use the in-process SFU's own transport and SDP functions, which work for either end of a connection.
"""

from __future__ import annotations

import asyncio
import random
import time
from fractions import Fraction

import numpy as np
from aiortc import RTCDataChannel
from aiortc.codecs.vpx import Vp8Encoder
from av import VideoFrame

from mcu.base import CloseReason, MediaKind
from mcu.inprocess import InprocessSettings
from mcu.inprocess.forwarding import rtp
from mcu.inprocess.negotiation.generation import write_answer, write_offer
from mcu.inprocess.negotiation.parameters import (
    EXTENSION_IDS,
    MID,
    LocalTransportDescription,
    NegotiatedCodec,
    SubscriberSection,
)
from mcu.inprocess.negotiation.parsing import read_answer, read_offer
from mcu.inprocess.transport.peer_transport import PeerTransport
from sdp.codecs import CodecPreference, Payload, PayloadType
from sdp.document import parse

WIDTH, HEIGHT, FRAMES_PER_SECOND = 1280, 720, 30
BITS_PER_SECOND = 1_000_000
FRAMES = 60  # encoded once, sent in a loop
CLOCK_RATE = 90_000  # Hz, of RTP timestamps
STAMP_SIZE = 8  # bytes at the end of a packet: its send time in ns
_VP8 = Payload(PayloadType(96), "vp8", CLOCK_RATE, 1, feedback=("nack", "nack pli", "goog-remb"))
_RTX = Payload(PayloadType(97), "rtx", CLOCK_RATE, 1, fmtp="apt=96", apt=PayloadType(96))


def encoded_frames() -> list[list[bytes]]:
    """Return the RTP payloads of each of ``FRAMES`` frames; the first is a keyframe."""
    encoder = Vp8Encoder()
    encoder.target_bitrate = BITS_PER_SECOND
    generator = np.random.default_rng(1)
    still = generator.integers(0, 255, (HEIGHT // 8, WIDTH // 8), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    frames = []
    for number in range(FRAMES):
        luma = np.roll(still, number * 4, axis=1)
        chroma = np.full((HEIGHT // 2, WIDTH), 128, dtype=np.uint8)
        frame = VideoFrame.from_ndarray(np.vstack((luma, chroma)), format="yuv420p")
        frame.pts, frame.time_base = number * CLOCK_RATE // FRAMES_PER_SECOND, Fraction(1, CLOCK_RATE)
        payloads, _ = encoder.encode(frame, force_keyframe=number == 0)
        frames.append(payloads)
    return frames


class _Peer:
    """A transport whose peer is the SFU; it ignores all media."""

    def __init__(self, *, controlling: bool) -> None:
        self.connected = asyncio.Event()
        self.transport = PeerTransport(InprocessSettings(address="127.0.0.1"), self, controlling=controlling)

    def on_ice_connected(self) -> None:
        """Ignore the event: DTLS follows."""

    def on_connected(self) -> None:
        """Set ``connected``."""
        self.connected.set()

    def on_lost(self, reason: CloseReason) -> None:
        """Ignore the event: the packet counts show the loss."""

    def on_rtp(self, data: bytes) -> None:
        """Ignore the packet."""

    def on_rtcp(self, data: bytes) -> None:
        """Ignore the packet."""

    def on_channel(self, channel: RTCDataChannel) -> None:
        """Ignore the channel."""

    async def close(self) -> None:
        """End the connection."""
        await self.transport.close()


class RtpPublisher(_Peer):
    """Sends encoded frames at their frame rate."""

    def __init__(self, frames: list[list[bytes]]) -> None:
        super().__init__(controlling=True)
        self._frames = frames
        self.packets = 0  # sent
        ssrc = random.getrandbits(32)
        self._section = SubscriberSection(
            MediaKind.VIDEO,
            "0",
            codec=NegotiatedCodec(_VP8, _RTX),
            ssrc=ssrc,
            rtx_ssrc=ssrc ^ 1,
            cname="bench",
            stream_id="bench",
            track_id="video",
        )
        self._local: LocalTransportDescription | None = None
        self._task: asyncio.Task[None] | None = None

    async def offer(self) -> str:
        """Return an offer."""
        self._local = await self.transport.open()
        return str(write_offer([self._section], self._local, setup="actpass", version=1))

    async def accept(self, answer: str) -> None:
        """Apply the answer."""
        _, remote = read_answer(parse(answer), [self._section])
        if remote is None:
            raise RuntimeError("the SFU rejects the video")
        self.transport.connect(remote, dtls_client=remote.setup != "active")

    def start(self) -> None:
        """Start to send frames, in a task."""
        self._task = asyncio.create_task(self._send())

    async def close(self) -> None:
        """Stop sending and end the connection."""
        if self._task is not None:
            self._task.cancel()
        await super().close()

    async def _send(self) -> None:
        extension = rtp.pack_extension([(EXTENSION_IDS["video"][MID], b"0")])
        flags = rtp.VERSION_BITS | rtp.EXTENSION_BIT
        sequence, frame_number, begun = 0, 0, time.monotonic()
        while True:
            frame = self._frames[frame_number % len(self._frames)]
            for index, payload in enumerate(frame):
                marker_and_type = _VP8.type | (0x80 if index == len(frame) - 1 else 0)
                timestamp = frame_number * CLOCK_RATE // FRAMES_PER_SECOND & 0xFFFFFFFF
                header = rtp.HEADER.pack(flags, marker_and_type, sequence & 0xFFFF, timestamp, self._section.ssrc)
                stamp = time.monotonic_ns().to_bytes(STAMP_SIZE, "big")
                self.transport.send_rtp(header + extension + payload[:-STAMP_SIZE] + stamp)
                sequence += 1
                self.packets += 1
            frame_number += 1
            await asyncio.sleep(max(0.0, begun + frame_number / FRAMES_PER_SECOND - time.monotonic()))


class RtpSubscriber(_Peer):
    """Counts received packets; a ``probe`` also decrypts them and records their delays in seconds."""

    def __init__(self, *, probe: bool = False) -> None:
        super().__init__(controlling=False)
        self.packets = 0
        self.delays: list[float] = []
        self._probe = probe

    async def answer(self, offer: str) -> str:
        """Apply an offer and return the answer."""
        read = read_offer(parse(offer), CodecPreference())
        local = await self.transport.open()
        assert read.transport is not None
        self.transport.connect(read.transport, dtls_client=True)
        return str(write_answer(read, local, dtls_client=True, version=1))

    def on_connected(self) -> None:
        """Set ``connected``; from then on only a probe decrypts its packets, the other subscribers count them."""
        super().on_connected()
        if not self._probe:
            self.transport._ice.receive_srtp = self._count

    def on_rtp(self, data: bytes) -> None:
        """Count a packet and record its delay."""
        now = time.monotonic_ns()
        packet = rtp.parse(data)
        if packet is not None and packet.payload_type == _VP8.type:
            self.packets += 1
            self.delays.append((now - int.from_bytes(packet.payload[-STAMP_SIZE:], "big")) / 1e9)

    def _count(self, data: bytes) -> None:
        if data[1] & 0x7F == _VP8.type:
            self.packets += 1
