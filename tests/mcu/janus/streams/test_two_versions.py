"""A stream that is forwarded between two Janus of different versions."""

from __future__ import annotations

import pytest

from mcu.base import PublishOptions, SubscribeOptions
from tests.janus_process import CURRENT, OF_THE_SYSTEM, JanusProcess, select_janus
from tests.mcu.janus.janus_group import start_all


@pytest.mark.full
@pytest.mark.parametrize(
    "versions",
    [(OF_THE_SYSTEM.version, CURRENT.version), (CURRENT.version, OF_THE_SYSTEM.version)],
    ids=["to-current", "from-current"],
)
async def test_a_stream_is_forwarded_to_a_janus_of_another_version(loopback: None, versions: tuple[str, str]) -> None:
    janus = []
    for version in versions:
        with select_janus(version):
            janus.append(JanusProcess())
    async with start_all(janus, remote_streams=True) as group:
        group.change(0, country="US")
        group.change(1, country="DE")
        await group.start()
        call = group.new_call()
        _, sender, _ = await call.publisher(5, video=True, options=PublishOptions(country="US"))
        subscriber, watcher, listener = await call.subscriber(options=SubscribeOptions(country="DE"))
        await watcher.wait_for_picture(5)
        await watcher.wait_for_tone(sender.frequency)
        assert await group.room_counts() == [1, 1]
        assert listener.closed == []
        await subscriber.close()
        await call.mcu.stop()
        await group.until_clean()
