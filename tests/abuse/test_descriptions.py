"""Floods of session descriptions: limited in bytes, which bound their CPU time (docs/protocol.md, "Limits")."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.abuse.scene import Scene, running
from tests.gateway.edge.raw_client import TEXT

pytestmark = pytest.mark.full

SIZE = 64_000  # bytes of JSON, near the limit of a message
OFFERS = 250  # more than the burst of a session
SENDERS = 8
OFFERS_EACH = 20  # within the burst
IN_PROCESS = '[mcu]\ntype = "inprocess"\n[mcu.inprocess]\naddress = "127.0.0.1"\n'
# so that a slow machine, too, handles fewer offers than are sent
LOW_RATES = "[limits]\ndescription_bytes_per_second = 1000\nbytes_per_second = 1000\n"
HEAD = (
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\na=fingerprint:sha-256 AA:BB\r\n"
    "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\na=rtcp-mux\r\na=sendonly\r\na=setup:actpass\r\n"
    "a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\na=rtpmap:96 VP8/90000\r\n"
)
LINES: dict[str, Callable[[int], str]] = {
    "candidates": lambda index: f"a=candidate:{index} 1 udp 1 192.0.2.{index % 250} {index + 1} typ host\r\n",
    "rids": lambda index: f"a=rid:{index} send pt=96,97,98,99\r\n",
    "simulcast": lambda index: f"a=simulcast:send {index};a;b;c;d\r\n",
    "groups": lambda index: f"a=group:BUNDLE {index} {index + 1}\r\n",
    "sections": lambda index: f"m=video 9 UDP/TLS/RTP/SAVPF 96 97 98\r\na=mid:{index + 1}\r\n",
    "short lines": lambda index: "a=x\r\n",
}


def offer(line: Callable[[int], str]) -> str:
    """Return a message with an offer that is filled with lines of one form, near the limit of a message's size."""
    text, index = HEAD, 0
    while len(json.dumps(text + line(index))) < SIZE:
        text += line(index)
        index += 1
    data = {"type": "offer", "sid": "1", "roomType": "video", "payload": {"type": "offer", "sdp": text}}
    body = {"recipient": {"type": "session", "sessionid": "own"}, "data": data}
    return json.dumps({"id": "offer", "type": "message", "message": body})


@pytest.mark.parametrize("form", sorted(LINES))
async def test_flood_of_large_offers_reaches_the_limits_and_ends_its_connection(tmp_path: Path, form: str) -> None:
    async with running(tmp_path, LOW_RATES, mcu=IN_PROCESS) as scene, scene.undisturbed(memory=64 << 20):
        errors = await flood(scene, offer(LINES[form]))
        assert errors["too_many_requests"] > 1
        assert await scene.limits_met("description_bytes_per_second") > 0
        assert await scene.limits_met("bytes_per_second") == 1  # which closed the connection


async def test_large_offers_of_several_senders_delay_no_other_client(tmp_path: Path) -> None:
    async with running(tmp_path, mcu=IN_PROCESS) as scene, scene.undisturbed(memory=64 << 20):
        senders = [await scene.attacker(f"mallory {number}", room="attacked") for number in range(SENDERS)]
        message = offer(LINES["rids"])
        for sender in senders:
            for _ in range(OFFERS_EACH):
                sender.send(message)
            sender.send({"id": "end", "type": "message"})
        for sender in senders:  # until all offers have been read
            while (await sender.receive()).get("id") != "end":
                pass
            sender.writer.transport.abort()


async def flood(scene: Scene, message: str) -> Counter[str]:
    """Send an offer many times at once until the connection is closed; return the error codes of the replies."""
    async with await scene.attacker("mallory", room="attacked") as client:

        async def send() -> None:
            with contextlib.suppress(ConnectionError):
                for _ in range(OFFERS):
                    client.send(message)
                    await client.writer.drain()

        sending = asyncio.create_task(send())
        errors: Counter[str] = Counter()
        async with asyncio.timeout(60):
            while True:
                opcode, payload = await client.frame()
                if opcode != TEXT:
                    break
                errors[json.loads(payload).get("error", {}).get("code", "")] += 1
            await sending
        return errors
