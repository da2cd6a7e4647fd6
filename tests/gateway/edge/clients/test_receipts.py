"""Chat messages after a lost connection, over real sockets (protocol.md, "Chat messages after a lost connection")."""

from __future__ import annotations

import json

from gateway.tools.talk_rooms import nextcloud_session
from tests.gateway.edge.clients.flow_server import NOW, FlowServer, SessionClient, until
from tests.gateway.edge.raw_client import PING, PONG, TEXT, Json

ROOM = "r"
REFRESH: Json = {"type": "chat", "chat": {"refresh": True}}


async def join(server: FlowServer, userid: str) -> SessionClient:
    client = await server.client(userid)
    client.wire.send({"id": "j", "type": "room", "room": {"roomid": ROOM, "sessionid": nextcloud_session(userid)}})
    while (await client.wire.receive()).get("event", {}).get("type") != "join":
        pass
    return client


def send_comments(server: FlowServer, *comments: Json) -> None:
    """Send chat comments to the room by the rooms API."""
    for comment in comments:
        data = {"type": "chat", "chat": {"comment": comment}}
        server.harness.rooms_api(ROOM, {"type": "message", "message": {"data": data}})


def chat_of(messages: list[Json]) -> list[object]:
    """Return the chat in room messages: the id of each comment, or else its text; "refresh" for other chat."""
    data = [m["event"]["message"]["data"] for m in messages if m.get("event", {}).get("type") == "message"]
    chat = [value["chat"] for value in data]
    return [
        value["comment"].get("id", value["comment"].get("message")) if "comment" in value else "refresh"
        for value in chat
    ]


def room_message(data: Json) -> Json:
    """Return the event with a message of Nextcloud to the room."""
    return {"type": "event", "event": {"target": "room", "type": "message", "message": {"roomid": ROOM, "data": data}}}


def type_of(message: Json) -> str:
    """Return the type of a message, or target and type of an event."""
    event = message.get("event")
    return f"{event['target']} {event['type']}" if event else str(message["type"])


def call_entry(userid: str, flags: int) -> Json:
    """Return the entry of a user in an ``incall`` request."""
    return {"sessionId": nextcloud_session(userid), "inCall": flags}


async def chat_before_ping(client: SessionClient) -> tuple[list[object], bytes]:
    """Return the chat before the next ping, and the ping's content."""
    messages: list[Json] = []
    while True:
        opcode, payload = await client.wire.frame()
        if opcode == PING:
            return chat_of(messages), payload
        if opcode == TEXT:
            messages.append(json.loads(payload))


async def messages_before_reply(client: SessionClient) -> list[Json]:
    """Send a message without a body, and return the messages before the error that answers it."""
    client.wire.send({"id": "last", "type": "message"})
    messages: list[Json] = []
    while (message := await client.wire.receive()).get("id") != "last":
        messages.append(message)
    return messages


async def chat_before_reply(client: SessionClient) -> list[object]:
    """Return the chat in ``messages_before_reply``."""
    return chat_of(await messages_before_reply(client))


async def test_pong_confirms_the_messages_before_its_ping(server: FlowServer) -> None:
    alice = await join(server, "alice")
    send_comments(server, {"id": 1}, {"id": 2})
    chat, ping = await chat_before_ping(alice)
    assert chat == [1, 2]
    send_comments(server, {"id": 3})
    assert await chat_before_reply(alice) == [3]
    alice.wire.send(ping, opcode=PONG)
    await chat_before_reply(alice)
    alice.wire.writer.transport.abort()
    again = await server.resumed(alice)
    assert await chat_before_reply(again) == [3]


# reference 5.6-e
async def test_unconfirmed_chat_alone_is_repeated_before_the_missed_messages(server: FlowServer) -> None:
    alice, bob = await join(server, "alice"), await join(server, "bob")
    send_comments(server, {"id": 1}, {"message": "without an id"})
    bob.send_message(alice, "relayed")
    for request in (
        {"type": "message", "message": {"data": {"type": "other", "chat": {}}}},
        {"type": "incall", "incall": {"changed": [call_entry("alice", 1), call_entry("bob", 1)]}},
        {"type": "update", "update": {"userids": ["alice"], "properties": {"name": "new"}}},
        {"type": "message", "message": {"data": REFRESH}},
    ):
        server.harness.rooms_api(ROOM, request)
    before = await messages_before_reply(alice)
    send_comments(server, {"id": 2})
    before += await messages_before_reply(alice)
    assert {type_of(message) for message in before} == {
        *("message", "room", "room join", "room message", "participants update", "roomlist update")
    }
    alice.wire.writer.transport.abort()
    await until(lambda: server.harness.hub.sessions[alice.sessionid].connection is None)
    send_comments(server, {"id": 3})
    server.harness.rooms_api(ROOM, {"type": "incall", "incall": {"changed": [call_entry("bob", 0)]}})
    again = await server.resumed(alice)
    after = await messages_before_reply(again)
    assert [message for message in after if message in before] == [
        room_message({"type": "chat", "chat": {"comment": {"id": 1}}}),
        room_message(REFRESH),
        room_message({"type": "chat", "chat": {"comment": {"id": 2}}}),
    ]
    assert chat_of(after) == [1, "refresh", 2, 3]
    assert [type_of(message) for message in after] == [*["room message"] * 4, "participants update"]


async def test_each_resume_repeats_chat_until_a_pong_on_the_new_connection_confirms_it(server: FlowServer) -> None:
    alice = await join(server, "alice")
    send_comments(server, {"id": 1})
    _, old_ping = await chat_before_ping(alice)
    second = await server.resumed(alice)  # displaces the connection of alice, which is not broken
    alice.wire.send(old_ping, opcode=PONG)
    chat, ping = await chat_before_ping(second)
    while not chat:
        chat, ping = await chat_before_ping(second)
    assert chat == [1]
    third = await server.resumed(second)
    assert await chat_before_reply(third) == [1]
    chat, ping = await chat_before_ping(third)
    third.wire.send(ping, opcode=PONG)
    await chat_before_reply(third)
    fourth = await server.resumed(third)
    assert await chat_before_reply(fourth) == []


async def test_pong_without_a_ping_confirms_no_message(server: FlowServer) -> None:
    alice = await join(server, "alice")
    send_comments(server, {"id": 1})
    for content in (b"", b"text", b"-1", b"0", b"9" * 40, b"%d" % (int(NOW * 1e9) - 1)):
        alice.wire.send(content, opcode=PONG)
    assert await chat_before_reply(alice) == [1]
    again = await server.resumed(alice)
    assert await chat_before_reply(again) == [1]


# reference 2.1-c
async def test_pong_of_an_earlier_ping_confirms_nothing_after_the_wall_clock_was_set_back(server: FlowServer) -> None:
    alice = await join(server, "alice")
    server.endpoint.wall_clock = lambda: NOW - 60.0
    send_comments(server, {"id": 1})
    assert (await chat_before_ping(alice))[0] == [1]
    alice.wire.send(b"%d" % int(NOW * 1e9), opcode=PONG)  # of the ping at the upgrade
    assert await chat_before_reply(alice) == []
    again = await server.resumed(alice)
    assert await chat_before_reply(again) == [1]


async def test_chat_of_a_room_that_the_client_left_is_not_repeated(server: FlowServer) -> None:
    alice = await join(server, "alice")
    send_comments(server, {"id": 1})
    assert await chat_before_reply(alice) == [1]
    alice.wire.send({"id": "l", "type": "room", "room": {"roomid": ""}})
    await chat_before_reply(alice)
    again = await server.resumed(alice)
    assert await chat_before_reply(again) == []
