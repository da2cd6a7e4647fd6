"""A gateway with the in-process SFU, controlled by lines of JSON on its standard input (see ``bench.sfu``).

It runs on the same sort of loop as ``portunus serve``, so that the SFU's work delays relayed messages as it does there.
"""

from __future__ import annotations

import asyncio
import sys

import msgspec
import uvloop

from gateway.app import Gateway
from gateway.config import Config, HttpSection, McuSection, NextcloudSection, SessionsSection
from gateway.core.limits import Limits
from mcu.base import (
    BackendId,
    CloseReason,
    IceCandidate,
    MediaKind,
    PublisherId,
    PublishOptions,
    StreamKey,
    StreamType,
    SubscribeOptions,
    Subscriber,
    TransportState,
)
from mcu.inprocess import InprocessSettings
from sdp.document import Description, parse

KEY = StreamKey(BackendId("bench"), PublisherId("publisher"), StreamType.VIDEO)


class Command(msgspec.Struct):
    """One command line of the load generator."""

    do: str  # "publish", "subscribe", "accept"
    sdp: str = ""
    subscriber: int = 0


class HostReply(msgspec.Struct):
    """One line of the reply."""

    sdp: str = ""
    subscriber: int = 0
    port: int = 0  # of the gateway, once it listens


class IgnoringListener:
    """A stream listener that ignores all events."""

    def on_candidate(self, candidate: IceCandidate | None) -> None:
        """Never called: candidates are within the descriptions."""

    def on_offer(self, offer: Description) -> None:
        """Never called: the media do not change."""

    def on_media(self, kind: MediaKind, flowing: bool) -> None:
        """Ignore the event."""

    def on_transport(self, state: TransportState) -> None:
        """Ignore the event."""

    def on_closed(self, reason: CloseReason) -> None:
        """Ignore the event."""


def config() -> Config:
    """Return the configuration of a gateway that accepts any backend, with the SFU on 127.0.0.1."""
    return Config(
        sessions=SessionsSection(secret="bench-0f3b9c1e5d7a48268e4b1c6d9a2f7053"),
        http=HttpSection(listen=("127.0.0.1:0",)),
        nextcloud=NextcloudSection(allow_any=True, secret="bench-6a1d4e8f2b7c49039d5e0f8a3c6b1274"),
        mcu=McuSection(type="inprocess", settings=InprocessSettings(address="127.0.0.1")),
        limits=Limits(messages_per_second=0, relayed_bytes_per_second=0),
    )


def say(reply: HostReply) -> None:
    """Write one line of the reply."""
    sys.stdout.buffer.write(msgspec.json.encode(reply) + b"\n")
    sys.stdout.buffer.flush()


async def serve() -> None:
    """Run commands until the input ends."""
    gateway = Gateway(config())
    (url,) = await gateway.start()
    mcu = gateway.mcu
    if mcu is None:
        raise RuntimeError("the gateway has no SFU")
    subscribers: list[Subscriber] = []
    reader = asyncio.StreamReader(limit=1 << 20)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    say(HostReply(port=int(url.rpartition(":")[2])))
    while line := await reader.readline():
        command = msgspec.json.decode(line, type=Command)
        reply = HostReply()
        if command.do == "publish":
            _, description = await mcu.publish(KEY, parse(command.sdp).freeze(), PublishOptions(), IgnoringListener())
            reply.sdp = str(description)
        elif command.do == "subscribe":
            subscriber, description = await mcu.subscribe(KEY, SubscribeOptions(), IgnoringListener())
            reply.sdp = str(description)
            reply.subscriber = len(subscribers)
            subscribers.append(subscriber)
        elif command.do == "accept":
            await subscribers[command.subscriber].accept(parse(command.sdp).freeze())
        say(reply)
    await gateway.stop()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())
