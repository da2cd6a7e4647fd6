"""Loops of requests for streams of the in-process SFU (docs/operations.md, "Limits")."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from gateway.tools.talk_client import Json
from tests.abuse.scene import PATIENCE, Scene, running
from tests.gateway.edge.raw_client import RawClient
from tests.media.peers import PublishingPeer

pytestmark = pytest.mark.full

MCU = '[mcu]\ntype = "inprocess"\nallow_subscribe_any = true\n[mcu.inprocess]\naddress = "127.0.0.1"\n'
ROOM = "den"
PUBLISHERS = 4
ATTACKERS = 80
BURST = 100  # requests of one session
LIMITS = f"[limits]\nstream_requests_per_second = 10\nstream_requests_burst = {BURST}\n"


async def test_loops_of_requests_for_streams_delay_no_other_client(tmp_path: Path) -> None:
    """Each request opens a PeerConnection in place of the one before it."""
    async with (
        running(tmp_path, LIMITS, mcu=MCU) as scene,
        AsyncExitStack() as stack,
    ):
        publishers = [await publish_camera(scene, stack, f"publisher {number}") for number in range(PUBLISHERS)]
        attackers = [await scene.attacker(f"mallory {number}", room=ROOM) for number in range(ATTACKERS)]
        async with scene.undisturbed(memory=96 << 20):
            await asyncio.gather(*(request_all(attacker, publishers) for attacker in attackers))
        assert await scene.limits_met("stream_requests_per_second") > 0
        for client in (*attackers, *publishers):
            client.writer.transport.abort()


async def publish_camera(scene: Scene, stack: AsyncExitStack, name: str) -> RawClient:
    """Publish a camera that is connected; return the publishing client."""
    peer = await stack.enter_async_context(PublishingPeer(1, 440.0, audio=False, channels=()))
    return await publish(scene, peer, name)


async def publish(scene: Scene, peer: PublishingPeer, name: str) -> RawClient:
    """Publish the media of a peer until it is connected; return the publishing client."""
    client = await scene.attacker(name, room=ROOM)
    payload = {"type": "offer", "sdp": await peer.offer()}
    client.send(message_to(client, {"type": "offer", "sid": "1", "roomType": "video", "payload": payload}))
    while (data := (await client.receive()).get("message", {}).get("data", {})).get("type") != "answer":
        pass
    await peer.accept(data["payload"]["sdp"])
    await peer.wait_until_connected(PATIENCE)
    return client


async def request_all(client: RawClient, publishers: list[RawClient]) -> None:
    """Request the streams in turn, more often than the limit permits, and wait for the reply to the last request."""
    requests = [message_to(publisher, {"type": "requestoffer", "roomType": "video"}) for publisher in publishers]
    for message in [*requests * (2 * BURST // PUBLISHERS), {"id": "end", "type": "message"}]:
        client.send(message)
        await asyncio.sleep(0.005)
    while (await client.receive()).get("id") != "end":
        pass


def message_to(recipient: RawClient, data: Json) -> Json:
    """Return a message to the session of a client."""
    return {
        "type": "message",
        "message": {"recipient": {"type": "session", "sessionid": recipient.session_id}, "data": data},
    }
