"""Messages from one session to others (reference 5.1, 5.2, 5.4), and what waits for who is away (5.6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.gateway.flows.house import OTHER, House, Json
from tests.gateway.flows.media.descriptions import CANDIDATE, offer
from tests.gateway.flows.virtual_time import settle

ROOM, CALL = {"type": "room"}, {"type": "call"}


async def test_message_to_a_session_in_any_room() -> None:
    async with House() as house:
        alice, bob = await house.open("alice"), await house.member("bob")
        alice.tell(bob, {"type": "x", "a": [1, None]})
        assert bob.heard() == [
            {
                "type": "message",
                "message": {
                    "sender": {"type": "session", "sessionid": alice.sessionid, "userid": "alice"},
                    "data": {"type": "x", "a": [1, None]},
                },
            }
        ]
        assert alice.heard() == []


@pytest.mark.parametrize("mcu", [True, False])
@pytest.mark.parametrize("to", ["session", "user", "room", "call"])
async def test_data_is_relayed_byte_for_byte(mcu: bool, to: str) -> None:
    data = '{ "type" : "x" , "half" : "\\ud83d", "n" : 99999999999999999999e0 , "n" : 1.0 }'
    async with House(mcu=mcu) as house:
        alice, bob = await house.callers("alice", "bob")
        alice.heard()
        recipient = f'{{"type":"{to}","sessionid":"{bob.sessionid}","userid":"bob"}}'
        alice.say(f'{{"type":"message","message":{{"data":{data},"recipient":{recipient}}}}}')
        assert f'"data":{data}'.encode() in bob.connection.written[-1]
        assert alice.heard() == []


async def test_message_to_a_user_reaches_all_sessions_of_that_user_and_no_others() -> None:
    async with House() as house:
        alice, again = await house.open("alice"), await house.open("alice")
        bob, bob2, guest = await house.open("bob"), await house.open("bob"), await house.open("")
        eve = await house.open("bob", OTHER)
        alice.tell({"type": "user", "userid": "bob"}, "to bob")
        alice.tell({"type": "user", "userid": "alice"}, "to myself")
        alice.tell({"type": "user", "userid": "nobody"}, "to nobody")
        for it in (bob, bob2):
            (message,) = it.heard()
            assert message["message"]["sender"] == {"type": "user", "sessionid": alice.sessionid, "userid": "alice"}
        assert [it.heard() for it in (alice, again, guest, eve)] == [[], [], [], []]


async def test_message_to_the_room_reaches_all_but_the_sender() -> None:
    async with House() as house:
        alice, bob, carol = [await house.member(name) for name in ("alice", "bob", "carol")]
        other = await house.member("other", "elsewhere")
        alice.heard()
        bob.heard()
        alice.tell(ROOM, "x")
        assert bob.heard()[0]["message"]["sender"]["type"] == "room"
        assert len(carol.heard()) == 1
        assert alice.heard() == other.heard() == []


async def test_what_concerns_many_is_encoded_once() -> None:
    async with House() as house:
        alice, bob, carol = await house.callers("alice", "bob", "carol")
        watched = [bob, carol]
        events: list[Callable[[], None]] = [
            lambda: alice.tell(ROOM, "x"),
            lambda: alice.tell(CALL, "x"),
            lambda: house.call("r", "alice", flags=3),
            lambda: house.backend("r", {"type": "incall", "incall": {"incall": 0, "all": True}}),
            lambda: house.backend("r", {"type": "message", "message": {"data": 1}}),
            lambda: house.backend("r", {"type": "update", "update": {"properties": {"a": 1}}}),
            lambda: alice.say({"type": "room", "room": {"roomid": ""}}),
        ]
        for say in events:
            before = [len(it.connection.written) for it in watched]
            say()
            assert [len(it.connection.written) for it in watched] == [count + 1 for count in before]
            assert bob.connection.written[-1] is carol.connection.written[-1]


async def test_message_to_the_call_reaches_those_in_it_and_may_come_from_outside() -> None:
    async with House() as house:
        alice, bob, carol = [await house.member(name) for name in ("alice", "bob", "carol")]
        house.call("r", "bob")
        for it in (alice, bob, carol):
            it.heard()
        alice.tell(CALL, "x")
        assert bob.heard()[0]["message"]["sender"]["type"] == "call"
        bob.tell(CALL, "x")
        assert [it.heard() for it in (alice, bob, carol)] == [[], [], []]


async def test_message_without_anybody_to_hear_it_is_dropped_silently() -> None:
    async with House() as house:
        alice, eve = await house.open("alice"), await house.open("eve", OTHER)
        alice.tell({"type": "session", "sessionid": "unknown"}, "x")
        alice.tell(eve, "x")
        alice.tell(alice, "x")
        alice.tell(ROOM, {"no": "type"})
        alice.tell(CALL, "x")
        assert alice.heard() == eve.heard() == []


@pytest.mark.parametrize(
    "message",
    [
        None,
        {},
        {"data": "x"},
        {"recipient": None, "data": "x"},
        {"recipient": ROOM},
        {"recipient": ROOM, "data": None},
        {"recipient": {}, "data": "x"},
        {"recipient": {"type": None}, "data": "x"},
        {"recipient": {"type": "everybody"}, "data": "x"},
        {"recipient": {"type": "session"}, "data": "x"},
        {"recipient": {"type": "session", "sessionid": ""}, "data": "x"},
        {"recipient": {"type": "user"}, "data": "x"},
        {"recipient": {"type": "user", "userid": None}, "data": "x"},
    ],
)
async def test_malformed_message_is_answered(message: Json | None) -> None:
    async with House() as house:
        alice = await house.member("alice")
        alice.say({"id": "m", "type": "message", "message": message})
        (reply,) = alice.heard()
        assert (reply["id"], reply["error"]["code"]) == ("m", "invalid_format")


async def test_unknown_types_and_those_for_others_are_ignored() -> None:
    async with House() as house:
        alice = await house.member("alice")
        for kind in ("future", "welcome"):
            alice.say({"id": "x", "type": kind, kind: {}})
        assert alice.heard() == []
        alice.say({"id": "x"})
        alice.say({"id": "x", "type": ""})
        assert alice.errors() == ["invalid_format"] * 2


# -- the check with an SFU (5.2), row by row


def sdp(**payload: Any) -> Json:
    return {"type": "offer", "roomType": "video", "payload": payload}


def candidate(value: Any) -> Json:
    return {"type": "candidate", "roomType": "video", "payload": {"candidate": value}}


BAD = [
    ({}, "invalid_format", "Invalid data format."),
    ({"type": ""}, "invalid_format", "Invalid data format."),
    ({"type": None, "payload": {}}, "invalid_format", "Invalid data format."),
    ({"type": "x", "roomType": "theatre"}, "invalid_format", "Invalid data format."),
    ({"type": "offer"}, "invalid_sdp", "Payload does not contain a valid SDP."),
    (sdp(), "invalid_sdp", "Payload does not contain a valid SDP."),
    (sdp(sdp=5), "invalid_sdp", "Payload does not contain a valid SDP."),
    (sdp(sdp=None), "invalid_sdp", "Payload does not contain a valid SDP."),
    ({"type": "answer", "payload": {}}, "invalid_sdp", "Payload does not contain a valid SDP."),
    (sdp(sdp="no sdp"), "invalid_sdp", "Error parsing SDP from payload."),
    (sdp(sdp=""), "invalid_sdp", "Error parsing SDP from payload."),
    (
        sdp(sdp=offer(candidates=("candidate:junk",))),
        "invalid_sdp",
        "Error parsing candidate from media description.",
    ),
    ({"type": "candidate"}, "no_candidate", "Payload does not contain a candidate."),
    (candidate(None), "no_candidate", "Payload does not contain a candidate."),
    (candidate("text"), "invalid_candidate", "Payload does not contain a valid candidate."),
    (candidate([]), "invalid_candidate", "Payload does not contain a valid candidate."),
    (candidate({}), "invalid_candidate", "Payload does not contain a valid candidate."),
    (candidate({"candidate": 5}), "invalid_candidate", "Payload does not contain a valid candidate."),
    (candidate({"candidate": "candidate:junk"}), "invalid_candidate", "Error parsing candidate from payload."),
]


@pytest.mark.parametrize("to", ["session", "room", "call"])
@pytest.mark.parametrize(("data", "code", "text"), BAD)
async def test_data_is_checked_when_there_is_an_sfu(data: Json, code: str, text: str, to: str) -> None:
    async with House() as house:
        alice, bob = await house.callers("alice", "bob")
        alice.heard()
        alice.tell({"type": to, "sessionid": bob.sessionid}, data, id="m")
        (reply,) = alice.heard()
        assert (reply["id"], reply["error"]["code"], reply["error"]["message"]) == ("m", code, text)
        details = reply["error"].get("details")
        if "media description" in text:
            assert details["media"] == "audio"
            assert details["idx"] == 0
            assert details["error"]
        else:
            assert (details is not None) is text.startswith("Error parsing")
        assert bob.heard() == []


@pytest.mark.parametrize("to", ["user", "session", "room", "call"])
async def test_nothing_is_checked_without_an_sfu_nor_for_a_user(to: str) -> None:
    async with House(mcu=to == "user") as house:
        alice, bob = await house.callers("alice", "bob")
        alice.heard()
        for data, _, _ in BAD:
            alice.tell({"type": to, "sessionid": bob.sessionid, "userid": "bob"}, data)
        assert [it["message"]["data"] for it in bob.heard()] == [data for data, _, _ in BAD]
        assert alice.heard() == []


@pytest.mark.parametrize(
    "data",
    [
        "offer",
        5,
        False,
        [],
        {"type": 5},
        {"type": "offer", "payload": "text"},
        {"type": "offer", "payload": []},
        {"type": "offer", "sid": 5},
        {"type": "offer", "bitrate": "fast"},
        {"type": "offer", "videocodec": 8},
        {"type": "nickChanged", "payload": {"name": "x"}},
        {"type": "raiseHand", "roomType": "video"},
        {"type": "mute", "roomType": ""},
        {"type": "unshareScreen", "roomType": "screen"},
        {"type": "x", "payload": {"sdp": 5}},
    ],
)
async def test_what_is_not_for_the_sfu_is_relayed(data: Any) -> None:
    async with House() as house:
        alice, bob = await house.callers("alice", "bob")
        alice.heard()
        for recipient in ({"type": "session", "sessionid": bob.sessionid}, ROOM, CALL):
            alice.tell(recipient, data)
        assert bob.data() == [data] * 3
        assert alice.heard() == []


@pytest.mark.parametrize(
    "data", [sdp(sdp=offer(), type="offer"), candidate({"candidate": CANDIDATE}), candidate({"candidate": ""})]
)
async def test_sound_media_data_to_a_room_is_relayed(data: Json) -> None:
    async with House() as house:
        alice, bob = await house.callers("alice", "bob")
        alice.tell(ROOM, data)
        assert bob.data() == [data]
        assert house.mcu.clean


# -- the queue of who is away (5.6)


async def test_everything_waits_for_who_is_away_in_order() -> None:
    async with House() as house:
        alice, bob = await house.callers("alice", "bob")
        bob.heard()
        alice.lose()
        for number in range(40):
            bob.tell(alice, number)
        house.call("r", "bob", flags=3)
        house.call("r", "bob", flags=7)
        again = await house.resume(alice)
        heard = again.heard()
        assert [it["message"]["data"] for it in heard if it["type"] == "message"] == list(range(40))
        assert [it["type"] for it in heard[41:]] == ["event"] * 2


async def test_chat_refresh_waits_only_once() -> None:
    async with House() as house:
        alice = await house.member("alice")

        def chat(**chat: Any) -> None:
            house.backend("r", {"type": "message", "message": {"data": {"type": "chat", "chat": chat}}})

        alice.lose()
        chat(refresh=True)
        chat(comment={"n": 1})
        chat(refresh=True)
        chat(comment={"n": 2})
        again = await house.resume(alice)
        chats = [it["event"]["message"]["data"]["chat"] for it in again.heard()[1:]]
        assert chats == [{"refresh": True}, {"comment": {"n": 1}}, {"comment": {"n": 2}}]
        chat(refresh=True)
        chat(refresh=True)
        assert len(again.heard()) == 2


async def test_bye_for_a_live_connection_is_not_kept() -> None:
    async with House() as house:
        alice = await house.member("alice")
        alice.lose()
        house.backend("r", {"type": "delete", "delete": {}})
        again = await house.resume(alice)
        assert [it["type"] for it in again.heard()] == ["hello"]


# -- slow clients lose, alone (invariant 6)


@pytest.mark.parametrize("connected", [True, False])
async def test_session_that_is_sent_more_than_it_takes_ends_alone(connected: bool) -> None:
    async with House(outbox_bytes=1000) as house:
        alice, bob, slow = [await house.member(name) for name in ("alice", "bob", "slow")]
        for it in (alice, bob, slow):
            it.heard()
        slow.connection.stuck = True
        if not connected:
            slow.lose()
        alice.tell(ROOM, "x" * 600)
        alice.tell(ROOM, "y" * 600)
        alice.tell(ROOM, "z")
        assert len(house.hub.sessions) == 3  # nothing changes under the loop over the room
        await settle()
        heard = bob.heard()
        assert [it["message"]["data"][0] for it in heard[:3]] == ["x", "y", "z"]
        assert heard[3]["event"]["leave"] == [slow.sessionid]
        assert sorted(house.hub.sessions) == sorted([alice.sessionid, bob.sessionid])
        assert slow.connection.finished is connected
        if connected:
            slow.lose()
        assert (await house.resume(slow)).errors() == ["no_such_session"]
        alice.tell(bob, "goes on")
        assert bob.heard()[0]["message"]["data"] == "goes on"


async def test_session_never_goes_on_with_a_gap() -> None:
    async with House(outbox_bytes=1000) as house:
        alice, slow = await house.open("alice"), await house.open("slow")
        slow.connection.stuck = True
        alice.tell(slow, "x" * 600)
        alice.tell(slow, "y" * 600)
        alice.tell(slow, "z")
        slow.connection.stuck = False
        slow.connection.wake()
        await settle()
        assert [it["message"]["data"][0] for it in slow.heard()] == ["x"]
