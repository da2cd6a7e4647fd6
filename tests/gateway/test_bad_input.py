"""Bad input over real sockets: it is answered with the protocol's error and does not disturb a call."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import aioice.ice
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.edge.clients import websocket_connection
from gateway.tools.talk_rooms import nextcloud_session
from tests.conversations.levels import SocketLevel, socket_level
from tests.conversations.player import Conversation
from tests.gateway.edge.raw_client import BINARY, CLOSE, PONG, TEXT, Json, RawClient, masked
from tests.gateway.flows.media.descriptions import CANDIDATE, offer
from tests.media import PublishingPeer, SubscribingPeer
from tests.media.loopback import only_loopback

ROOM = {"type": "room"}
WITHOUT_MCU = Conversation("bad input", "", False, {}, (), ())


class CallMember:
    """A client in the call of room r."""

    def __init__(self, level: SocketLevel, wire: RawClient) -> None:
        self.level = level
        self.wire = wire
        self.sessionid = ""
        self.resumeid = ""

    async def enter(self, userid: str, room: str = "r") -> None:
        assert (await self.wire.receive())["type"] == "welcome"
        auth = {"url": self.level.url, "params": self.level.ticket(userid)}
        self.wire.send({"type": "hello", "hello": {"version": "1.0", "auth": auth}})
        reply = (await self.wire.receive())["hello"]
        self.sessionid, self.resumeid = reply["sessionid"], reply["resumeid"]
        self.wire.send({"id": "join", "type": "room", "room": {"roomid": room, "sessionid": nextcloud_session(userid)}})
        assert (await self.wire.receive())["id"] == "join"
        changed = [{"sessionId": nextcloud_session(userid), "inCall": 7}]
        await self.level.send(room, {"type": "incall", "incall": {"incall": 7, "changed": changed}})

    def send_message(self, to: CallMember, data: Any, id: str = "") -> None:
        recipient = {"type": "session", "sessionid": to.sessionid}
        self.wire.send({"id": id, "type": "message", "message": {"recipient": recipient, "data": data}})

    async def wait_for(self, type: str, **members: Any) -> Json:
        """Return the next message of a type with these members, and skip others."""
        while True:
            message = await self.wire.receive()
            if message["type"] == type and all(message.get(name) == value for name, value in members.items()):
                return message

    async def error(self, id: str | None) -> str:
        """Return the code of the next error, which answers this request."""
        message = await self.wait_for("error")
        assert message.get("id") == id, message
        code: str = message["error"]["code"]
        return code


class Call:
    """Two callers that exchange messages and fail when one is lost or late."""

    def __init__(self, one: CallMember, other: CallMember) -> None:
        self._callers = (one, other)
        self._sent = 0

    async def goes_on(self) -> None:
        """Exchange a message in each direction."""
        self._sent += 1
        for sender, receiver in (self._callers, self._callers[::-1]):
            sender.send_message(receiver, ["call", self._sent])
            message = await receiver.wait_for("message")
            assert message["message"]["data"] == ["call", self._sent]


class BadInputScene:
    """A gateway, a call, and a third client that sends bad input."""

    def __init__(self, level: SocketLevel) -> None:
        self.level = level

    async def connect(self, **options: Any) -> RawClient:
        parts = urlsplit(self.level.gateway)
        wire = await RawClient.connect((parts.hostname or "", parts.port or 0), **options)
        self.level.clients.append(wire)
        return wire

    async def caller(self, userid: str) -> CallMember:
        caller = CallMember(self.level, await self.connect())
        await caller.enter(userid)
        return caller

    async def begin(self) -> None:
        self.call = Call(await self.caller("alice"), await self.caller("bob"))
        await self.call.goes_on()
        self.mallory = await self.caller("mallory")
        self.victim = await self.caller("victim")


@asynccontextmanager
async def bad_input_scene(*, mcu: bool = True) -> AsyncIterator[BadInputScene]:
    async with socket_level(Conversation("bad input", "", mcu, {}, (), ())) as level:
        scene = BadInputScene(level)
        await scene.begin()
        yield scene
        await scene.call.goes_on()


@pytest.fixture
async def scene(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[BadInputScene]:
    monkeypatch.setattr(websocket_connection, "CLOSE_TIME", 0.1)
    async with bad_input_scene() as made:
        yield made
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def envelope(data: Any, victim: str = "$victim", id: str = "m") -> str:
    recipient = {"type": "session", "sessionid": victim}
    return json.dumps({"id": id, "type": "message", "message": {"recipient": recipient, "data": data}})


UNDECODABLE_BODIES = {
    "nothing": "",
    "blank": " ",
    "garbage": "\x00\x01 garbage",
    "no object": '["hello"]',
    "a string": '"bye"',
    "null": "null",
    "cut off": '{"id":"1","type":"message","message":{"recipient":{"type":"ro',
    "two values": '{"type":"bye"}{"type":"bye"}',
    "a number as id": '{"id":1,"type":"bye"}',
    "a number beyond 64 bit as id": '{"id":99999999999999999999999999,"type":"bye"}',
    "an object as type": '{"type":{"a":1}}',
    "a list as room": '{"type":"room","room":[]}',
    "a number as roomid": '{"type":"room","room":{"roomid":5}}',
    "a float as sessionid": '{"type":"room","room":{"roomid":"r","sessionid":1.5}}',
    "a string as recipient": '{"type":"message","message":{"recipient":"all","data":1}}',
    "a list as userid": '{"type":"message","message":{"recipient":{"type":"user","userid":[]},"data":1}}',
    "a broken escape": '{"type":"\\x"}',
    "not a number": '{"type":"message","message":{"recipient":{"type":"room"},"data":NaN}}',
    "nested brackets": "[" * 65536,
    "nested brackets in data": '{"type":"message","message":{"recipient":{"type":"room"},"data":' + "[" * 65000,
    "nested brackets that close": '{"x":' + "[" * 32000 + "]" * 32000 + "}",
    "nested brackets beside half a surrogate pair": '{"y":"\\ud800","x":' + '{"a":' * 10000 + "1" + "}" * 10000 + "}",
    "a byte order mark": '\ufeff{"type":"bye"}',
}


# reference 2.4-a
@pytest.mark.parametrize("text", UNDECODABLE_BODIES.values(), ids=UNDECODABLE_BODIES.keys())
async def test_undecodable_message_is_answered_without_an_id(scene: BadInputScene, text: str) -> None:
    scene.mallory.wire.send(text)
    assert await scene.mallory.error(None) == "invalid_format"
    await scene.call.goes_on()


@pytest.mark.parametrize("text", UNDECODABLE_BODIES.values(), ids=UNDECODABLE_BODIES.keys())
async def test_undecodable_message_before_a_hello_is_answered_without_an_id(text: str) -> None:
    async with socket_level(WITHOUT_MCU) as level:
        wire = await BadInputScene(level).connect()
        await wire.receive()
        wire.send(text)
        reply = await wire.receive()
        assert "id" not in reply
        assert reply["error"]["code"] == "invalid_format"


# reference 2.4-a
async def test_fields_of_wrong_types_do_not_disturb_a_call(scene: BadInputScene) -> None:
    wrong: list[Any] = [5, 1.5, True, [], {}, "x", 10**30, -1, [[]], {"a": None}]
    shapes = [
        ("hello", {"version": None, "resumeid": None, "features": None, "auth": None}),
        ("room", {"roomid": None, "sessionid": None}),
        ("message", {"recipient": None, "data": None}),
    ]
    for type, body in shapes:
        for field in body:
            for value in wrong:
                scene.mallory.wire.send({"id": "w", "type": type, type: {**body, field: value}})
        scene.mallory.wire.send({"id": f"after {type}", "type": "message"})
        await scene.mallory.wait_for("error", id=f"after {type}")
    await scene.call.goes_on()


NULLS: list[tuple[Json, str]] = [
    ({"id": None, "type": "message", "message": {"data": 1}}, "invalid_format"),
    ({"id": "n", "type": None}, "invalid_format"),
    ({"id": "n", "type": "room", "room": None}, "invalid_format"),
    ({"id": "n", "type": "room", "room": {"roomid": "r", "sessionid": None}}, "already_joined"),
    ({"id": "n", "type": "message", "message": None}, "invalid_format"),
    ({"id": "n", "type": "message", "message": {"recipient": None, "data": 1}}, "invalid_format"),
    ({"id": "n", "type": "message", "message": {"recipient": ROOM, "data": None}}, "invalid_format"),
    ({"id": "n", "type": "message", "message": {"recipient": {"type": None}, "data": 1}}, "invalid_format"),
    (
        {"id": "n", "type": "message", "message": {"recipient": {"type": "session", "sessionid": None}, "data": 1}},
        "invalid_format",
    ),
    (
        {"id": "n", "type": "message", "message": {"recipient": {"type": "user", "userid": None}, "data": 1}},
        "invalid_format",
    ),
    ({"id": "n", "type": "message", "message": {"recipient": ROOM, "data": {"type": None}}}, "invalid_format"),
    *(
        (
            {"id": "n", "type": "message", "message": {"recipient": ROOM, "data": {"type": "offer", **data}}},
            "invalid_sdp",
        )
        for data in ({"payload": None}, {"payload": {"sdp": None}}, {"sid": None, "roomType": None, "bitrate": None})
    ),
    (
        {"id": "n", "type": "message", "message": {"recipient": ROOM, "data": {"type": "candidate", "payload": None}}},
        "no_candidate",
    ),
]


@pytest.mark.parametrize(("message", "code"), NULLS)
async def test_null_counts_as_absent(scene: BadInputScene, message: Json, code: str) -> None:
    scene.mallory.wire.send(message)
    assert await scene.mallory.error(message["id"]) == code


async def test_null_in_a_hello_counts_as_absent() -> None:
    async with socket_level(WITHOUT_MCU) as level:
        wire = await BadInputScene(level).connect()
        await wire.receive()
        full: Json = {
            "version": "1.0",
            "resumeid": None,
            "features": None,
            "auth": {"type": None, "url": level.url, "params": level.ticket("alice")},
        }
        for hello, code in [
            (None, "invalid_format"),
            (full | {"version": None}, "invalid_hello_version"),
            (full | {"auth": None}, "invalid_format"),
            (full | {"auth": full["auth"] | {"url": None}}, "invalid_format"),
            (full | {"auth": full["auth"] | {"params": None}}, "invalid_format"),
        ]:
            wire.send({"id": "h", "type": "hello", "hello": hello})
            assert (await wire.receive())["error"]["code"] == code
        wire.send({"id": None, "type": "hello", "hello": full})
        assert (await wire.receive())["type"] == "hello"


@pytest.mark.parametrize(
    "data",
    [
        '{"type":"x","cut":"\\ud83d"}',
        '"\\udc00\\ud83d"',
        '{"type":"x","n":99999999999999999999999999,"m":-1e999,"a":1,"a":2}',
        "[" * 400 + "]" * 400,
        '{"type":"x","long":"' + "ä" * 20000 + '"}',
        "18446744073709551616",
    ],
    ids=["half a pair", "two halves", "numbers and duplicates", "nested", "long", "a number"],
)
@pytest.mark.parametrize("to", ["session", "room"])
async def test_odd_data_is_relayed_byte_for_byte(scene: BadInputScene, data: str, to: str) -> None:
    recipient = json.dumps({"type": to, "sessionid": scene.victim.sessionid})
    scene.mallory.wire.send(f'{{"type":"message","message":{{"recipient":{recipient},"data":{data}}}}}')
    while True:
        opcode, payload = await scene.victim.wire.frame()
        if opcode == TEXT and b'"type":"message"' in payload:
            break
    assert f'"data":{data}'.encode() in payload
    if to == "room":
        for caller in scene.call._callers:
            await caller.wait_for("message")


async def test_last_of_duplicate_keys_counts(scene: BadInputScene) -> None:
    scene.mallory.wire.send('{"id":"first","id":"second","type":"bye","type":"message"}')
    assert await scene.mallory.error("second") == "invalid_format"


async def test_message_in_a_frame_that_arrives_byte_by_byte_is_delivered(scene: BadInputScene) -> None:
    octets = masked(envelope("bit by bit").replace("$victim", scene.victim.sessionid))
    for position in range(len(octets)):
        scene.mallory.wire.writer.write(octets[position : position + 1])
        await asyncio.sleep(0.0005)
        if position % 50 == 0:
            await scene.call.goes_on()
    assert (await scene.victim.wait_for("message"))["message"]["data"] == "bit by bit"


# reference 2.1-f
@pytest.mark.parametrize(
    ("octets", "code"),
    [
        pytest.param(masked(b'{"type":"\xff"}'), 1007, id="no UTF-8"),
        pytest.param(masked(b'{"type":"\xed\xa0\xbd"}'), 1007, id="half a surrogate pair as octets"),
        pytest.param(masked("x" * 65537), 1009, id="too long"),
        pytest.param(masked("x" * 40000, final=False) + masked("x" * 40000, 0), 1009, id="too long in parts"),
        pytest.param(b"\x81\xff" + (2**62).to_bytes(8) + b"mask", 1009, id="announces exabytes"),
        pytest.param(b"\xff" * 100, 1002, id="garbage in place of a frame"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", 1002, id="HTTP in place of a frame"),
        pytest.param(masked(b"\x03\xe8\xff", CLOSE), 1007, id="reason that is no UTF-8"),
    ],
)
async def test_invalid_frames_close_that_connection_only(scene: BadInputScene, octets: bytes, code: int) -> None:
    scene.mallory.wire.writer.write(octets)
    assert await scene.mallory.wire.wait_closed() == code
    await scene.call.goes_on()
    wire = await scene.connect()
    await wire.receive()
    wire.send({"type": "hello", "hello": {"version": "1.0", "resumeid": scene.mallory.resumeid}})
    assert (await wire.receive())["hello"]["sessionid"] == scene.mallory.sessionid


async def test_binary_frames_are_refused(scene: BadInputScene) -> None:
    scene.mallory.wire.send(b'{"id":"x","type":"bye"}', opcode=BINARY)
    assert await scene.mallory.error(None) == "invalid_format"


async def test_request_with_a_forged_checksum_has_no_effect(scene: BadInputScene) -> None:
    request = {"type": "delete", "delete": {}}
    for headers in (
        {"Spreed-Signaling-Checksum": "0" * 64},
        {"Spreed-Signaling-Checksum": "ä"},
        {"Spreed-Signaling-Checksum": ""},
        {"Spreed-Signaling-Random": "1" * 64},
    ):
        status, _ = await scene.level.cloud.send(scene.level.gateway, "r", request, headers)
        assert status == 403
    await scene.call.goes_on()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"garbage",
        b"[" * 200_000,
        b'{"type":"delete"}',
        b'{"type":"incall","incall":{"changed":[5]}}',
        b'{"type":"x"}',
    ],
    ids=["nothing", "garbage", "nested", "without a body", "wrong types", "unknown"],
)
async def test_malformed_signed_request_is_refused(scene: BadInputScene, body: bytes) -> None:
    status, _ = await scene.level.cloud.send(scene.level.gateway, "r", body)
    assert status == 400


@pytest.mark.parametrize(
    ("type", "code"),
    [
        ("expired", "token_expired"),
        ("early", "token_not_valid_yet"),
        ("forged", "invalid_token"),
        ("none", "invalid_token"),
    ],
)
async def test_invalid_token_opens_no_session(scene: BadInputScene, type: str, code: str) -> None:
    wire = await scene.connect()
    await wire.receive()
    token = "eyJhbGciOiJub25lIn0.e30." if type == "none" else scene.level.token("alice", type)
    auth = {"url": scene.level.url, "params": {"token": token}}
    wire.send({"id": "h", "type": "hello", "hello": {"version": "2.0", "auth": auth}})
    assert (await wire.receive())["error"]["code"] == code


def media(type: str, room_type: str = "video", **payload: Any) -> Json:
    return {"type": type, "roomType": room_type, "sid": "1", "payload": payload}


BAD_MEDIA = [
    ("an SDP that does not parse", media("offer", sdp="v=0\r\njunk"), "invalid_sdp"),
    ("an SDP of another type", media("offer", sdp=5), "invalid_sdp"),
    ("no SDP", media("offer"), "invalid_sdp"),
    ("an SDP of one long line", media("offer", sdp="v=0" * 20000), "processing_failed"),
    (
        "an SDP without media",
        media("offer", sdp="v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n"),
        "processing_failed",
    ),
    ("a bad candidate in an SDP", media("offer", sdp=offer(candidates=("candidate:junk",))), "invalid_sdp"),
    ("a candidate for an unknown stream", media("candidate", candidate={"candidate": CANDIDATE}), "client_not_found"),
    ("the end of candidates for an unknown stream", media("endOfCandidates"), "client_not_found"),
    ("an answer for an unknown stream", media("answer", sdp=offer()), "client_not_found"),
    ("a candidate that is none", media("candidate", candidate={"candidate": "junk"}), "invalid_candidate"),
    ("no candidate", media("candidate"), "no_candidate"),
    ("a choice for an unknown stream", media("selectStream", substream=10**30), "client_not_found"),
    ("a request from outside of the call", media("requestoffer"), "not_allowed"),
    ("a room type that is none", media("offer", "cinema", sdp=offer()), "invalid_format"),
    ("a room type that is not published", media("offer", "audio", sdp=offer()), "client_not_found"),
]


@pytest.mark.parametrize(("data", "code"), [case[1:] for case in BAD_MEDIA], ids=[case[0] for case in BAD_MEDIA])
async def test_malformed_media_message_has_its_error(scene: BadInputScene, data: Json, code: str) -> None:
    changed = [{"sessionId": nextcloud_session("mallory"), "inCall": 0}]
    await scene.level.send("r", {"type": "incall", "incall": {"incall": 0, "changed": changed}})
    scene.mallory.send_message(scene.victim, data, id="m")
    assert await scene.mallory.error("m") == code
    await scene.call.goes_on()


@pytest.mark.parametrize("number", ["9" * 5000, "\u00b2", "-1", ""], ids=["long", "no ASCII", "negative", "none"])
@pytest.mark.parametrize("line", ["ssrc:{} cname:x", "ssrc-group:FID {0} {0}", "ssrc-group:{}", "extmap:{} urn:x"])
async def test_invalid_number_in_a_description_is_ignored(scene: BadInputScene, line: str, number: str) -> None:
    scene.mallory.send_message(scene.mallory, media("offer", sdp=offer(candidates=(line.format(number),))), id="m")
    message = await scene.mallory.wait_for("message")
    assert message["message"]["data"]["type"] == "answer"


async def test_offer_without_permission_is_refused(scene: BadInputScene) -> None:
    changed = [{"sessionId": nextcloud_session("mallory"), "permissions": ["publish-audio"]}]
    await scene.level.send("r", {"type": "participants", "participants": {"changed": changed}})
    scene.mallory.send_message(scene.mallory, media("offer", sdp=offer()), id="m")
    assert await scene.mallory.error("m") == "not_allowed"


# -- random input

_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
_types = st.sampled_from(["hello", "room", "message", "bye", "control", "internal", "transient", "offer", ""])
_data = st.fixed_dictionaries(
    {"type": st.sampled_from(["offer", "answer", "candidate", "requestoffer", "sendoffer", "selectStream", "x"])},
    optional={
        "roomType": st.sampled_from(["video", "screen", "audio", "x"]) | _values,
        "sid": st.text(max_size=5) | _values,
        "bitrate": st.integers() | st.floats(allow_nan=False) | _values,
        "videocodec": st.text(max_size=10) | _values,
        "payload": st.fixed_dictionaries(
            {},
            optional={
                "sdp": st.just(offer()) | st.text(max_size=50) | _values,
                "candidate": st.just({"candidate": CANDIDATE}) | _values,
                "substream": _values,
            },
        )
        | _values,
    },
)
_recipients = st.fixed_dictionaries(
    {"type": st.sampled_from(["session", "user", "room", "call", "x"])},
    optional={"sessionid": st.sampled_from(["$own", "x"]) | _values, "userid": st.text(max_size=5) | _values},
)
_messages = st.fixed_dictionaries(
    {"type": _types},
    optional={
        "id": st.text(max_size=5) | _values,
        "hello": _values,
        "room": st.fixed_dictionaries({"roomid": st.sampled_from(["", "r", "other"])}) | _values,
        "message": st.fixed_dictionaries({}, optional={"recipient": _recipients | _values, "data": _data | _values})
        | _values,
        "bye": _values,
        "control": _values,
    },
)
_texts = _messages.map(lambda message: json.dumps(message).encode()) | st.text(max_size=60).map(
    lambda text: text.encode("utf-8", "surrogatepass")
)
_frames = st.one_of(
    st.builds(masked, _texts),
    st.builds(masked, _texts),
    st.builds(masked, _texts),
    st.builds(
        lambda octets, opcode: masked(octets, opcode), st.binary(max_size=40), st.sampled_from([BINARY, PONG, 3, CLOSE])
    ),
    st.binary(max_size=40),
)


def test_random_input_does_not_disturb_a_call(caplog: pytest.LogCaptureFixture) -> None:
    with asyncio.Runner() as runner:
        context = bad_input_scene()
        scene = runner.run(context.__aenter__())

        async def attack(known: bool, frames: list[bytes]) -> None:
            wire = await scene.connect()
            await wire.receive()
            if known:
                caller = CallMember(scene.level, wire)
                auth = {"url": scene.level.url, "params": scene.level.ticket("fuzz")}
                wire.send({"type": "hello", "hello": {"version": "1.0", "auth": auth}})
                caller.sessionid = (await wire.receive())["hello"]["sessionid"]
                frames = [frame for frame in frames if frame]
            for frame in frames:
                wire.writer.write(frame)
            await scene.call.goes_on()
            wire.writer.transport.abort()
            scene.level.clients.remove(wire)

        @settings(max_examples=120, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
        @given(known=st.booleans(), frames=st.lists(_frames, min_size=1, max_size=6))
        def fuzz(known: bool, frames: list[bytes]) -> None:
            runner.run(attack(known, frames))
            assert not [record for record in caplog.records if record.levelno >= logging.ERROR or record.exc_info]

        started = time.monotonic()
        fuzz()
        assert time.monotonic() - started < 60
        runner.run(context.__aexit__(None, None, None))


# -- beside a call with media


@pytest.mark.full
async def test_all_bad_input_beside_a_call_with_media(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aioice.ice, "get_host_addresses", only_loopback)
    async with bad_input_scene() as scene, PublishingPeer(7, 440.0) as publisher, SubscribingPeer() as watcher:
        alice, bob = scene.call._callers
        payload = {"type": "offer", "sdp": await publisher.offer()}
        alice.send_message(alice, {"type": "offer", "roomType": "video", "sid": "1", "payload": payload})
        answer = (await alice.wait_for("message"))["message"]["data"]
        await publisher.accept(answer["payload"]["sdp"])
        bob.send_message(alice, {"type": "requestoffer", "roomType": "video"})
        offered = (await bob.wait_for("message"))["message"]["data"]
        sdp = await watcher.answer(offered["payload"]["sdp"])
        reply = {
            "type": "answer",
            "roomType": "video",
            "sid": offered["sid"],
            "payload": {"type": "answer", "sdp": sdp},
        }
        bob.send_message(alice, reply)
        await watcher.wait_for_picture(7)
        for text in UNDECODABLE_BODIES.values():
            scene.mallory.wire.send(text)
        for _, data, _ in BAD_MEDIA:
            for to in (scene.mallory, scene.victim, alice):
                scene.mallory.send_message(to, data, id="m")
        scene.mallory.wire.send(b"\xff")
        await scene.mallory.wire.wait_closed()
        await watcher.wait_for_picture(7)
        await watcher.wait_for_tone(440.0)
        await publisher.send_message("status", "still here")
        await watcher.wait_for_message("status", "still here")
        assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
