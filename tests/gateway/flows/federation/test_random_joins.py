"""Random requests of a client whose hosts answer at random moments: client, gateway and hosts end in the same room.

Source: reference 12.1, 12.3-e, 12.3-m.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from typing import Any

import pytest

from tests.gateway.flows.federation.fake_host import FakeHost, FakeHostConnection, error
from tests.gateway.flows.federation.seats import harness_with, request_join
from tests.gateway.flows.harness import FakeClient, FlowHarness, Json
from tests.gateway.flows.virtual_time import settle

REFUSED_ROOM = "3"  # number of the room that its host, or Nextcloud, refuses
ACTIONS = 40


class OrderlyHost(FakeHost):
    """A host that handles the messages of each connection in order, when ``handle_one`` is called."""

    def __init__(self) -> None:
        super().__init__("ack")
        self.waiting: dict[FakeHostConnection, deque[Json]] = {}
        self.rooms: dict[FakeHostConnection, str] = {}  # of the sessions in a room, by their connection

    def answer(self, connection: FakeHostConnection, message: Json) -> None:
        self.waiting.setdefault(connection, deque()).append(message)

    def handle_one(self, rng: random.Random) -> bool:
        """Handle one message of any connection; return ``False`` if there is none."""
        busy = [connection for connection, messages in self.waiting.items() if messages]
        if not busy:
            return False
        connection = rng.choice(busy)
        message = self.waiting[connection].popleft()
        if message["type"] == "room":
            self._enter(connection, message, message["room"]["roomid"])
        else:
            super().answer(connection, message)
            if message["type"] == "bye":
                self.rooms.pop(connection, None)
        return True

    def _enter(self, connection: FakeHostConnection, message: Json, room: str) -> None:
        if room.endswith(REFUSED_ROOM):
            body: Json = error("no_such_room")
        elif self.rooms.get(connection) == room:
            body = error("already_joined")
        else:
            self.rooms[connection] = room
            body = {"roomid": room}
        self._reply(connection, message, "room", body)
        if "code" not in body:  # an event that tells the rooms apart
            entry = {"sessionid": f"member of {room}", "userid": ""}
            connection.deliver({"type": "event", "event": {"target": "room", "type": "join", "join": [entry]}})


def refuse_one_room(joined: Any) -> Json | None:
    refused = getattr(joined, "roomid", "").endswith(REFUSED_ROOM)
    return {"type": "error", "error": {"code": "no_such_room", "message": ""}} if refused else None


def send_random_request(rng: random.Random, client: FakeClient, number: int, bob: FakeClient) -> bool:
    """Send a random request or message; return whether the client expects a reply."""
    id, room = f"q{number}", rng.choice("1123")
    match rng.randrange(8):
        case 0 | 1 | 2:
            request_join(client, id, f"L{room}", roomid=f"R{room}", url=f"https://{rng.choice('aaab')}.example/")
        case 3:
            client.join(f"here{room}", f"nc{number}", id=id)
        case 4:
            client.leave(id=id)
            return False  # a session in no room gets no reply
        case _:
            client.send_message(bob, number)
            return False
    return True


@pytest.mark.parametrize("seed", range(100))
async def test_client_gateway_and_hosts_agree_about_the_room_in_the_end(seed: int) -> None:
    rng, host = random.Random(seed), OrderlyHost()
    async with harness_with(host) as harness:
        alice, bob = await harness.hello("alice"), await harness.hello("bob")
        harness.nextcloud.answer = refuse_one_room
        asked: list[str] = []
        for number in range(ACTIONS):
            asked += [f"q{number}"] if send_random_request(rng, alice, number, bob) else []
            for _ in range(rng.choice((0, 1, 3, 12))):
                if rng.random() < 0.7:
                    host.handle_one(rng)
                for _ in range(rng.choice((0, 1, 2, 5, 20))):
                    await asyncio.sleep(0)
        await settle()
        while host.handle_one(rng):
            await settle()
        await settle()
        messages = alice.received()
        check_replies(messages, asked)
        check_rooms(harness, alice, host, messages)
        check_messages(bob, host)


def check_replies(messages: list[Json], asked: list[str]) -> None:
    replies = [message["id"] for message in messages if message["type"] in ("room", "error") and "id" in message]
    assert sorted(id for id in replies if id in asked) == sorted(asked)  # one for each request
    assert replies == sorted(replies, key=lambda id: int(id[1:]))  # in order


def check_rooms(harness: FlowHarness, alice: FakeClient, host: OrderlyHost, messages: list[Json]) -> None:
    """Check that the room that the client was told last is its room, and that each event was about the room then."""
    room = ""
    for message in messages:
        if message["type"] == "room":
            room = message["room"]["roomid"]
        elif message["type"] == "event" and message["event"]["join"][0]["sessionid"].startswith("member of"):
            assert message["event"]["join"][0]["sessionid"] == f"member of R{room[1:]}"
    assert list(host.rooms.values()) == ([f"R{room[1:]}"] if room.startswith("L") else [])
    assert list(harness.hub.seated) == ([alice.sessionid] if room.startswith("L") else [])
    here = harness.hub.room_of(alice.session)
    assert (here.key.id if here is not None else "") == ("" if room.startswith("L") else room)


def check_messages(bob: FakeClient, host: OrderlyHost) -> None:
    """Check that each message has reached one recipient once, and each of them in order."""
    here = [message["message"]["data"] for message in bob.received()]
    there = [message["message"]["data"] for message in host.sent("message")]
    assert here == sorted(here)
    for connection in host.connections:
        data = [message["message"]["data"] for message in connection.sent if message["type"] == "message"]
        assert data == sorted(data)
    assert len({*here, *there}) == len(here) + len(there)
