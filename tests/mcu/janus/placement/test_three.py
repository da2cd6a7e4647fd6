"""Three real Janus behind one backend, with media from end to end: balancing, draining, a failure, a restart."""

from __future__ import annotations

import pytest

from mcu.base import CloseReason, SfuState, StreamKey
from mcu.janus.streams.publisher import JanusPublisher
from tests.mcu.janus.conftest import JanusCall, WaitableListener
from tests.mcu.janus.janus_group import JanusGroup, start_several, stream_key, until_equal
from tests.media import PublishingPeer, SubscribingPeer
from tests.media.loopback import loopback

pytestmark = pytest.mark.usefixtures("janus_version")

__all__ = ["loopback"]


class StreamWithSubscriber:
    """A published stream with one subscriber."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.key: StreamKey = stream_key(f"{number}")
        self.publisher: JanusPublisher
        self.peer: PublishingPeer
        self.watcher: SubscribingPeer
        self.listeners: tuple[WaitableListener, WaitableListener]

    async def open(self, call: JanusCall) -> None:
        """Publish the stream, subscribe to it, and wait for its video."""
        self.publisher, self.peer, listener = await call.publish(self.number, key=self.key, video=True, channels=False)
        _, self.watcher, subscribed = await call.subscribe(self.key)
        self.listeners = listener, subscribed
        await self.wait_for_media()

    async def wait_for_media(self) -> None:
        """Wait for video and audio, and check that neither publisher nor subscriber was closed."""
        await self.watcher.wait_for_picture(self.number)
        await self.watcher.wait_for_tone(self.peer.frequency)
        assert [listener.closed for listener in self.listeners] == [[], []]

    async def wait_until_lost(self) -> None:
        """Wait until both listeners get LOST, and close the peers."""
        for listener in self.listeners:
            assert await listener.close_reason() is CloseReason.LOST
        await self.peer.close()
        await self.watcher.close()


async def until_state(group: JanusGroup, index: int, state: SfuState) -> None:
    await group.states.until(lambda _: group.status(index).state is state)


@pytest.mark.full
async def test_three_janus_are_balanced_one_is_drained_one_is_killed_and_started_again(loopback: None) -> None:
    async with start_several(3) as group:
        await group.start()
        call = group.new_call()
        first = [StreamWithSubscriber(1), StreamWithSubscriber(2), StreamWithSubscriber(3)]
        for stream in first:
            await stream.open(call)
        assert await group.room_counts() == [1, 1, 1]
        assert await group.handle_counts() == [2, 2, 2]
        kept, lost, other = first

        group.change(0, draining=True)
        await group.reload()
        await kept.wait_for_media()
        late = StreamWithSubscriber(4)
        await late.open(call)
        assert await group.room_counts() == [1, 2, 1]

        await group.janus[1].kill()
        await lost.wait_until_lost()
        await late.wait_until_lost()
        for stream in (kept, other):
            await stream.wait_for_media()
        for stream in (lost, late):
            await stream.open(call)  # neither on the draining nor on the killed Janus
        assert [len(await group.janus[place].rooms()) for place in (0, 2)] == [1, 3]

        await kept.publisher.close()
        await until_state(group, 0, SfuState.STOPPED)
        assert (await group.janus[0].rooms(), await group.janus[0].handles()) == ([], [])

        await group.janus[1].start()
        await until_state(group, 1, SfuState.READY)
        again = StreamWithSubscriber(5)
        await again.open(call)
        for stream in (lost, late, other):
            await stream.wait_for_media()
        assert await group.room_counts() == [0, 1, 3]
        for stream in (lost, late, other, again):
            await stream.publisher.close()
        await until_equal(group.room_counts, [0, 0, 0])
        await until_equal(group.handle_counts, [0, 0, 0])
