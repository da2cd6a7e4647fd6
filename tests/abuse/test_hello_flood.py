"""Floods of hellos and leaves delay neither joins of members nor hellos with the right secret (reference 3.7, 14.1)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from pathlib import Path

import pytest
from aiohttp import web

from gateway.tools.fake_nextcloud import FakeNextcloud, RecordedRequest
from gateway.tools.talk_client import Json, TalkClient
from tests.abuse.scene import running
from tests.abuse.test_internal_clients import CONFIGURATION, internal_client
from tests.gateway.edge.raw_client import masked

pytestmark = pytest.mark.full

STRANGERS = 900
LEAVING = 100  # sessions that end at once
GUESSERS, INTERNALS = 40, 10  # connections at a time with wrong secrets, and with the right one
DURATION = 2.0  # seconds
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


async def test_member_joins_while_hundreds_of_sessions_leave(tmp_path: Path) -> None:
    cloud = SlowNextcloud()
    async with (
        running(tmp_path, cloud=cloud) as scene,
        scene.undisturbed(memory=64 << 20),
        TalkClient(scene.url, cloud.url) as member,
    ):
        await member.hello(cloud.ticket("member"))
        leaving = [await scene.attacker(f"mallory {number}", room=f"den {number}") for number in range(LEAVING)]
        cloud.slow = True
        for client in leaving:
            client.send({"id": "b", "type": "bye", "bye": {}})
        for client in leaving:
            while (await client.receive())["type"] != "bye":
                pass
            client.writer.transport.abort()
        before = len(cloud.requests)
        await member.join("one")
        asked = [request.body.get("userid") for request in cloud.requests[before:]]
        assert asked.index("member") <= LEAVING // 2


async def test_right_secrets_are_accepted_during_a_flood_of_wrong_ones(tmp_path: Path) -> None:
    async with running(tmp_path, CONFIGURATION) as scene, scene.undisturbed(memory=64 << 20):
        end = time.monotonic() + DURATION

        async def guess() -> None:
            while time.monotonic() < end:
                async with await scene.connect() as client:
                    params = {"random": "r" * 32, "token": "0" * 64, "backend": scene.cloud.url}
                    auth = {"type": "internal", "params": params}
                    hello = json.dumps({"type": "hello", "hello": {"version": "1.0", "auth": auth}})
                    with contextlib.suppress(ConnectionError, TimeoutError):
                        client.writer.write(masked(hello) * 50)
                        async with asyncio.timeout(max(end - time.monotonic(), 0.1)):
                            await client.wait_closed()

        async def enter() -> None:
            while time.monotonic() < end:
                async with await internal_client(scene) as client:
                    client.send({"type": "bye", "bye": {}})
                    assert (await client.receive())["type"] == "bye"

        await asyncio.gather(*(guess() for _ in range(GUESSERS)), *(enter() for _ in range(INTERNALS)))
        async with await internal_client(scene):
            pass
    assert len([line for line in scene.lines if "level=warning" in line]) <= 5  # and not one for each guess
