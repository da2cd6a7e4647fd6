"""Payloads of codecs that aiortc cannot decode, forwarded between raw RTP peers."""

from __future__ import annotations

import asyncio
import random

import pytest
from aiortc import RTCDataChannel

from mcu.base import (
    BackendId,
    CloseReason,
    MediaKind,
    PublisherId,
    PublishOptions,
    StreamKey,
    StreamType,
    SubscribeOptions,
)
from mcu.inprocess import InprocessSettings
from mcu.inprocess.backend import InprocessMcu
from mcu.inprocess.forwarding import rtp
from mcu.inprocess.negotiation.generation import write_answer, write_offer
from mcu.inprocess.negotiation.parameters import NegotiatedCodec, SubscriberSection
from mcu.inprocess.negotiation.parsing import read_answer, read_offer
from mcu.inprocess.transport.peer_transport import PeerTransport
from sdp.codecs import CodecPreference, Payload, PayloadType
from tests.mcu.contract.clients import MediaClient
from tests.mcu.descriptions import parse_frozen
from tests.media import SubscribingPeer

KEY = StreamKey(BackendId("cloud"), PublisherId("alice"), StreamType.VIDEO)
SETTINGS = InprocessSettings(address="127.0.0.1")
WAIT = 60.0
PACKETS = 50
FORMATS = {
    "h265": "level-id=93;tx-mode=SRST",
    "av1": "level-idx=5;profile=0;tier=0",
    "vp9": "profile-id=2",
    "h264": "level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=64001f",
}


class RawPeer:
    """A peer that sends raw RTP, and records the payloads that it receives."""

    def __init__(self, *, controlling: bool) -> None:
        self.connected = asyncio.Event()
        self.payloads: list[bytes] = []
        self.changed = asyncio.Event()
        self.transport = PeerTransport(SETTINGS, self, controlling=controlling)

    def send(self, number: int, payload: bytes) -> None:
        """Send a packet."""
        self.transport.send_rtp(rtp.HEADER.pack(rtp.VERSION_BITS, 45, number, number, 7) + payload)

    def on_ice_connected(self) -> None:
        """Ignore it: DTLS follows."""

    def on_connected(self) -> None:
        self.connected.set()

    def on_lost(self, reason: CloseReason) -> None:
        """Ignore: the test's wait times out."""

    def on_rtp(self, data: bytes) -> None:
        packet = rtp.parse(data)
        assert packet is not None
        self.payloads.append(packet.payload)
        self.changed.set()

    def on_rtcp(self, data: bytes) -> None:
        """Ignore."""

    def on_channel(self, channel: RTCDataChannel) -> None:
        """Ignore."""


@pytest.mark.parametrize("codec", FORMATS)
async def test_payloads_are_forwarded_unchanged(codec: str, mcu: InprocessMcu) -> None:
    alice, carol = RawPeer(controlling=True), RawPeer(controlling=False)
    listener = MediaClient(SubscribingPeer())
    section = SubscriberSection(
        MediaKind.VIDEO,
        "0",
        True,
        NegotiatedCodec(Payload(PayloadType(45), codec, 90000, 1, FORMATS[codec])),
        7,
        8,
        "c",
    )
    offer = write_offer([section], await alice.transport.open(), setup="actpass", version=1)
    _, answer = await mcu.publish(KEY, parse_frozen(str(offer)), PublishOptions(), listener)
    _, remote = read_answer(answer, [section])
    assert remote is not None
    alice.transport.connect(remote, dtls_client=False)
    subscriber, offer = await mcu.subscribe(KEY, SubscribeOptions(), listener)
    parsed = read_offer(offer, CodecPreference())
    assert parsed.sections[0] is not None
    assert parsed.sections[0].codec is not None
    assert parsed.transport is not None
    assert parsed.sections[0].codec.payload.fmtp == FORMATS[codec]
    local = await carol.transport.open()
    carol.transport.connect(parsed.transport, dtls_client=True)
    await subscriber.accept(write_answer(parsed, local, dtls_client=True, version=1))
    async with asyncio.timeout(WAIT):
        await asyncio.gather(alice.connected.wait(), carol.connected.wait())
        sent = [random.randbytes(random.randrange(1, 1200)) for _ in range(PACKETS)]
        probes = 0
        while not carol.payloads:  # until both connections are up on the SFU's side as well
            alice.send(probes, b"probe")
            probes += 1
            await asyncio.sleep(0.01)
        for number, payload in enumerate(sent, probes):
            alice.send(number, payload)
        while carol.payloads[-1] != sent[-1]:
            carol.changed.clear()
            await carol.changed.wait()
    assert carol.payloads[-PACKETS:] == sent
    await alice.transport.close()
    await carol.transport.close()
    await listener.leave()
