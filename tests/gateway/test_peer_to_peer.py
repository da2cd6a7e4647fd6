"""Media messages between clients without an SFU are relayed byte for byte (reference 5.2), over real sockets."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from gateway.config import McuSection
from gateway.tools.fake_nextcloud import FakeNextcloud
from gateway.tools.talk_rooms import nextcloud_session
from tests.gateway.running import running_gateway

ROOM = "r"
WAIT_TIMEOUT = 30.0

# Each is `data` as sent: white space, order, duplicate keys, and the spelling of numbers and escapes must be kept.
WELL_FORMED = [
    '{"type":"offer","sid":"1","roomType":"video","payload":{"type":"offer","sdp":"v=0\\r\\ns=-\\r\\n"}}',
    '{ "payload" : { "sdp":"v=0\\r\\n", "type":"answer" },\t"roomType":"screen", "type":"answer" }',
    '{"type":"candidate","roomType":"video","payload":{"candidate":{"candidate":"","sdpMid":"0","sdpMLineIndex":0}}}',
    '{"type":"endOfCandidates","roomType":"video","payload":{}}',
    '{"type":"requestoffer","roomType":"video"}',
    '{"type":"sendoffer","roomType":"video"}',
    '{"type":"selectStream","roomType":"video","payload":{"substream":1,"temporal":2}}',
    '{"type":"unshareScreen","roomType":"screen"}',
    '{"type":"nickChanged","payload":{"name":"\\u00c4da \\ud83d\\ude00 Ää😀"}}',
]
MALFORMED = [
    '{"type":"offer"}',
    '{"type":"offer","roomType":"video","payload":{}}',
    '{"type":"offer","roomType":"video","payload":{"sdp":17}}',
    '{"type":"offer","roomType":"video","payload":{"sdp":"junk"}}',
    '{"type":"offer","roomType":"video","payload":"v=0"}',
    '{"type":"offer","roomType":"nonsense","payload":{"type":"offer","sdp":"v=0\\r\\n"}}',
    '{"type":"answer","roomType":7,"payload":{"sdp":"v=0\\r\\na=candidate:nonsense\\r\\n"}}',
    '{"type":"candidate","roomType":"video"}',
    '{"type":"candidate","roomType":"video","payload":{"candidate":"a string"}}',
    '{"type":"candidate","roomType":"video","payload":{"candidate":{"candidate":5}}}',
    '{"type":"candidate","roomType":"nonsense","payload":{"candidate":{"candidate":"candidate:nonsense"}}}',
    '{"type":"selectStream","payload":{"substream":"high"}}',
    '{"type":"nonsense","roomType":"nonsense","bitrate":"fast"}',
    '{"type":"","roomType":"video"}',
    '{"type":"offer","roomType":7,"roomType":"nonsense","payload":null,"payload":[]}',
    '{"type":"offer","bitrate":1.50e3,"sid":-0.0,"payload":{"sdp":"\\u0076=0\\/"}}',
    '{"roomType":"video"}',
    "{}",
    '[ {"type":"offer"} ]',
    '"offer"',
    "17.0",
    "false",
]
ALL_DATA = [*WELL_FORMED, *MALFORMED]


@dataclass
class RawSession:
    """A client with a session, whose frames are compared as text."""

    name: str
    id: str
    socket: aiohttp.ClientWebSocketResponse

    async def receive(self) -> str:
        """Return the next frame."""
        return await self.socket.receive_str(timeout=WAIT_TIMEOUT)

    async def receive_of_type(self, message_type: str) -> Any:
        """Return the next message of one type, skipping others."""
        while True:
            message = json.loads(await self.receive())
            if message["type"] == message_type:
                return message

    async def send(self, recipient: dict[str, str], data: str) -> None:
        """Send a message with this text as ``data``."""
        await self.socket.send_str(
            f'{{"type":"message","message":{{"recipient":{json.dumps(recipient)},"data":{data}}}}}'
        )


@dataclass
class CallOfTwo:
    """The sessions of Alice and Bob, in one call."""

    alice: RawSession
    bob: RawSession


@pytest.fixture
async def call() -> AsyncIterator[CallOfTwo]:
    async with AsyncExitStack() as stack:
        nextcloud = await stack.enter_async_context(FakeNextcloud())
        _, url = await stack.enter_async_context(running_gateway(nextcloud, mcu=McuSection(type="none")))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        opened = CallOfTwo(*[await enter(http, url, nextcloud, name) for name in ("alice", "bob")])
        for name in ("alice", "bob"):
            await nextcloud.talk.set_in_call(ROOM, nextcloud_session(name), 7)
            for session in (opened.alice, opened.bob):
                while (await session.receive_of_type("event"))["event"]["target"] != "participants":
                    pass
        yield opened


async def enter(http: aiohttp.ClientSession, url: str, nextcloud: FakeNextcloud, name: str) -> RawSession:
    socket = await http.ws_connect(url + "/spreed")
    session = RawSession(name, "", socket)
    hello = {"version": "1.0", "auth": {"url": nextcloud.url, "params": nextcloud.ticket(name)}}
    await socket.send_json({"type": "hello", "hello": hello})
    session.id = (await session.receive_of_type("hello"))["hello"]["sessionid"]
    await socket.send_json({"type": "room", "room": {"roomid": ROOM, "sessionid": nextcloud_session(name)}})
    await session.receive_of_type("room")
    return session


def relayed(sender: RawSession, recipient_type: str, data: str) -> str:
    about = {"type": recipient_type, "sessionid": sender.id, "userid": sender.name}
    envelope = json.dumps({"type": "message", "message": {"sender": about}}, separators=(",", ":"))
    return f'{envelope.removesuffix("}}")},"data":{data}}}}}'


# reference 5.2-g
@pytest.mark.parametrize("recipient_type", ["session", "user", "room", "call"])
async def test_media_messages_are_relayed_byte_for_byte(call: CallOfTwo, recipient_type: str) -> None:
    recipient = {"type": recipient_type} | {"session": {"sessionid": call.bob.id}, "user": {"userid": "bob"}}.get(
        recipient_type, {}
    )
    for data in ALL_DATA:
        await call.alice.send(recipient, data)
    assert [await call.bob.receive() for _ in ALL_DATA] == [
        relayed(call.alice, recipient_type, data) for data in ALL_DATA
    ]


async def test_malformed_media_messages_are_relayed_without_an_error(call: CallOfTwo) -> None:
    for data in ALL_DATA:
        await call.alice.send({"type": "session", "sessionid": call.bob.id}, data)
        await call.alice.send({"type": "session", "sessionid": call.alice.id}, data)
        await call.alice.send({"type": "room"}, data)
    for _ in range(2 * len(ALL_DATA)):
        await call.bob.receive()
    await call.bob.send({"type": "session", "sessionid": call.alice.id}, '{"type":"last"}')
    assert await call.alice.receive() == relayed(call.bob, "session", '{"type":"last"}')
