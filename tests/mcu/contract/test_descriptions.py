"""Descriptions cross the SFU interface frozen, and are parsed and serialised once on their way through the gateway."""

from __future__ import annotations

import asyncio
import json

import pytest

from mcu.base import PublishOptions, SubscribeOptions
from tests.gateway.flows.fakes import FakeConnection
from tests.gateway.flows.harness import FakeClient, FlowHarness, Json
from tests.mcu.contract.clients import KEY, sender, viewer
from tests.mcu.contract.sfus import JanusSfu, Sfu
from tests.mcu.descriptions import is_frozen, parse_frozen
from tests.media import PublishingPeer, SubscribingPeer
from tests.media.peers import WAIT
from tests.sdp.counting import counted_calls


class RecordingConnection(FakeConnection):
    """A connection whose messages can be waited for."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self._written = asyncio.Event()

    def wake(self) -> None:
        super().wake()
        self._written.set()

    async def receive_description(self, type: str) -> tuple[str, Json]:
        """Wait for an offer or answer; return its sid and its payload."""
        async with asyncio.timeout(WAIT):
            while True:
                self._written.clear()
                messages, self.written = map(json.loads, self.written), []
                for message in messages:
                    assert message["type"] != "error", message
                    data = message.get("message", {}).get("data", {})
                    if data.get("type") == type:
                        return data["sid"], data["payload"]
                await self._written.wait()


async def test_descriptions_of_an_sfu_are_frozen(sfu: Sfu) -> None:
    async with sender(31) as alice, viewer() as carol:
        alice.publisher, answer = await sfu.mcu.publish(
            KEY, parse_frozen(await alice.peer.offer()), PublishOptions(videocodecs=("h264",)), alice
        )
        assert is_frozen(answer)
        await alice.peer.accept(answer)
        carol.subscriber, offer = await sfu.mcu.subscribe(KEY, SubscribeOptions(), carol)
        assert is_frozen(offer)
        await carol.answer(offer)
        assert is_frozen(await alice.publisher.update(parse_frozen(await alice.peer.offer())))
        assert is_frozen(await carol.subscriber.refresh())


async def test_pushed_offer_is_frozen(sfu: Sfu) -> None:
    async with sender(32, 500.0, video=False) as alice, viewer() as carol:
        await alice.publish(sfu.mcu)
        await carol.subscribe(sfu.mcu)
        await carol.peer.wait_for_tone(500.0)
        alice.peer.add_camera()
        await alice.renegotiate()
        await carol.until(lambda: bool(carol.offers), "an offer of the camera")
        assert all(map(is_frozen, carol.offers))


async def connect(harness: FlowHarness, userid: str) -> tuple[FakeClient, RecordingConnection]:
    """Return a client in the call, and its connection."""
    client = await harness.member(userid, in_call=True)
    connection = RecordingConnection(100 + len(userid))
    again = FakeClient(harness, connection)
    again.sessionid, again.resumeid = client.sessionid, client.resumeid
    again.send({"type": "hello", "hello": {"version": "1.0", "resumeid": client.resumeid}})
    return again, connection


async def test_each_description_is_parsed_and_serialised_once_in_the_gateway(sfu: Sfu) -> None:
    remote = isinstance(sfu, JanusSfu)  # only then descriptions are serialised for the SFU, too
    async with FlowHarness(sfu=sfu.mcu) as harness, PublishingPeer(33, 500.0, video=False) as peer:
        alice, to_alice = await connect(harness, "alice")
        bob, to_bob = await connect(harness, "bob")
        for _ in ("publish", "update"):
            offer = {"type": "offer", "sdp": await peer.offer()}
            with counted_calls() as counts:
                alice.media(alice, "offer", sid="1", payload=offer)
                _, answer = await to_alice.receive_description("answer")
            assert (counts.parsed, counts.serialised) == (2, 1 + remote)
            await peer.accept(answer["sdp"])
        async with SubscribingPeer() as watcher:
            with counted_calls() as counts:
                bob.media(alice, "requestoffer")
                sid, offered = await to_bob.receive_description("offer")
            assert (counts.parsed, counts.serialised) == (1, 1)
            answered = {"type": "answer", "sdp": await watcher.answer(offered["sdp"])}
            with counted_calls() as counts:
                bob.media(alice, "answer", sid=sid, payload=answered)
                await watcher.wait_for_tone(500.0)
            assert (counts.parsed, counts.serialised) == (1, int(remote))
    await sfu.clean()


@pytest.mark.parametrize("text", ["v=0\r\n", "v=0"])
def test_counting_sees_each_call(text: str) -> None:
    with counted_calls() as counts:
        description = parse_frozen(text)
        assert f"{description}" == str(description) == text
    assert (counts.parsed, counts.serialised) == (1, 2)
