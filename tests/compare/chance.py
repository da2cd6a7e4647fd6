"""Take random steps on both servers; after each of them all clients must have received the same.

Steps with a known difference (reference 4.4, 7.3, 7.4, 11.2) are left out: a repeated name of a virtual session, a
Nextcloud session id again in another room, ``incall`` for all at once, a virtual session with a user id. Nor does a
listed user leave in any of the seeds before the list is sent again.
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

BY_CHANCE = Conversation("by chance", "", mcu=False, server={}, levels=(), steps=())
SEEDS = range(8)
STEPS = 40
PACE = 0.12  # seconds for a step to have its effect
LATE = 0.4  # seconds more when the two differ: one of them may be slower

USERS = {"alice": "alice", "bob": "bob", "anna": "alice"}  # two sessions of one user
BRIDGE = "bridge"
PEOPLE = (*USERS, BRIDGE)
UNSTEADY = {"lastPing", "server", "bandwidth"}


class Person:
    """A client on one server."""

    def __init__(self) -> None:
        self.raw: RawClient | None = None
        self.ids = ("", "")  # session and resume id
        self.heard: list[Json] = []
        self.gone = True

    async def listen(self, raw: RawClient) -> None:
        """Keep what comes, until the connection ends."""
        while self.raw is raw:
            try:
                self.heard.append(await raw.receive())
            except TimeoutError:
                continue
            except (AssertionError, OSError, asyncio.IncompleteReadError, ValueError):
                self.gone = self.gone or self.raw is raw
                return


class Side:
    """One server, and everybody on it."""

    def __init__(self, level: SocketLevel) -> None:
        self._level = level
        self.people = {name: Person() for name in PEOPLE}
        self._names: dict[str, str] = {}  # what stands for an id
        self._virtual = 0
        self._tasks: list[asyncio.Task[None]] = []

    async def carry_out(self, step: list[Json]) -> None:
        """Let somebody do something."""
        who, what, *rest = step
        if who == "nextcloud":
            await self._level.send(rest[0], self._filled(rest[1]))
            return
        person = self.people[who]
        if what == "enters":
            await self._connect(person)
            auth = {"url": self._level.url, "params": self._level.ticket(USERS[who])} if who in USERS else {}
            auth = auth or {"type": "internal", "params": self._level.internal()}
            hello = {"version": "1.0", "auth": auth, "features": rest[0]}
            _say(person, {"id": "h", "type": "hello", "hello": hello})
        elif what == "resumes":
            await self._connect(person)
            _say(person, {"id": "h", "type": "hello", "hello": {"version": "1.0", "resumeid": person.ids[1]}})
        elif what == "loses the connection" and person.raw is not None:
            person.gone, raw, person.raw = True, person.raw, None
            raw.writer.close()
        elif not person.gone:
            _say(person, self._filled(rest[0]))

    def told(self) -> dict[str, Counter[str]]:
        """Return what everybody was told since the last time, with names for the ids."""
        for name, person in self.people.items():
            for message in person.heard:
                self._learn(name, person, message)
        found = {}
        for name, person in self.people.items():
            heard = [self._named(it) for it in person.heard if not _is_timed(it)]
            found[name] = Counter(json.dumps(it, sort_keys=True) for it in heard)
            person.heard.clear()
        return found

    async def end(self) -> None:
        """Leave."""
        for person in self.people.values():
            person.raw = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connect(self, person: Person) -> None:
        await self._level.connect()
        person.raw, person.gone = self._level.clients[-1], False
        self._tasks.append(asyncio.create_task(person.listen(person.raw)))

    def _learn(self, name: str, person: Person, message: Json) -> None:
        if message["type"] == "hello":
            person.ids = (message["hello"]["sessionid"], message["hello"]["resumeid"])
            self._names |= {person.ids[0]: f"${name}", person.ids[1]: f"${name}.resume"}
        for entry in message.get("event", {}).get("join", ()):
            if entry["sessionid"] not in self._names:
                self._virtual += 1
                self._names[entry["sessionid"]] = f"$virtual{self._virtual}"

    def _named(self, value: Json) -> Json:
        if isinstance(value, dict):
            return {key: self._named(member) for key, member in value.items() if key not in UNSTEADY}
        if isinstance(value, list):
            return sorted((self._named(it) for it in value), key=lambda it: json.dumps(it, sort_keys=True))
        return self._names.get(value, value) if isinstance(value, str) else value

    def _filled(self, value: Json) -> Json:
        text = json.dumps(value)
        for id, name in self._names.items():
            text = text.replace(json.dumps(name), json.dumps(id))
        return json.loads(text)


def _is_timed(message: Json) -> bool:
    """Whether a message comes by itself: with the connection, or when nobody said a hello that was taken."""
    return bool(message["type"] == "welcome" or message.get("bye", {}).get("reason") == "hello_timeout")


def _say(person: Person, message: Json) -> None:
    if person.raw is not None:
        person.raw.send(message)


async def compare(seed: int, there: SocketLevel, here: SocketLevel) -> list[Difference]:
    """Let the same things happen by chance on both servers, and return the first that has another effect."""
    chance, sides = random.Random(seed), [Side(there), Side(here)]
    try:
        for number in range(STEPS):
            step = [PEOPLE[number], "enters", []] if number < len(PEOPLE) else next_step(chance, sides[0].people)
            await asyncio.gather(*(side.carry_out(step) for side in sides))
            await asyncio.sleep(PACE)
            told = [side.told() for side in sides]
            if told[0] != told[1]:
                await asyncio.sleep(LATE)
                for early, side in zip(told, sides, strict=True):
                    for name, late in side.told().items():
                        early[name] += late
            for name in PEOPLE:
                one, other = told[0][name], told[1][name]
                if one != other:
                    text = f"seed {seed}, after {short(step)}: {name} hears {[*(one - other)]} for {[*(other - one)]}"
                    return [Difference(BY_CHANCE.name, number, text)]
    finally:
        for side in sides:
            await side.end()
    return []


def next_step(chance: random.Random, people: dict[str, Person]) -> list[Json]:
    """Return what happens next."""
    who = chance.choice(PEOPLE)
    if people[who].gone:
        return [who, "resumes"] if people[who].ids[0] and chance.random() < 0.7 else [who, "enters", []]
    room = chance.choice("rrrs")
    return chance.choice((_of_client, _of_client, _of_client, _of_nextcloud, _of_nextcloud, _of_bridge))(
        chance, who, room
    )


def _of_client(chance: random.Random, who: str, room: str) -> list[Json]:
    recipients = [{"type": "session", "sessionid": f"${name}"} for name in (*PEOPLE, "virtual1")]
    recipients += [{"type": "user", "userid": name} for name in ("alice", "bob", "nobody")]
    body = {
        "recipient": chance.choice([*recipients, {"type": "room"}, {"type": "call"}]),
        "data": chance.choice(["hello", {"type": "nickChanged"}, {"a": None}, 5]),
    }
    change: Json = {"type": chance.choice(["set", "set", "remove", "surprise"]), "key": chance.choice("kq")}
    change["value"] = chance.choice([1, {"a": 1}, None, []])
    entered = (
        {"roomid": room}
        if who == BRIDGE or chance.random() < 0.1
        else {"roomid": room, "sessionid": f"nc-{who}-{room}"}
    )
    kind, said = chance.choice(
        [("room", entered)] * 4
        + [("room", {"roomid": ""}), ("message", body), ("message", body), ("control", body), ("transient", change)]
        + [("", {}), ("", {})]
    )
    return [who, "sends", {"id": "x", "type": kind, kind: said}] if kind else [who, "loses the connection"]


def _of_nextcloud(chance: random.Random, who: str, room: str) -> list[Json]:
    def entries(most: int) -> list[Json]:
        return [_entry(chance, room) for _ in range(chance.randint(0, most))]

    known = [f"nc-{name}-{room}" for name in USERS]
    requests: list[tuple[str, Json]] = [
        *([("incall", {"incall": 7, "changed": entries(2), "users": entries(3)})] * 3),
        *([("participants", {"changed": entries(2), "users": entries(2)})] * 2),
        ("message", {"data": chance.choice([{"type": "chat", "chat": {"refresh": True}}, {"x": 1}])}),
        ("invite", {"userids": ["bob"], "alluserids": ["alice", "bob"], "properties": {"n": 1}}),
        ("update", {"userids": ["alice"], "properties": {"n": chance.randint(1, 2)}}),
        ("disinvite", {"userids": chance.choice([["bob"], []]), "sessionids": [chance.choice([*known, "$virtual1"])]}),
        ("switchto", {"roomid": "t", "sessions": chance.choice([[known[0], "0"], {known[1]: {"x": 1}}])}),
    ]
    kind, body = chance.choice(requests)
    return ["nextcloud", "sends", room, {"type": kind, kind: body}]


def _entry(chance: random.Random, room: str) -> Json:
    session = chance.choice([*(f"nc-{name}-{room}" for name in USERS), "$virtual1", "nc-unknown", "0"])
    entry: Json = {"sessionId": session, "inCall": chance.choice([0, 1, 3, 7, True, False, "x"])}
    if chance.random() < 0.3:
        entry["permissions"] = chance.choice(
            [[], ["control"], ["transient-data"], ["hide-displaynames", "control"], "x"]
        )
    if chance.random() < 0.3 and session.startswith("nc-"):
        entry["userId"] = ""
    return entry


def _of_bridge(chance: random.Random, who: str, room: str) -> list[Json]:
    change = {"sessionid": "phone", "roomid": room}
    flags: Json = {"flags": chance.randint(0, 2), "incall": chance.randint(0, 1)}
    kind, body = chance.choice(
        [
            ("addsession", {"sessionid": f"phone {chance.random()}", "roomid": room} | flags),
            ("updatesession", change | flags),
            ("removesession", change),
            ("incall", {"incall": chance.choice([0, 1, 3])}),
        ]
    )
    return [BRIDGE, "sends", {"id": "x", "type": "internal", "internal": {"type": kind, kind: body}}]
