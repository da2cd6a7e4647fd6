"""Hellos of strangers do not block the members' requests to Nextcloud (reference 3.7)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiohttp import web

from gateway.tools.fake_nextcloud import FakeNextcloud, RecordedRequest
from gateway.tools.talk_client import Json, TalkClient
from tests.abuse.scene import running

pytestmark = pytest.mark.full

STRANGERS = 900
SLOW = 0.1  # seconds that Nextcloud takes for an answer
AHEAD = 100  # requests of strangers that Nextcloud may get before a join, which would otherwise wait for all of them


class SlowNextcloud(FakeNextcloud):
    """A Nextcloud that answers after ``SLOW`` seconds once ``slow`` is set."""

    slow = False

    async def _record(self, seen: RecordedRequest) -> Json | web.StreamResponse | None:
        if self.slow:
            await asyncio.sleep(SLOW)
        return await super()._record(seen)


async def test_members_join_while_hundreds_of_strangers_send_hellos(tmp_path: Path) -> None:
    cloud = SlowNextcloud()
    async with running(tmp_path, cloud=cloud) as scene, scene.undisturbed(memory=64 << 20):
        async with TalkClient(scene.url, cloud.url) as member:
            await member.hello(cloud.ticket("member"))
            await member.join("one")
            cloud.slow = True
            strangers = [await scene.connect() for _ in range(STRANGERS)]
            hello = {"version": "1.0", "auth": {"url": cloud.url, "params": {"ticket": "forged"}}}
            for stranger in strangers:
                stranger.send({"type": "hello", "hello": hello})
            for number in range(4):
                before = len(cloud.requests)
                await member.join(f"room {number}")
                assert len(cloud.requests) - before <= AHEAD
            for stranger in strangers:
                stranger.writer.transport.abort()
        warnings = [line for line in scene.lines if "level=warning" in line and "no SFU is configured" not in line]
        assert len(warnings) <= 2
