"""Joins of rooms of other servers that are answered late or not at all, and that cross each other or an interruption.

Source: reference 12.1, 12.3.
"""

from __future__ import annotations

import asyncio

from tests.gateway.flows.federation.fake_host import NO_ANSWER, FakeHost, error
from tests.gateway.flows.federation.seats import TARGET, harness_with, relayed, request_join, seated_client, types_of
from tests.gateway.flows.virtual_time import settle

# -- joins that the host answers late, or not at all


# reference 12.1-d
async def test_join_that_the_host_does_not_answer_leads_to_a_new_session_in_the_first_room() -> None:
    host = FakeHost("ack")
    async with harness_with(host) as harness:
        client = await seated_client(harness)
        host.join = NO_ANSWER
        request_join(client, "j2", "L2", roomid="R2")
        await asyncio.sleep(9.0)
        host.join = {}
        await asyncio.sleep(3.0)
        messages = client.received()
        assert types_of(messages) == ["error", "federation_interrupted", "federation_resumed", "room"]
        assert messages[2]["event"]["resumed"] is False  # the old session may have entered R2 by now
        assert messages[3] == {"type": "room", "room": {"roomid": "L"}}
        assert [join["room"]["roomid"] for join in host.sent("room")] == ["R", "R2", "R"]
        assert [hello["hello"].get("resumeid") for hello in host.sent("hello")] == [None, None]
        assert [message["type"] for message in host.connections[0].sent] == ["hello", "room", "room", "bye"]


# reference 12.3-n
async def test_session_at_a_host_that_does_not_answer_its_bye_is_abandoned() -> None:
    host = FakeHost("ack")
    host.answer_bye = False
    async with harness_with(host) as harness:
        client = await seated_client(harness)
        host.join = NO_ANSWER
        request_join(client, "j2", "L2", roomid="R2")
        await asyncio.sleep(11.0)
        host.join = {}
        assert types_of(client.received()) == ["error"]
        host.connection.deliver({"type": "room", "id": host.sent("room")[1]["id"], "room": {"roomid": "R2"}})
        host.connection.deliver(relayed("in either room"))
        client.send_message({"type": "room"}, "for the old session")
        await settle()
        assert client.received() == []
        assert not host.connection.aborted
        await asyncio.sleep(5.0)
        assert types_of(client.received()) == ["federation_interrupted", "federation_resumed", "room"]
        assert host.connections[0].aborted
        assert [message["type"] for message in host.connection.sent] == ["hello", "room"]
        host.connection.deliver(relayed("in R"))
        client.send_message({"type": "room"}, "for the new session")
        await asyncio.sleep(10.0)
        assert client.received() == [relayed("in R")]
        assert host.connection.sent[-1]["message"]["data"] == "for the new session"
        assert len(host.connections) == 2


# reference 12.3-n
async def test_client_joins_while_its_session_at_the_host_ends() -> None:
    host = FakeHost("ack")
    host.answer_bye = False
    async with harness_with(host) as harness:
        client = await seated_client(harness)
        host.join = NO_ANSWER
        request_join(client, "j2", "L2", roomid="R2")
        await asyncio.sleep(11.0)
        host.join = {}
        request_join(client, "j3", "L3", roomid="R3")
        await asyncio.sleep(1.0)
        assert client.received()[-1] == {"type": "room", "id": "j3", "room": {"roomid": "L3"}}
        await asyncio.sleep(10.0)
        assert client.received() == []
        assert [connection.aborted for connection in host.connections] == [True, False]
        assert list(harness.hub.seated) == [client.sessionid]


# reference 12.3-c
async def test_room_is_joined_anew_until_the_host_answers() -> None:
    host = FakeHost("ack")
    async with harness_with(host) as harness:
        client = await seated_client(harness)
        host.resume, host.join = error("no_such_session"), NO_ANSWER
        host.connection.lose()
        await asyncio.sleep(9.0)
        host.resume, host.join = host.hello, {}
        await asyncio.sleep(3.0)
        messages = client.received()
        assert types_of(messages) == ["federation_interrupted", "federation_resumed"] * 2 + ["room"]
        assert messages[-1] == {"type": "room", "room": {"roomid": "L"}}


async def test_join_of_the_client_waits_for_the_one_after_a_lost_session() -> None:
    host = FakeHost("ack")
    async with harness_with(host) as harness:
        client = await seated_client(harness)
        host.resume, host.join = error("no_such_session"), NO_ANSWER
        host.connection.lose()
        await asyncio.sleep(1.0)
        client.received()
        host.join = {}
        request_join(client, "j2", "L2", roomid="R2")
        await settle()
        host.connection.deliver({"type": "room", "id": host.sent("room")[-1]["id"], "room": {"roomid": "R"}})
        await asyncio.sleep(20.0)
        assert client.received() == [
            {"type": "room", "room": {"roomid": "L"}},
            {"type": "room", "id": "j2", "room": {"roomid": "L2"}},
        ]
        host.connection.deliver(relayed("seen"))
        await settle()
        assert client.received() == [relayed("seen")]


async def test_join_of_the_client_goes_on_if_the_one_after_a_lost_session_is_refused() -> None:
    host = FakeHost("ack")
    async with harness_with(host) as harness:
        client = await seated_client(harness)
        host.resume, host.join = error("no_such_session"), NO_ANSWER
        host.connection.lose()
        await asyncio.sleep(1.0)
        client.received()
        request_join(client, "j2", "L2", roomid="R2")
        await settle()
        host.connection.deliver({"type": "error", "id": host.sent("room")[-1]["id"], "error": error("no_such_room")})
        host.join = {}
        await settle()
        messages = client.received()
        assert types_of(messages) == ["error", "room", "room"]
        assert messages[1:] == [
            {"type": "room", "room": {"roomid": ""}},
            {"type": "room", "id": "j2", "room": {"roomid": "L2"}},
        ]
        assert len(host.connections) == 3


