"""SCTP messages that never end, sent to the in-process SFU: they end the data channels of their sender alone.

Source: docs/mcu.md; ``mcu.inprocess.transport.aiortc_internals.sctp`` has the bounds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest
from aiortc.rtcsctptransport import DataChunk, RTCSctpTransport

from mcu.inprocess.transport.aiortc_internals.sctp import MAX_STREAMS
from tests.abuse.scene import PATIENCE, running
from tests.abuse.test_stream_loops import MCU, publish
from tests.media.peers import PublishingPeer

pytestmark = pytest.mark.full

DURATION = 2.0  # seconds
AT_ONCE = 64  # chunks that are not acknowledged
PAUSE = 0.005  # seconds
LOST_AFTER = 0.2  # seconds without an acknowledgement, after which chunks are sent again
BEGIN, WHOLE = 2, 3  # flags of a DATA chunk: first fragment of a message, unfragmented message
CHANNEL = "status"


def chunk(flags: int, size: int, stream: int = 0) -> DataChunk:
    """Return a chunk of a binary message; the TSN is set later."""
    data = DataChunk(flags)
    data.stream_id, data.stream_seq, data.protocol, data.user_data = stream, 0, 53, bytes(size)
    return data


# Each function returns the n-th chunk that is sent; no message has a last fragment.
ENDLESS: dict[str, Callable[[int], DataChunk]] = {
    "long chunks": lambda number: chunk(0 if number else BEGIN, 1000),
    "short chunks": lambda number: chunk(0 if number else BEGIN, 1),
    "many streams": lambda number: chunk(BEGIN, 100, number % MAX_STREAMS),
}


async def test_endless_messages_end_the_data_channels_of_their_sender(tmp_path: Path) -> None:
    async with running(tmp_path, mcu=MCU) as scene, AsyncExitStack() as stack:
        names = [*ENDLESS, "gap", "member"]
        peers = {name: await stack.enter_async_context(PublishingPeer(1, 440.0, video=False)) for name in names}
        clients = [await publish(scene, peer, name) for name, peer in peers.items()]
        for peer in peers.values():
            await peer.until(partial(is_in_state, peer, "open"), "a data channel")
        async with scene.undisturbed(memory=16 << 20):
            floods = [flood(peers[name], form) for name, form in ENDLESS.items()]
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(*floods, leave_gap(peers["gap"]))
        assert is_in_state(peers["member"], "open")
        for client in clients:
            client.writer.transport.abort()
    assert len([line for line in scene.lines if "sent a message without end" in line]) == len(ENDLESS)
    assert not [line for line in scene.lines if "Traceback" in line or "level=error" in line]


async def flood(peer: PublishingPeer, form: Callable[[int], DataChunk]) -> None:
    """Send chunks until the data channels have ended, and for ``DURATION`` at least."""
    association = peer.pc.sctp
    assert association is not None
    first, sent, acknowledged = association._local_tsn, 0, 0
    end, lost_at = time.monotonic() + DURATION, time.monotonic() + LOST_AFTER
    while time.monotonic() < end or not is_in_state(peer, "closed"):
        if is_in_state(peer, "closed"):
            acknowledged = sent
        elif (received := association._last_sacked_tsn + 1 - first & 0xFFFFFFFF) > acknowledged:
            acknowledged, lost_at = received, time.monotonic() + LOST_AFTER
        elif time.monotonic() > lost_at:
            sent, lost_at = acknowledged, time.monotonic() + LOST_AFTER
        await send(association, first, range(max(sent, acknowledged), acknowledged + AT_ONCE), form)
        sent = acknowledged + AT_ONCE
        await asyncio.sleep(PAUSE)


async def leave_gap(peer: PublishingPeer) -> None:
    """Send whole messages for ``DURATION``, but never the first one, for which the others have to wait."""
    association = peer.pc.sctp
    assert association is not None
    first, end, number = association._local_tsn, time.monotonic() + DURATION, 1
    while time.monotonic() < end:
        await send(association, first, range(number, number + AT_ONCE), lambda number: chunk(WHOLE, 1000))
        number += AT_ONCE
        await asyncio.sleep(PAUSE)


def is_in_state(peer: PublishingPeer, state: str) -> bool:
    """Return whether the data channel of a peer is in a state; the gateway closes it when it ends the association."""
    return peer.channels[CHANNEL].readyState == state


async def send(association: RTCSctpTransport, first: int, numbers: range, form: Callable[[int], DataChunk]) -> None:
    """Send chunks at once; ``first`` is the TSN of the chunk with number 0."""
    for number in numbers:
        data = form(number)
        data.tsn = first + number & 0xFFFFFFFF
        await association._send_chunk(data)
