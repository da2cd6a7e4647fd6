"""Sessions that make the gateway hold much memory, and rooms too long to join (docs/protocol.md, "Limits")."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.core.acknowledged import FEATURE
from gateway.tools.talk_client import RequestRefused, TalkClient
from tests.abuse.scene import running

pytestmark = pytest.mark.full

SESSIONS = 134
LONG_FEATURES = [f"feature-{number:02}".ljust(64, "x") for number in range(63)] + [
    FEATURE
]  # the most that limits permit


async def test_sessions_that_never_acknowledge_in_a_crowded_room_are_bounded_in_memory(tmp_path: Path) -> None:
    async with running(tmp_path) as scene, scene.undisturbed(memory=64 << 20):
        members = [
            await scene.attacker(f"mallory {number}", room="crowded", features=LONG_FEATURES)
            for number in range(SESSIONS)
        ]
        async with TalkClient(scene.url, scene.cloud.url) as newcomer:
            await newcomer.hello(scene.cloud.ticket("newcomer"))
            await newcomer.join("crowded")
            seen: set[str] = set()
            newcomer.on_message = lambda message: seen.update(
                entry["sessionid"] for entry in message.get("event", {}).get("join", ())
            )
            for message in newcomer.messages:
                newcomer.on_message(message)
            async with asyncio.timeout(10):
                while len(seen) <= SESSIONS:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            await newcomer.request("room", {"roomid": ""})  # its session is still open
        for member in members:
            member.writer.transport.abort()


async def test_features_beyond_the_limits_are_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as scene, scene.undisturbed(memory=16 << 20):
        for features in (("x" * 60_000,), ("x",) * 10_000):
            async with TalkClient(scene.url, scene.cloud.url, features=features) as mallory:
                with pytest.raises(RequestRefused, match="limit_exceeded"):
                    await mallory.hello(scene.cloud.ticket("mallory"))
