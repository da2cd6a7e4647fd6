"""PeerConnections of the in-process SFU: one room or address cannot use them all (docs/operations.md, "Limits")."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.abuse.scene import running
from tests.gateway.edge.raw_client import RawClient
from tests.sdp.recorded import BY_ID

pytestmark = pytest.mark.full

CAPACITY = 80
SHARE = 70  # of one room or address
MCU = (
    f'[mcu]\ntype = "inprocess"\nallow_subscribe_any = true\n'
    f'[mcu.inprocess]\naddress = "127.0.0.1"\npeer_connections = {CAPACITY}\n'
)
SESSIONS = 60
OFFER = BY_ID["chromium/camera.offer.sdp"].text


@pytest.mark.parametrize("spread_over", ["addresses", "rooms"])
async def test_flood_of_publications_and_subscriptions_leaves_peer_connections_to_others(
    tmp_path: Path, spread_over: str
) -> None:
    async with running(tmp_path, mcu=MCU) as scene, scene.undisturbed(memory=96 << 20):
        attackers = []
        for number in range(SESSIONS):
            address = f"203.0.113.{number}" if spread_over == "addresses" else "203.0.113.1"
            room = "den" if spread_over == "addresses" else f"den {number}"
            attackers.append(await scene.attacker(f"mallory {number}", room=room, address=address))
        for attacker in attackers:
            publish_camera(attacker)
            subscribe(attacker, attackers[0].session_id)
            attacker.send({"id": "end", "type": "message"})
        refused = 0
        for attacker in attackers:
            refused += await count_refusals(attacker)
        assert refused == 2 * SESSIONS - 1 - SHARE  # the first does not subscribe to itself
        assert await scene.limits_met("peer_connections") > 0
        member = await scene.attacker("member", room="other", address="198.51.100.1")
        publish_camera(member)
        while "answer" not in (reply := str(await member.receive())):
            assert "'error'" not in reply
        for client in (*attackers, member):
            client.writer.transport.abort()


def publish_camera(client: RawClient) -> None:
    """Publish a camera."""
    data = {"type": "offer", "sid": "1", "roomType": "video", "payload": {"type": "offer", "sdp": OFFER}}
    recipient = {"type": "session", "sessionid": client.session_id}
    client.send({"id": "offer", "type": "message", "message": {"recipient": recipient, "data": data}})


def subscribe(client: RawClient, publisher: str) -> None:
    """Subscribe to a stream."""
    data = {"type": "requestoffer", "roomType": "video"}
    recipient = {"type": "session", "sessionid": publisher}
    client.send({"id": "request", "type": "message", "message": {"recipient": recipient, "data": data}})


async def count_refusals(client: RawClient) -> int:
    """Count the requests of a client that exceed a limit, until its last message is answered."""
    count = 0
    while (message := await client.receive()).get("id") != "end":
        count += message.get("error", {}).get("code") == "limit_exceeded"
    return count
