"""The in-process SFU divides work for many PeerConnections among iterations of the event loop."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack

import pytest
from OpenSSL import SSL

from mcu.base import PublishOptions, SubscribeOptions
from mcu.inprocess.backend import InprocessMcu
from mcu.inprocess.connection_turns import ConnectionTurns
from mcu.inprocess.publisher import OFFERED_PER_ITERATION
from sdp.document import Description
from tests.mcu.contract.clients import KEY, SubscribingClient, sender
from tests.mcu.descriptions import parse_frozen
from tests.mcu.inprocess.transport.test_peer_transport import connection
from tests.media.peers import SubscribingPeer

CALLERS = 20
PAIRS = 6  # of PeerConnections
SUBSCRIBERS = 10


class TurnCounter:
    """Counts the iterations of the event loop; ``turn`` is the number of the current one."""

    def __init__(self) -> None:
        self.turn = 0
        self._count()

    def _count(self) -> None:
        self.turn += 1
        self._handle = asyncio.get_running_loop().call_soon(self._count)

    def stop(self) -> None:
        """Stop counting."""
        self._handle.cancel()


async def test_each_caller_gets_a_turn_of_its_own_in_order() -> None:
    turns, counter = ConnectionTurns(), TurnCounter()
    returned: list[tuple[int, int]] = []

    async def take(number: int) -> None:
        await turns.take()
        returned.append((number, counter.turn))

    tasks = [asyncio.create_task(take(number)) for number in range(CALLERS)]
    await asyncio.sleep(0)
    tasks[CALLERS // 2].cancel()
    await asyncio.wait(tasks, timeout=30)
    counter.stop()
    assert [number for number, _ in returned] == [number for number in range(CALLERS) if number != CALLERS // 2]
    assert max(Counter(turn for _, turn in returned).values()) == 1
    await asyncio.wait_for(turns.take(), 30)  # returns at once: no other caller waits


async def test_each_step_of_a_dtls_handshake_gets_a_turn_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: Counter[int] = Counter()
    turns, counter = ConnectionTurns(), TurnCounter()
    original = SSL.Connection.bio_write

    def count_step(connection: SSL.Connection, record: bytes) -> int:
        steps[counter.turn] += 1
        return original(connection, record)

    monkeypatch.setattr(SSL.Connection, "bio_write", count_step)
    async with AsyncExitStack() as stack:
        await asyncio.gather(*(stack.enter_async_context(connection(turns.take)) for _ in range(PAIRS)))
        counter.stop()
        assert sum(steps.values()) >= 4 * PAIRS
        assert max(steps.values()) <= 2  # a step of this iteration, and one that ``asyncio.wait_for`` resumes late


class CountingSubscriber(SubscribingClient):
    """A subscriber that counts the offers that it gets in each iteration of the event loop, in ``offered``."""

    def __init__(self, counter: TurnCounter, offered: Counter[int]) -> None:
        super().__init__(SubscribingPeer())
        self.answers = False
        self._counter = counter
        self._offered = offered

    def on_offer(self, offer: Description) -> None:
        self._offered[self._counter.turn] += 1


@pytest.mark.full
async def test_changed_media_are_offered_to_few_subscribers_in_one_turn(mcu: InprocessMcu) -> None:
    offered: Counter[int] = Counter()
    async with sender(35, audio=False, channels=()) as alice:
        text = await alice.peer.offer()
        alice.publisher, answer = await mcu.publish(KEY, parse_frozen(text), PublishOptions(), alice)
        await alice.peer.accept(answer)
        counter = TurnCounter()
        clients = [CountingSubscriber(counter, offered) for _ in range(SUBSCRIBERS)]
        for client in clients:
            subscriber, offer = await mcu.subscribe(KEY, SubscribeOptions(), client)
            await subscriber.accept(parse_frozen(await client.peer.answer(offer)))
        await alice.publisher.update(
            parse_frozen(text.replace("a=sendrecv", "a=inactive").replace("a=sendonly", "a=inactive"))
        )
        async with asyncio.timeout(30):
            while sum(offered.values()) < SUBSCRIBERS:  # noqa: ASYNC110 - turn by turn
                await asyncio.sleep(0)
        counter.stop()
        assert max(offered.values()) <= OFFERED_PER_ITERATION
        for client in clients:
            await client.leave()
