"""Without an SFU: what clients say to each other arrives over real sockets byte for byte (reference 5.2)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from gateway.app import Gateway
from gateway.config import Config, HttpSection, McuSection, SessionsSection
from gateway.tools.fake_nextcloud import FakeNextcloud

ROOM = "r"
SECRET = "6f1b0c7d9ae24835b6cf01d27e9a4488"
PATIENCE = 10.0

# Each is `data` as it is sent: spaces, order, doubled keys and spelling of numbers and letters are to be kept.
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
    '{"type":null,"type":"offer","payload":null,"payload":[]}',
    '{"type":"offer","bitrate":1.50e3,"sid":-0.0,"payload":{"sdp":"\\u0076=0\\/"}}',
    '{"roomType":"video"}',
    "{}",
    '[ {"type":"offer"} ]',
    '"offer"',
    "17.0",
    "false",
]
ALL = [*WELL_FORMED, *MALFORMED]


@dataclass
class Person:
    """One session, on a socket whose frames are looked at as they are."""

    name: str
    id: str
    socket: aiohttp.ClientWebSocketResponse

    async def hears(self) -> str:
        """Return the next frame."""
        return await self.socket.receive_str(timeout=PATIENCE)

    async def hears_of_type(self, kind: str) -> Any:
        """Return the next message of one type; those before it are passed over."""
        while True:
            message = json.loads(await self.hears())
            if message["type"] == kind:
                return message

    async def says(self, recipient: dict[str, str], data: str) -> None:
        """Send a message whose data are spelled like this."""
        await self.socket.send_str(
            f'{{"type":"message","message":{{"recipient":{json.dumps(recipient)},"data":{data}}}}}'
        )


@dataclass
class Call:
    """Alice and Bob, in one call."""

    alice: Person
    bob: Person


@pytest.fixture
async def call() -> AsyncIterator[Call]:
    async with AsyncExitStack() as stack:
        nextcloud = await stack.enter_async_context(FakeNextcloud())
        gateway = Gateway(
            Config(
                sessions=SessionsSection(secret=SECRET),
                http=HttpSection(listen=("127.0.0.1:0",)),
                backends=(nextcloud.backend(),),
                mcu=McuSection(type="none"),
            )
        )
        (url,) = await gateway.start()
        stack.push_async_callback(gateway.stop)
        http = await stack.enter_async_context(aiohttp.ClientSession())
        opened = Call(*[await enter(http, url, nextcloud, name) for name in ("alice", "bob")])
        entries = [{"sessionId": f"nc-{name}", "inCall": 7} for name in ("alice", "bob")]
        incall = {"type": "incall", "incall": {"incall": 7, "changed": entries, "users": entries}}
        assert (await nextcloud.send(url, ROOM, incall))[0] == 200
        for person in (opened.alice, opened.bob):
            while (await person.hears_of_type("event"))["event"]["target"] != "participants":
                pass
        yield opened


async def enter(http: aiohttp.ClientSession, url: str, nextcloud: FakeNextcloud, name: str) -> Person:
    socket = await http.ws_connect(url + "/spreed")
    person = Person(name, "", socket)
    hello = {"version": "1.0", "auth": {"url": nextcloud.url, "params": nextcloud.ticket(name)}}
    await socket.send_json({"type": "hello", "hello": hello})
    person.id = (await person.hears_of_type("hello"))["hello"]["sessionid"]
    await socket.send_json({"type": "room", "room": {"roomid": ROOM, "sessionid": f"nc-{name}"}})
    await person.hears_of_type("room")
    return person


def relayed(sender: Person, kind: str, data: str) -> str:
    about = {"type": kind, "sessionid": sender.id, "userid": sender.name}
    envelope = json.dumps({"type": "message", "message": {"sender": about}}, separators=(",", ":"))
    return f'{envelope.removesuffix("}}")},"data":{data}}}}}'


# reference 5.2-g
@pytest.mark.parametrize("kind", ["session", "user", "room", "call"])
async def test_every_media_message_arrives_byte_for_byte(call: Call, kind: str) -> None:
    recipient = {"type": kind} | {"session": {"sessionid": call.bob.id}, "user": {"userid": "bob"}}.get(kind, {})
    for data in ALL:
        await call.alice.says(recipient, data)
    assert [await call.bob.hears() for _ in ALL] == [relayed(call.alice, kind, data) for data in ALL]


async def test_who_sends_nonsense_is_told_nothing(call: Call) -> None:
    for data in ALL:
        await call.alice.says({"type": "session", "sessionid": call.bob.id}, data)
        await call.alice.says({"type": "session", "sessionid": call.alice.id}, data)
        await call.alice.says({"type": "room"}, data)
    for _ in range(2 * len(ALL)):
        await call.bob.hears()
    await call.bob.says({"type": "session", "sessionid": call.alice.id}, '{"type":"last"}')
    assert await call.alice.hears() == relayed(call.bob, "session", '{"type":"last"}')
