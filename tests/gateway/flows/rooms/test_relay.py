"""Messages from one session to others (reference 5.1, 5.2, 5.4), and messages that wait for a resume (5.6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.gateway.flows.fakes import FakeRoom
from tests.gateway.flows.harness import OTHER_CLOUD, FlowHarness, Json
from tests.gateway.flows.media.descriptions import CANDIDATE, answer, offer
from tests.gateway.flows.virtual_time import settle

ROOM, CALL = {"type": "room"}, {"type": "call"}


# reference 5.1-a
async def test_message_reaches_a_session_in_any_room() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.hello("alice"), await harness.member("bob")
        alice.send_message(bob, {"type": "x", "a": [1, None]})
        assert bob.received() == [
            {
                "type": "message",
                "message": {
                    "sender": {"type": "session", "sessionid": alice.sessionid, "userid": "alice"},
                    "data": {"type": "x", "a": [1, None]},
                },
            }
        ]
        assert alice.received() == []


# reference 5.1-f
@pytest.mark.parametrize("mcu", [True, False])
@pytest.mark.parametrize("to", ["session", "user", "room", "call"])
async def test_data_is_relayed_byte_for_byte(mcu: bool, to: str) -> None:
    data = '{ "type" : "x" , "half" : "\\ud83d", "n" : 99999999999999999999e0 , "n" : 1.0 }'
    async with FlowHarness(mcu=mcu) as harness:
        alice, bob = await harness.callers("alice", "bob")
        alice.received()
        recipient = f'{{"type":"{to}","sessionid":"{bob.sessionid}","userid":"bob"}}'
        alice.send(f'{{"type":"message","message":{{"data":{data},"recipient":{recipient}}}}}')
        assert f'"data":{data}'.encode() in bob.connection.written[-1]
        assert alice.received() == []


# reference 5.1-b
async def test_message_to_a_user_reaches_all_sessions_of_that_user_and_no_others() -> None:
    async with FlowHarness() as harness:
        alice, again = await harness.hello("alice"), await harness.hello("alice")
        bob, bob2, guest = (
            await harness.hello("bob"),
            await harness.hello("bob"),
            await harness.hello(""),
        )
        eve = await harness.hello("bob", OTHER_CLOUD)
        alice.send_message({"type": "user", "userid": "bob"}, "to bob")
        alice.send_message({"type": "user", "userid": "alice"}, "to myself")
        alice.send_message({"type": "user", "userid": "nobody"}, "to nobody")
        for client in (bob, bob2):
            (message,) = client.received()
            assert message["message"]["sender"] == {"type": "user", "sessionid": alice.sessionid, "userid": "alice"}
        assert [client.received() for client in (alice, again, guest, eve)] == [[], [], [], []]


# reference 5.1-c
async def test_message_to_the_room_reaches_all_but_the_sender() -> None:
    async with FlowHarness() as harness:
        alice, bob, carol = [await harness.member(name) for name in ("alice", "bob", "carol")]
        other = await harness.member("other", "elsewhere")
        alice.received()
        bob.received()
        alice.send_message(ROOM, "x")
        assert bob.received()[0]["message"]["sender"]["type"] == "room"
        assert len(carol.received()) == 1
        assert alice.received() == other.received() == []


async def test_message_to_a_room_is_encoded_once() -> None:
    async with FlowHarness() as harness:
        alice, bob, carol = await harness.callers("alice", "bob", "carol")
        watched = [bob, carol]
        events: list[Callable[[], None]] = [
            lambda: alice.send_message(ROOM, "x"),
            lambda: alice.send_message(CALL, "x"),
            lambda: harness.set_in_call("r", "alice", flags=3),
            lambda: harness.rooms_api("r", {"type": "incall", "incall": {"incall": 0, "all": True}}),
            lambda: harness.rooms_api("r", {"type": "message", "message": {"data": 1}}),
            lambda: harness.rooms_api("r", {"type": "update", "update": {"userids": [], "properties": {"a": 1}}}),
            alice.leave,
        ]
        for send_event in events:
            before = [len(client.connection.written) for client in watched]
            send_event()
            assert [len(client.connection.written) for client in watched] == [count + 1 for count in before]
            assert bob.connection.written[-1] is carol.connection.written[-1]


# reference 5.1-d
async def test_message_to_the_call_reaches_its_members_and_may_come_from_outside() -> None:
    async with FlowHarness() as harness:
        alice, bob, carol = [await harness.member(name) for name in ("alice", "bob", "carol")]
        harness.set_in_call("r", "bob")
        for client in (alice, bob, carol):
            client.received()
        alice.send_message(CALL, "x")
        assert bob.received()[0]["message"]["sender"]["type"] == "call"
        bob.send_message(CALL, "x")
        assert [client.received() for client in (alice, bob, carol)] == [[], [], []]


# reference 5.1-e
async def test_message_without_a_recipient_is_dropped() -> None:
    async with FlowHarness() as harness:
        alice, eve = await harness.hello("alice"), await harness.hello("eve", OTHER_CLOUD)
        alice.send_message({"type": "session", "sessionid": "unknown"}, "x")
        alice.send_message(eve, "x")
        alice.send_message(alice, "x")
        alice.send_message(ROOM, {"no": "type"})
        alice.send_message(CALL, "x")
        assert alice.received() == eve.received() == []


# reference 2.4-b
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
async def test_malformed_message_has_an_invalid_format(message: Json | None) -> None:
    async with FlowHarness() as harness:
        alice = await harness.member("alice")
        alice.send({"id": "m", "type": "message", "message": message})
        (reply,) = alice.received()
        assert (reply["id"], reply["error"]["code"]) == ("m", "invalid_format")


# reference 2.4-e
async def test_message_of_an_unknown_type_is_ignored_and_one_without_a_type_refused() -> None:
    async with FlowHarness() as harness:
        alice = await harness.member("alice")
        for type in ("future", "welcome"):
            alice.send({"id": "x", "type": type, type: {}})
        assert alice.received() == []
        alice.send({"id": "x"})
        alice.send({"id": "x", "type": ""})
        assert alice.error_codes() == ["invalid_format"] * 2


# -- the check of data while there is an SFU (5.2)


def sdp(**payload: Any) -> Json:
    return {"type": "offer", "roomType": "video", "payload": payload}


def candidate(value: Any) -> Json:
    return {"type": "candidate", "roomType": "video", "payload": {"candidate": value}}


BAD_MESSAGES = [
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


# reference 5.2-a, 5.2-b, 5.2-d, 5.2-e
@pytest.mark.parametrize("to", ["session", "room", "call"])
@pytest.mark.parametrize(("data", "code", "text"), BAD_MESSAGES)
async def test_data_is_checked_when_there_is_an_sfu(data: Json, code: str, text: str, to: str) -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.callers("alice", "bob")
        alice.received()
        alice.send_message({"type": to, "sessionid": bob.sessionid}, data, id="m")
        (reply,) = alice.received()
        assert (reply["id"], reply["error"]["code"], reply["error"]["message"]) == ("m", code, text)
        details = reply["error"].get("details")
        if "media description" in text:
            assert details["media"] == "audio"
            assert details["idx"] == 0
            assert details["error"]
        else:
            assert (details is not None) is text.startswith("Error parsing")
        assert bob.received() == []


# reference 5.2-g
@pytest.mark.parametrize("to", ["user", "session", "room", "call"])
async def test_data_is_not_checked_without_an_sfu(to: str) -> None:
    async with FlowHarness(mcu=False) as harness:
        alice, bob = await harness.callers("alice", "bob")
        alice.received()
        for data, _, _ in BAD_MESSAGES:
            alice.send_message({"type": to, "sessionid": bob.sessionid, "userid": "bob"}, data)
        assert [message["message"]["data"] for message in bob.received()] == [data for data, _, _ in BAD_MESSAGES]
        assert alice.received() == []


# reference 5.2-h
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
async def test_message_that_is_not_for_the_sfu_is_relayed(data: Any) -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.callers("alice", "bob")
        alice.received()
        for recipient in ({"type": "session", "sessionid": bob.sessionid}, ROOM, CALL):
            alice.send_message(recipient, data)
        assert bob.data() == [data] * 3
        assert alice.received() == []


MEDIA_MESSAGES = [
    sdp(sdp=offer(), type="offer"),
    sdp(sdp=offer(), type="offer") | {"sid": 5},  # no string: clients only compare sids
    sdp(sdp=offer(), type="offer") | {"bitrate": "fast", "roomType": ["video"]},
    {"type": "answer", "payload": {"sdp": answer(), "type": "answer"}, "sid": []},
    candidate({"candidate": CANDIDATE}),
    candidate({"candidate": CANDIDATE}) | {"sid": 5},
    candidate({"candidate": ""}),
    {"type": "endOfCandidates", "payload": {}},
    {"type": "requestoffer", "payload": {}},
]


# reference 5.3-d
@pytest.mark.parametrize("data", MEDIA_MESSAGES)
@pytest.mark.parametrize("to", ["session", "user", "room", "call"])
async def test_media_messages_do_not_bypass_the_sfu(data: Json, to: str) -> None:
    async with FlowHarness() as harness:
        harness.nextcloud.rooms["r"] = FakeRoom(permissions=["control"])
        alice, bob = await harness.callers("alice", "bob")
        alice.send_message({"type": to, "sessionid": bob.sessionid, "userid": "bob"}, data)
        await settle()
        assert bob.received() == []
        assert harness.mcu.is_empty


# reference 5.3-d
async def test_internal_client_may_send_media_messages_to_the_room() -> None:
    async with FlowHarness() as harness:
        bob, internal = await harness.member("bob"), await harness.internal_hello()
        internal.join()
        await settle()
        bob.received()
        internal.send_message(ROOM, MEDIA_MESSAGES[0])
        assert bob.data() == [MEDIA_MESSAGES[0]]


# reference 5.3-d
@pytest.mark.parametrize("sender_room", ["r", "elsewhere", None])
@pytest.mark.parametrize("recipient_room", ["r", None])
@pytest.mark.parametrize("to", ["session", "user"])
async def test_media_messages_between_clients_stay_in_one_room(
    sender_room: str | None, recipient_room: str | None, to: str
) -> None:
    async with FlowHarness(mcu=False) as harness:
        alice = await (harness.member("alice", sender_room) if sender_room else harness.hello("alice"))
        bob = await (harness.member("bob", recipient_room) if recipient_room else harness.hello("bob"))
        bob.received()
        for data in MEDIA_MESSAGES:
            alice.send_message({"type": to, "sessionid": bob.sessionid, "userid": "bob"}, data)
        assert bob.data() == (MEDIA_MESSAGES if sender_room == recipient_room else [])


# -- messages for disconnected sessions (5.6)


# reference 5.6-a
async def test_messages_for_a_disconnected_session_wait_in_order() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.callers("alice", "bob")
        bob.received()
        alice.disconnect()
        for number in range(40):
            bob.send_message(alice, number)
        harness.set_in_call("r", "bob", flags=3)
        harness.set_in_call("r", "bob", flags=7)
        again = await harness.resume(alice)
        messages = again.received()
        assert [message["message"]["data"] for message in messages if message["type"] == "message"] == list(range(40))
        assert [message["type"] for message in messages[41:]] == ["event"] * 2


# reference 5.6-b
async def test_chat_refresh_waits_only_once() -> None:
    async with FlowHarness() as harness:
        alice = await harness.member("alice")

        def chat(**chat: Any) -> None:
            harness.rooms_api("r", {"type": "message", "message": {"data": {"type": "chat", "chat": chat}}})

        alice.disconnect()
        chat(refresh=True)
        chat(comment={"n": 1})
        chat(refresh=True)
        chat(comment={"n": 2})
        again = await harness.resume(alice)
        chats = [message["event"]["message"]["data"]["chat"] for message in again.received()[1:]]
        assert chats == [{"refresh": True}, {"comment": {"n": 1}}, {"comment": {"n": 2}}]
        chat(refresh=True)
        chat(refresh=True)
        assert len(again.received()) == 2


# reference 5.6-c
async def test_room_message_about_a_deletion_is_not_kept_for_a_disconnected_session() -> None:
    async with FlowHarness() as harness:
        alice = await harness.member("alice")
        alice.disconnect()
        harness.rooms_api("r", {"type": "delete", "delete": {"userids": []}})
        again = await harness.resume(alice)
        assert [message["type"] for message in again.received()] == ["hello"]


# -- full outboxes (invariant 6)


# reference 5.6-d
@pytest.mark.parametrize("connected", [True, False])
async def test_session_with_a_full_outbox_ends_alone(connected: bool) -> None:
    async with FlowHarness(outbox_bytes=1000) as harness:
        alice, bob, slow = [await harness.member(name) for name in ("alice", "bob", "slow")]
        for client in (alice, bob, slow):
            client.received()
        slow.connection.stuck = True
        if not connected:
            slow.disconnect()
        alice.send_message(ROOM, "x" * 600)
        alice.send_message(ROOM, "y" * 600)
        alice.send_message(ROOM, "z")
        assert len(harness.hub.sessions) == 3  # no session ends while the members are iterated
        await settle()
        messages = bob.received()
        assert [message["message"]["data"][0] for message in messages[:3]] == ["x", "y", "z"]
        assert messages[3]["event"]["leave"] == [slow.sessionid]
        assert sorted(harness.hub.sessions) == sorted([alice.sessionid, bob.sessionid])
        assert slow.connection.finished is connected
        assert harness.counters.limits_met == {"outbox_bytes": 1}
        if connected:
            slow.disconnect()
        assert (await harness.resume(slow)).error_codes() == ["no_such_session"]
        alice.send_message(bob, "goes on")
        assert bob.received()[0]["message"]["data"] == "goes on"


async def test_session_never_continues_with_a_gap() -> None:
    async with FlowHarness(outbox_bytes=1000) as harness:
        alice, slow = await harness.hello("alice"), await harness.hello("slow")
        slow.connection.stuck = True
        alice.send_message(slow, "x" * 600)
        alice.send_message(slow, "y" * 600)
        alice.send_message(slow, "z")
        slow.connection.stuck = False
        slow.connection.wake()
        await settle()
        assert [message["message"]["data"][0] for message in slow.received()] == ["x"]
