"""Datagrams that reach the in-process SFU before ICE: it keeps none of them, and reads no long ones."""

from __future__ import annotations

import asyncio
import re
import socket
from pathlib import Path

import pytest

from tests.abuse.scene import running
from tests.sdp.recorded import BY_ID

pytestmark = pytest.mark.full

INPROCESS = '[mcu]\ntype = "inprocess"\n[mcu.inprocess]\naddress = "127.0.0.1"\n'
RECORD = bytes([22, 0xFE, 0xFD]) + bytes(8) + (1187).to_bytes(2, "big") + bytes(1187)  # of a DTLS handshake
# a STUN message with 15,000 attributes, and without credentials
CHECK = bytes([0, 1]) + (60_000).to_bytes(2, "big") + bytes.fromhex("2112a442") + bytes(12) + b"\x80\x99\0\0" * 15_000


@pytest.mark.parametrize(("datagram", "count"), [(RECORD, 30_000), (CHECK, 5000)], ids=["DTLS", "STUN"])
async def test_datagrams_before_ice_are_not_kept(tmp_path: Path, datagram: bytes, count: int) -> None:
    async with running(tmp_path, mcu=INPROCESS) as scene, scene.undisturbed(memory=16 << 20):
        attacker = await scene.attacker("mallory", room="den")
        payload = {"type": "offer", "sdp": BY_ID["chromium/camera.offer.sdp"].text}
        data = {"type": "offer", "sid": "1", "roomType": "video", "payload": payload}
        while (joined := await attacker.receive()).get("event", {}).get("type") != "join":
            pass
        recipient = {"type": "session", "sessionid": joined["event"]["join"][0]["sessionid"]}
        attacker.send({"id": "o", "type": "message", "message": {"recipient": recipient, "data": data}})
        while "answer" not in (text := str(await attacker.receive())):
            assert '"error"' not in text
        found = re.search(r"candidate:\S+ 1 udp \d+ 127\.0\.0\.1 (\d+)", text)
        assert found is not None
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for number in range(count):
                stranger.sendto(datagram, ("127.0.0.1", int(found[1])))
                if number % 20 == 0:
                    await asyncio.sleep(0.001)  # so that the gateway, not the socket, has to drop them
