"""A working day of three real Janus behind one backend, with media from end to end."""

from __future__ import annotations

import pytest

from mcu.base import CloseReason, SfuState, StreamKey
from mcu.janus.streams.publisher import JanusPublisher
from tests.mcu.janus.conftest import Call, Heard
from tests.mcu.janus.several import Several, comes_to, key, several
from tests.media import PublishingPeer, WatchingPeer
from tests.media.loopback import loopback

__all__ = ["loopback"]


class Stream:
    """A publisher with one subscriber."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.key: StreamKey = key(f"{number}")
        self.publisher: JanusPublisher
        self.peer: PublishingPeer
        self.watcher: WatchingPeer
        self.heard: tuple[Heard, Heard]

    async def open(self, call: Call) -> None:
        """Publish and watch it, and see the picture."""
        self.publisher, self.peer, heard = await call.publisher(self.number, key=self.key, video=True, channels=False)
        _, self.watcher, watching = await call.subscriber(self.key)
        self.heard = heard, watching
        await self.flows()

    async def flows(self) -> None:
        """See and hear it, and that nothing has ended."""
        await self.watcher.wait_for_picture(self.number)
        await self.watcher.wait_for_tone(self.peer.frequency)
        assert [heard.closed for heard in self.heard] == [[], []]

    async def is_lost(self) -> None:
        """Wait until both are told, and close what is left of the peers."""
        for heard in self.heard:
            assert await heard.end() is CloseReason.LOST
        await self.peer.close()
        await self.watcher.close()


async def becomes(pool: Several, place: int, state: SfuState) -> None:
    await pool.states.until(lambda _: pool.status(place).state is state)


@pytest.mark.full
async def test_three_are_balanced_one_is_drained_one_dies_and_comes_back(loopback: None) -> None:
    async with several(3) as pool:
        await pool.start()
        call = pool.call()
        first = [Stream(1), Stream(2), Stream(3)]
        for stream in first:
            await stream.open(call)
        assert await pool.rooms() == [1, 1, 1]
        assert await pool.handles() == [2, 2, 2]
        kept, lost, other = first

        pool.change(0, draining=True)
        await pool.reload()
        await kept.flows()
        late = Stream(4)
        await late.open(call)
        assert await pool.rooms() == [1, 2, 1]

        await pool.janus[1].kill()
        await lost.is_lost()
        await late.is_lost()
        for stream in (kept, other):
            await stream.flows()
        for stream in (lost, late):
            await stream.open(call)  # where they are taken: neither the one that is drained, nor the dead one
        assert [len(await pool.janus[place].rooms()) for place in (0, 2)] == [1, 3]

        await kept.publisher.close()
        await becomes(pool, 0, SfuState.STOPPED)
        assert (await pool.janus[0].rooms(), await pool.janus[0].handles()) == ([], [])

        await pool.janus[1].start()
        await becomes(pool, 1, SfuState.READY)
        again = Stream(5)
        await again.open(call)
        for stream in (lost, late, other):
            await stream.flows()
        assert await pool.rooms() == [0, 1, 3]
        for stream in (lost, late, other, again):
            await stream.publisher.close()
        await comes_to(pool.rooms, [0, 0, 0])
        await comes_to(pool.handles, [0, 0, 0])
