"""The same random steps on both servers: after each of them all clients must have received the same.

Steps with a known difference (reference 4.4, 5.3, 7.3, 7.4, 11.2) are left out: a repeated name of a virtual session,
a Nextcloud session id again in another room, ``incall`` for all at once, a virtual session with a user id, ``control``
to a session or user, a session twice in one list, a join of a client without Nextcloud session id, which may be one of
its own room (4.1). Participants updates that an internal client or a resume causes are not compared: those of Portunus
list all members of the room (7.3). With none of the seeds does a listed user leave before the list is sent again.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter

from tests.compare.player import Difference, short
from tests.conversations.levels import SocketLevel
from tests.conversations.player import Conversation, Json
from tests.gateway.edge.raw_client import RawClient

RANDOM_STEPS = Conversation("random steps", "", mcu=False, server={}, levels=(), steps=())
SEEDS = range(8)
STEPS = 40
PACE = 0.12  # seconds for a step to have its effect
EXTRA_WAIT = 0.4  # seconds more when the two differ: one of them may be slower

USERS = {"alice": "alice", "bob": "bob", "anna": "alice"}  # two sessions of one user
BRIDGE = "bridge"
CLIENTS = (*USERS, BRIDGE)
VARYING_MEMBERS = {"lastPing", "server", "bandwidth"}


class RandomClient:
    """Client of one server."""

    def __init__(self) -> None:
        self.raw: RawClient | None = None
        self.ids = ("", "")  # session and resume id
        self.received: list[Json] = []
        self.disconnected = True

    async def collect(self, raw: RawClient) -> None:
        """Append each message to ``received`` until the connection ends."""
        while self.raw is raw:
            try:
                self.received.append(await raw.receive())
            except TimeoutError:
                continue
            except (AssertionError, OSError, asyncio.IncompleteReadError, ValueError):
                self.disconnected = self.disconnected or self.raw is raw
                return


class ComparedServer:
    """One of the two servers, with its clients."""

    def __init__(self, level: SocketLevel) -> None:
        self._level = level
        self.clients = {name: RandomClient() for name in CLIENTS}
        self._names: dict[str, str] = {}  # names by id
        self._virtual = 0
        self._tasks: list[asyncio.Task[None]] = []

    async def play(self, step: list[Json]) -> None:
        """Play one step on this server."""
        actor, action, *rest = step
        if actor == "nextcloud":
            await self._level.send(rest[0], self._filled(rest[1]))
            return
        client = self.clients[actor]
        if action == "enters":
            await self._connect(client)
            auth = {"url": self._level.url, "params": self._level.ticket(USERS[actor])} if actor in USERS else {}
            auth = auth or {"type": "internal", "params": self._level.internal_params()}
            hello = {"version": "1.0", "auth": auth, "features": rest[0]}
            _send(client, {"id": "h", "type": "hello", "hello": hello})
        elif action == "resumes":
            await self._connect(client)
            _send(client, {"id": "h", "type": "hello", "hello": {"version": "1.0", "resumeid": client.ids[1]}})
        elif action == "loses the connection" and client.raw is not None:
            client.disconnected, raw, client.raw = True, client.raw, None
            raw.writer.close()
        elif not client.disconnected:
            _send(client, self._filled(rest[0]))

    def new_messages(self, lists: bool) -> dict[str, Counter[str]]:
        """Return the messages to each client since the last call, with names in place of ids.

        ``lists``: with the updates of lists of participants.
        """
        for name, client in self.clients.items():
            for message in client.received:
                self._name_sessions(name, client, message)
        found = {}
        for name, client in self.clients.items():
            received = [
                self._with_names(it) for it in client.received if not _is_timed(it) and (lists or not _is_list(it))
            ]
            found[name] = Counter(json.dumps(it, sort_keys=True) for it in received)
            client.received.clear()
        return found

    async def end(self) -> None:
        """Disconnect all clients."""
        for client in self.clients.values():
            client.raw = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connect(self, client: RandomClient) -> None:
        await self._level.connect()
        client.raw, client.disconnected = self._level.clients[-1], False
        self._tasks.append(asyncio.create_task(client.collect(client.raw)))

    def _name_sessions(self, name: str, client: RandomClient, message: Json) -> None:
        if message["type"] == "hello":
            client.ids = (message["hello"]["sessionid"], message["hello"]["resumeid"])
            self._names |= {client.ids[0]: f"${name}", client.ids[1]: f"${name}.resume"}
        for entry in message.get("event", {}).get("join", ()):
            if entry["sessionid"] not in self._names:
                self._virtual += 1
                self._names[entry["sessionid"]] = f"$virtual{self._virtual}"

    def _with_names(self, value: Json) -> Json:
        if isinstance(value, dict):
            return {key: self._with_names(member) for key, member in value.items() if key not in VARYING_MEMBERS}
        if isinstance(value, list):
            return sorted((self._with_names(it) for it in value), key=lambda it: json.dumps(it, sort_keys=True))
        return self._names.get(value, value) if isinstance(value, str) else value

    def _filled(self, value: Json) -> Json:
        text = json.dumps(value)
        for id, name in self._names.items():
            text = text.replace(json.dumps(name), json.dumps(id))
        return json.loads(text)


def _is_timed(message: Json) -> bool:
    """Return whether a message is caused by time: the welcome, or the end of a connection without a hello."""
    return bool(message["type"] == "welcome" or message.get("bye", {}).get("reason") == "hello_timeout")


def _is_list(message: Json) -> bool:
    event = message.get("event", {})
    return bool((event.get("target"), event.get("type")) == ("participants", "update"))


def _send(client: RandomClient, message: Json) -> None:
    if client.raw is not None:
        client.raw.send(message)


async def compare(seed: int, go: SocketLevel, portunus: SocketLevel) -> list[Difference]:
    """Take the same random steps on both servers, and return the first one with another effect."""
    rng, servers = random.Random(seed), [ComparedServer(go), ComparedServer(portunus)]
    try:
        for number in range(STEPS):
            step = [CLIENTS[number], "enters", []] if number < len(CLIENTS) else next_step(rng, servers[0].clients)
            await asyncio.gather(*(server.play(step) for server in servers))
            await asyncio.sleep(PACE)
            lists = step[0] != BRIDGE and step[1] != "resumes"
            messages = [server.new_messages(lists) for server in servers]
            if messages[0] != messages[1]:
                await asyncio.sleep(EXTRA_WAIT)
                for early, server in zip(messages, servers, strict=True):
                    for name, late in server.new_messages(lists).items():
                        early[name] += late
            for name in CLIENTS:
                of_go, of_portunus = messages[0][name], messages[1][name]
                if of_go != of_portunus:
                    received = f"{name} receives {[*(of_go - of_portunus)]} for {[*(of_portunus - of_go)]}"
                    text = f"seed {seed}, after {short(step)}: {received}"
                    return [Difference(RANDOM_STEPS.name, number, text)]
    finally:
        for server in servers:
            await server.end()
    return []


def next_step(rng: random.Random, clients: dict[str, RandomClient]) -> list[Json]:
    """Return a random step: of a client that is connected, of Nextcloud, or the resume of a disconnected client."""
    client = rng.choice(CLIENTS)
    if clients[client].disconnected:
        return [client, "resumes"] if clients[client].ids[0] and rng.random() < 0.7 else [client, "enters", []]
    room = rng.choice("rrrs")
    return rng.choice((_client_step, _client_step, _client_step, _nextcloud_step, _nextcloud_step, _bridge_step))(
        rng, client, room
    )


def _client_step(rng: random.Random, client: str, room: str) -> list[Json]:
    recipients = [{"type": "session", "sessionid": f"${name}"} for name in (*CLIENTS, "virtual1")]
    recipients += [{"type": "user", "userid": name} for name in ("alice", "bob", "unknown")]
    body = {
        "recipient": rng.choice([*recipients, {"type": "room"}, {"type": "call"}]),
        "data": rng.choice(["hello", {"type": "nickChanged"}, {"a": None}, 5]),
    }
    change: Json = {"type": rng.choice(["set", "set", "remove", "surprise"]), "key": rng.choice("kq")}
    change["value"] = rng.choice([1, {"a": 1}, None, []])
    entered = {"roomid": room} if client == BRIDGE else {"roomid": room, "sessionid": f"nc-{client}-{room}"}
    message_type, body_of_type = rng.choice(
        [("room", entered)] * 4
        + [("room", {"roomid": ""}), ("message", body), ("message", body), ("transient", change)]
        + [("control", body | {"recipient": {"type": rng.choice(["room", "call"])}})]
        + [("", {}), ("", {})]
    )
    return (
        [client, "sends", {"id": "x", "type": message_type, message_type: body_of_type}]
        if message_type
        else [client, "loses the connection"]
    )


def _nextcloud_step(rng: random.Random, client: str, room: str) -> list[Json]:
    def entries(most: int) -> list[Json]:
        chosen = [_entry(rng, room) for _ in range(rng.randint(0, most))]
        return list({entry["sessionId"]: entry for entry in chosen}.values())  # one of each session (7.1)

    known = [f"nc-{name}-{room}" for name in USERS]
    requests: list[tuple[str, Json]] = [
        *([("incall", {"incall": 7, "changed": entries(2), "users": entries(3)})] * 3),
        *([("participants", {"changed": entries(2), "users": entries(2)})] * 2),
        ("message", {"data": rng.choice([{"type": "chat", "chat": {"refresh": True}}, {"x": 1}])}),
        ("invite", {"userids": ["bob"], "alluserids": ["alice", "bob"], "properties": {"n": 1}}),
        ("update", {"userids": ["alice"], "properties": {"n": rng.randint(1, 2)}}),
        ("disinvite", {"userids": rng.choice([["bob"], []]), "sessionids": [rng.choice([*known, "$virtual1"])]}),
        ("switchto", {"roomid": "t", "sessions": rng.choice([[known[0], "0"], {known[1]: {"x": 1}}])}),
    ]
    message_type, body = rng.choice(requests)
    return ["nextcloud", "sends", room, {"type": message_type, message_type: body}]


def _entry(rng: random.Random, room: str) -> Json:
    session = rng.choice([*(f"nc-{name}-{room}" for name in USERS), "$virtual1", "nc-unknown", "0"])
    entry: Json = {"sessionId": session, "inCall": rng.choice([0, 1, 3, 7, True, False, "x"])}
    if rng.random() < 0.3:
        entry["permissions"] = rng.choice([[], ["control"], ["transient-data"], ["hide-displaynames", "control"], "x"])
    if rng.random() < 0.3 and session.startswith("nc-"):
        entry["userId"] = ""
    return entry


def _bridge_step(rng: random.Random, client: str, room: str) -> list[Json]:
    change = {"sessionid": "phone", "roomid": room}
    flags: Json = {"flags": rng.randint(0, 2), "incall": rng.randint(0, 1)}
    message_type, body = rng.choice(
        [
            ("addsession", {"sessionid": f"phone {rng.random()}", "roomid": room} | flags),
            ("updatesession", change | flags),
            ("removesession", change),
            ("incall", {"incall": rng.choice([0, 1, 3])}),
        ]
    )
    return [BRIDGE, "sends", {"id": "x", "type": "internal", "internal": {"type": message_type, message_type: body}}]
