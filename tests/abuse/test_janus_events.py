"""Frames of many broken events on an event connection of Janus: they hold up no client.

Source: docs/janus.md, "Events". The SFU is not there, and its events are decoded all the same.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import aiohttp
import pytest

from gateway.edge.janus_events import MESSAGE_LIMIT, SUBPROTOCOL
from tests.abuse.scene import PATIENCE, Scene, running

pytestmark = pytest.mark.full

DURATION = 2.0  # seconds of a flood
MCU = '[mcu]\ntype = "janus"\n[[mcu.janus]]\nurl = "ws://127.0.0.1:9"\n'  # a port on which nothing listens
EVENTS = ["0", '{"type":1}', '{"type":2,"event":{}}']


async def test_frames_of_many_broken_events_delay_no_client(tmp_path: Path) -> None:
    async with running(tmp_path, mcu=MCU) as scene, scene.undisturbed(memory=32 << 20):
        sent = await asyncio.gather(*[flood(scene, event) for event in EVENTS])
        assert min(sent) > 0


async def flood(scene: Scene, event: str) -> int:
    """Send the longest frames of an event for ``DURATION``; return how many frames the gateway has received."""
    frame = "[" + ",".join([event] * ((MESSAGE_LIMIT - 2) // (len(event) + 1))) + "]"
    count = 0
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{scene.url}/spreed", protocols=[SUBPROTOCOL]) as janus,
    ):
        end = time.monotonic() + DURATION
        while time.monotonic() < end:
            await janus.send_str(frame)
            count += 1
        async with asyncio.timeout(PATIENCE):
            await janus.close()  # the gateway answers when it has received all frames
        assert janus.close_code == 1000
    return count
