"""The in-process SFU alone in a process, told by lines of JSON on its standard input what to do (see ``bench.sfu``)."""

from __future__ import annotations

import asyncio
import sys

import msgspec

from mcu.base import (
    BackendId,
    Candidate,
    Closed,
    Kind,
    PublisherId,
    PublishOptions,
    StreamKey,
    StreamType,
    SubscribeOptions,
)
from mcu.inprocess import Settings
from mcu.inprocess.backend import InprocessMcu
from mcu.inprocess.subscriber import Subscriber

KEY = StreamKey(BackendId("bench"), PublisherId("publisher"), StreamType.VIDEO)


class Order(msgspec.Struct):
    """One line from the load generator."""

    do: str  # "publish", "subscribe", "accept", "stop"
    sdp: str = ""
    subscriber: int = 0


class Answer(msgspec.Struct):
    """One line back."""

    sdp: str = ""
    subscriber: int = 0


class Deaf:
    """A listener of a stream that nothing happens to."""

    def on_candidate(self, candidate: Candidate | None) -> None:
        """Never called: candidates are within the descriptions."""

    def on_offer(self, sdp: str) -> None:
        """Never called: the media do not change."""

    def on_media(self, kind: Kind, flowing: bool) -> None:
        """Be told."""

    def on_closed(self, why: Closed) -> None:
        """Be told."""


async def serve() -> None:
    """Carry out orders until there are no more."""
    mcu = InprocessMcu(Settings(address="127.0.0.1"))
    await mcu.start(lambda status: None)
    subscribers: list[Subscriber] = []
    reader = asyncio.StreamReader(limit=1 << 20)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        order = msgspec.json.decode(line, type=Order)
        answer = Answer()
        if order.do == "publish":
            _, answer.sdp = await mcu.publish(KEY, order.sdp, PublishOptions(), Deaf())
        elif order.do == "subscribe":
            subscriber, answer.sdp = await mcu.subscribe(KEY, SubscribeOptions(), Deaf())
            answer.subscriber = len(subscribers)
            subscribers.append(subscriber)
        elif order.do == "accept":
            await subscribers[order.subscriber].accept(order.sdp)
        sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
        sys.stdout.buffer.flush()
    await mcu.stop()


if __name__ == "__main__":
    asyncio.run(serve())
