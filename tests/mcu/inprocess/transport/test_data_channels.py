"""Messages that wait for a subscriber: bounded in bytes over all its channels."""

from __future__ import annotations

from typing import cast

import pytest
from aiortc import RTCDataChannel

from mcu.inprocess import InprocessSettings
from mcu.inprocess.transport import data_channels
from mcu.inprocess.transport.data_channels import MAX_BUFFERED, SubscriberChannels
from mcu.inprocess.transport.peer_transport import PeerTransport
from tests.mcu.inprocess.transport.test_peer_transport import RecordingTransportListener


class Channel:
    """A publisher's data channel."""

    label, protocol, ordered = "status", "", True
    maxPacketLifeTime = maxRetransmits = None  # noqa: N815 - names of aiortc


@pytest.mark.parametrize("message", [bytes(60_000), "ä" * 30_000, "🙂" * 15_000], ids=["bytes", "text", "emoji"])
async def test_messages_for_channels_that_never_open_are_bounded_in_bytes(message: str | bytes) -> None:
    transport = PeerTransport(InprocessSettings(address="127.0.0.1"), RecordingTransportListener(), controlling=True)
    await transport.open()
    transport.enable_channels()
    subscriber = SubscriberChannels(transport)
    channels = [cast(RTCDataChannel, Channel()) for _ in range(data_channels.MAX_CHANNELS)]
    subscriber.start(channels)
    for channel in channels:
        for _ in range(data_channels.MAX_QUEUED):
            subscriber.send(channel, message)
    queued = sum(len(encoded) for messages in subscriber._queued.values() for encoded, _ in messages)
    assert MAX_BUFFERED - 60_000 < queued <= MAX_BUFFERED
    subscriber.close()
    await transport.close()