# -- the same room again


# reference 4.1, 12.3-c, 12.3-j
async def test_new_nextcloud_session_id_in_the_same_room_replaces_the_old_one() -> None:
    host = FakeHost()
    async with harness_with(host) as harness:
        client = await seated_client(harness)
        host.join = error("already_joined")
        client.send({"id": "j2", "type": "room", "room": {"roomid": "L", "sessionid": "new", "federation": TARGET}})
        await settle()
        (refusal,) = client.received()
        assert refusal["error"]["details"] == {"room": {"roomid": "L"}}
        assert client.session.seat is not None
        assert client.session.seat.room_session_id == "new"  # for pings
        host.resume, host.join = error("no_such_session"), {}
        host.connection.lose()
        await asyncio.sleep(1.0)
        assert host.sent("room")[-1]["room"] == {"roomid": "R", "sessionid": "new"}


async def test_refused_join_of_another_room_replaces_nothing() -> None:
    host = FakeHost()
    async with harness_with(host) as harness:
        client = await seated_client(harness)
        for code, room in (("already_joined", "L2"), ("no_such_room", "L")):
            host.join = error(code)
            client.send({"type": "room", "room": {"roomid": room, "sessionid": "new", "federation": TARGET}})
            await settle()
            assert client.error_codes() == [code]
            assert client.session.seat is not None
            assert (client.session.seat.room_id, client.session.seat.room_session_id) == ("L", "nc")


# -- joins that cross


# reference 12.1-d
async def test_client_that_joins_again_while_its_seat_is_interrupted_keeps_its_session() -> None:
    """The host ends the old session there, as the new one has the same Nextcloud session id (4.4)."""
    host = FakeHost("ack")
    async with harness_with(host) as harness:
        client = await seated_client(harness)
        host.unavailable = True
        host.connection.lose()
        await asyncio.sleep(0.01)
        host.unavailable, host.join = False, NO_ANSWER
        request_join(client, "j2")
        await settle()
        new = host.connection
        await asyncio.sleep(1.0)
        old = host.connection
        assert old is not new
        assert "resumeid" in old.sent[0]["hello"]
        old.deliver({"type": "bye", "bye": {"reason": "room_session_reconnected"}})
        await settle()
        new.deliver({"type": "room", "id": new.sent[-1]["id"], "room": {"roomid": "R"}})
        await settle()
        messages = client.received()
        assert messages[-1] == {"type": "room", "id": "j2", "room": {"roomid": "L"}}
        assert "bye" not in types_of(messages)
        new.deliver(relayed("seen"))
        await settle()
        assert client.received() == [relayed("seen")]
        assert list(harness.hub.seated) == [client.sessionid]


async def test_client_whose_old_and_new_session_at_the_host_end_gets_one_error() -> None:
    host = FakeHost("ack")
    async with harness_with(host) as harness:
        client = await seated_client(harness)
        host.unavailable = True
        host.connection.lose()
        await asyncio.sleep(0.01)
        host.unavailable, host.join = False, NO_ANSWER
        request_join(client, "j2")
        await settle()
        new = host.connection
        await asyncio.sleep(1.0)
        host.connection.deliver({"type": "bye", "bye": {"reason": "room_session_reconnected"}})
        await settle()
        new.deliver({"type": "error", "id": new.sent[-1]["id"], "error": error("no_such_room")})
        await settle()
        messages = client.received()
        assert messages[-2] == {"type": "room", "room": {"roomid": ""}}
        assert messages[-1]["error"]["code"] == "no_such_room"
        assert harness.hub.seated == {}


# attack: an answer in place of the client's own server
async def test_host_answers_no_request_of_the_client_for_a_room() -> None:
    host = FakeHost()
    async with harness_with(host) as harness:
        client = await seated_client(harness)
        for id in ("j", "guessed", host.sent("room")[0]["id"]):
            for room in ("R", ""):
                host.connection.deliver({"type": "room", "id": id, "room": {"roomid": room}})
        await settle()
        assert client.received() == []
        assert list(harness.hub.seated) == [client.sessionid]


# attack: the end of a session by an old connection, for another reason
async def test_host_may_end_a_session_that_joins_elsewhere() -> None:
    host = FakeHost()
    async with harness_with(host) as harness:
        client = await seated_client(harness)
        host.join = NO_ANSWER
        request_join(client, "j2", "L2", url="https://other.example/")
        await settle()
        host.connections[0].deliver({"type": "bye", "bye": {"reason": "over"}})
        await settle()
        assert client.received() == [{"type": "bye", "bye": {"reason": "over"}}]
        await asyncio.sleep(20.0)
        assert (harness.hub.seated, harness.hub.sessions) == ({}, {})


async def test_guest_that_loses_its_seat_during_a_join_elsewhere_has_time_until_the_answer() -> None:
    host = FakeHost()
    async with harness_with(host) as harness:
        guest = await seated_client(harness, "")
        first = host.connection
        host.hello = host.join = NO_ANSWER
        request_join(guest, "j2", "L2", url="https://other.example/")
        await settle()
        first.deliver({"type": "room", "room": {"roomid": ""}})
        await harness.sweep(6.0)
        new = host.connection
        new.deliver({"type": "hello", "id": "1", "hello": {"sessionid": "new", "resumeid": "new"}})
        await harness.sweep(6.0)
        new.deliver({"type": "room", "id": new.sent[-1]["id"], "room": {"roomid": "R"}})
        await settle()
        await harness.sweep(20.0)
        assert [message["type"] for message in guest.received()] == ["room", "room"]
        assert list(harness.hub.seated) == [guest.sessionid]
