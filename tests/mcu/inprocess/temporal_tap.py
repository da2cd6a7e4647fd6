"""Observation of the temporal layers of VP8 that the in-process SFU receives and forwards.

The SFU's own counters show whether a packet was forwarded: no rate and no time is measured.
"""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from mcu.base import MediaKind
from mcu.inprocess.backend import InprocessMcu
from mcu.inprocess.counters import SentMediaCounters
from mcu.inprocess.forwarding import rtp
from mcu.inprocess.forwarding.payload_descriptor import parse_vp8
from mcu.inprocess.forwarding.rtp_stream import RtpStream

PICTURES = 5  # of each temporal layer that are looked at
WAIT = 60.0  # seconds; a slow machine sends less than a picture of the highest layer per second


class TemporalTap:
    """Records the packets of the RTP stream that is forwarded to the only subscriber; retransmissions are left out."""

    def __init__(self, mcu: InprocessMcu, monkeypatch: pytest.MonkeyPatch) -> None:
        self.base_pictures = 0  # of temporal layer 0, forwarded since the beginning
        self._mcu = mcu
        self._timestamp: int | None = None  # of the newest picture
        self._packets: list[tuple[int, int, bool]] = []  # timestamp, temporal layer, and whether it was forwarded
        self._arrived = asyncio.Event()
        receive = RtpStream.receive

        def tapped(stream: RtpStream, packet: rtp.RtpPacket, now: float) -> None:
            octets = self._sent().bytes
            receive(stream, packet, now)
            sent = self._sent()
            if stream.kind is not MediaKind.VIDEO or packet.ssrc == stream.rtx_ssrc or sent.substream is None:
                return
            if stream is stream.track.rtp_streams[sent.substream]:
                self._record(packet, forwarded=sent.bytes > octets)

        monkeypatch.setattr(RtpStream, "receive", tapped)

    def _sent(self) -> SentMediaCounters:
        (stream,) = self._mcu.counters()
        return next(medium for medium in stream.subscribers[0].media if medium.kind == "video")

    def _record(self, packet: rtp.RtpPacket, *, forwarded: bool) -> None:
        vp8 = parse_vp8(packet.payload)
        if vp8 is None:
            return
        if packet.timestamp != self._timestamp:
            self._timestamp = packet.timestamp
            self.base_pictures += forwarded and vp8.temporal_layer == 0
        self._packets.append((packet.timestamp, vp8.temporal_layer, forwarded))
        self._arrived.set()

    def _begin(self) -> int | None:
        """Forget the packets so far, and return the timestamp of the picture that may be incomplete."""
        self._packets.clear()
        return self._timestamp

    async def until_forwarded(self, layer: int) -> None:
        """Wait until a picture of a temporal layer is forwarded."""
        self._begin()
        async with asyncio.timeout(WAIT):
            while not any(forwarded for _, sent, forwarded in self._packets if sent == layer):
                await self._next_packet()

    async def forwarded_layers(self, sent: int) -> set[int]:
        """Return which of the ``sent`` temporal layers are forwarded from the next picture on.

        Waits for ``PICTURES`` pictures of each layer, and checks that a layer is forwarded completely or not at all.
        """
        incomplete = self._begin()
        pictures: dict[int, int] = {}  # temporal layer by timestamp
        async with asyncio.timeout(WAIT):
            while any(Counter(pictures.values())[layer] < PICTURES for layer in range(sent)):
                await self._next_packet()
                pictures = {at: layer for at, layer, _ in self._packets if at != incomplete}
        assert set(pictures.values()) == set(range(sent))
        packets = {(layer, forwarded) for at, layer, forwarded in self._packets if at != incomplete}
        all_or_none = dict(packets)
        assert len(all_or_none) == len(packets), "a layer is forwarded in part"
        return {layer for layer, forwarded in packets if forwarded}

    async def _next_packet(self) -> None:
        self._arrived.clear()
        await self._arrived.wait()
