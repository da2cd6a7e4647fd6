"""Random histories of a room: clients get the same lists from whole lists, changed entries alone, and both mixed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.gateway.flows.harness import FakeClient, FlowHarness, Json
from tests.gateway.flows.virtual_time import VirtualLoop, settle

NAMES = ("alice", "bob", "carol", "dave")

Step = tuple[str, frozenset[int], int, bool]  # an event, some of the members, in-call flags, whether the list is whole
MEMBER_EVENTS = ("incall", "incall", "incall", "incall", "participants", "join", "leave", "resume", "message")
BRIDGE_EVENTS = (
    "bridge joins",
    "bridge leaves",
    "bridge flags",
    "phone joins",
    "phone leaves",
    "phone flags",
    "phone listed",
)
member_numbers = st.frozensets(st.integers(0, len(NAMES) - 1), min_size=1)
flags = st.sampled_from([0, 0, 1, 3, 7])


def histories(events: tuple[str, ...]) -> st.SearchStrategy[list[Step]]:
    return st.lists(st.tuples(st.sampled_from(events), member_numbers, flags, st.booleans()), min_size=2, max_size=25)


@dataclass
class History:
    """A room whose call Nextcloud knows, its members, and the lists that they received."""

    harness: FlowHarness
    whole: bool | None  # None: as each step says
    clients: dict[str, FakeClient] = field(default_factory=dict)
    in_call: dict[str, int] = field(default_factory=dict)  # in-call flags of the members, as Nextcloud has them
    bridge: FakeClient | None = None
    phone: str = ""  # public id of the virtual session
    seen: list[list[Any]] = field(default_factory=list)  # the updates of each client after each step

    async def play(self, steps: list[Step]) -> list[list[Any]]:
        self.bridge = await self.harness.internal_hello()
        for name in NAMES[:2]:
            await self.join(name)
        for event, numbers, value, whole in steps:
            await self.apply(event, [NAMES[number] for number in sorted(numbers)], value, whole)
            await settle()
            self.seen.append([event, *(self.read(client, event) for client in self.clients.values())])
        return self.seen

    async def apply(self, event: str, names: list[str], value: int, whole: bool) -> None:
        members = [name for name in names if name in self.clients]
        whole = whole if self.whole is None else self.whole
        match event:
            case "join" if names[0] not in self.clients:
                await self.join(names[0])
            case "leave" if members:
                self.clients.pop(members[0]).send({"type": "bye"})
                del self.in_call[members[0]]
            case "resume" if members:
                self.clients[members[0]].disconnect()
                self.clients[members[0]] = await self.harness.resume(self.clients[members[0]])
            case "incall" if members:
                self.in_call.update(dict.fromkeys(members, value))
                self.report("incall", members, whole)
            case "participants" if members:
                self.report("participants", members, whole)
            case "all":
                self.in_call.update(dict.fromkeys(self.in_call, value))
                self.harness.rooms_api("r", {"type": "incall", "incall": {"incall": value, "all": True}})
            case "message" if members:
                self.clients[members[0]].send_message({"type": "call"}, "in the call")
            case _:
                await self.apply_to_bridge(event, value, whole)

    async def apply_to_bridge(self, event: str, value: int, whole: bool) -> None:
        assert self.bridge is not None
        match event:
            case "bridge joins" | "bridge leaves":
                self.bridge.send({"type": "room", "room": {"roomid": "r" if event == "bridge joins" else ""}})
            case "bridge flags":
                self.bridge.send_internal("incall", incall=value)
            case "phone joins" if not self.phone and self.clients:
                self.bridge.send_internal("addsession", sessionid="p", roomid="r", userid="")
                await settle()
                self.phone = next(iter(self.harness.hub.virtuals))
            case "phone leaves" if self.phone:
                self.bridge.send_internal("removesession", sessionid="p", roomid="r")
                self.phone = ""
                self.in_call.pop("phone", None)
            case "phone flags" if self.phone:
                self.bridge.send_internal("updatesession", sessionid="p", roomid="r", incall=value)
            case "phone listed" if self.phone:
                self.in_call["phone"] = value
                self.report("incall", ["phone"], whole)
        await settle()
        self.bridge.received()

    async def join(self, name: str) -> None:
        self.clients[name] = await self.harness.member(name)
        self.in_call[name] = 0

    def report(self, type: str, changed: list[str], whole: bool) -> None:
        """Send a request about some members, with or without the list of those in the call or in the room."""
        body: Json = {"changed": [self.entry(type, name) for name in changed]}
        if whole:
            listed = [name for name, value in self.in_call.items() if value or type == "participants"]
            body["users"] = [self.entry(type, name) for name in listed]
        self.harness.rooms_api("r", {"type": type, type: body})

    def entry(self, type: str, name: str) -> Json:
        """Return an entry as Talk sends it."""
        session = self.phone if name == "phone" else f"nc-{name}"
        own = {"nextcloudSessionId": session} if type == "incall" else {"displayName": name.title()}
        return {"sessionId": session, "inCall": self.in_call[name], "actorId": name, **own}

    def read(self, client: FakeClient, event: str) -> list[Any]:
        """Return the messages to the call, and the lists ordered by session, that a client received."""
        found: list[Any] = []
        for message in client.received():
            if message["type"] == "message":
                found.append(message["message"]["data"])
            elif message["type"] == "event" and message["event"]["target"] == "participants":
                found.append(self.view(message["event"]["update"], event))
        return found

    def view(self, update: Json, event: str) -> Any:
        if "users" not in update:
            return update
        listed = {entry["sessionId"]: entry for entry in update["users"]}
        assert len(listed) == len(update["users"]), update
        if event == "participants":  # its whole list has entries of another form, also for members not in the call
            listed = {session: {"inCall": entry["inCall"]} for session, entry in listed.items() if entry["inCall"]}
        names = {client.sessionid: name for name, client in self.clients.items()}
        return {names.get(session, session): entry for session, entry in sorted(listed.items())}


async def play_history(steps: list[Step], whole: bool | None) -> list[list[Any]]:
    async with FlowHarness() as harness:
        return await History(harness, whole).play(steps)


def lists_of(steps: list[Step], whole: bool | None) -> list[list[Any]]:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(play_history(steps, whole))


# reference 7.3-f, 7.3-g, 7.3-h
@settings(max_examples=100)
@given(steps=histories((*MEMBER_EVENTS, *BRIDGE_EVENTS)))
def test_changed_entries_alone_lead_to_the_same_lists_as_whole_lists(steps: list[Step]) -> None:
    expected = lists_of(steps, True)
    assert lists_of(steps, False) == expected
    assert lists_of(steps, None) == expected


def only_flags(seen: list[list[Any]]) -> list[Any]:
    """Reduce entries to their flags: a request about all adds entries of sessions that Nextcloud has not listed."""
    return [
        [
            [
                {session: entry["inCall"] for session, entry in view.items()}
                if isinstance(view, dict) and "roomid" not in view
                else view
                for view in views
            ]
            for views in step[1:]
        ]
        for step in seen
    ]


# reference 7.3-f, 7.3-h, 7.4-c
@settings(max_examples=100)
@given(steps=histories((*MEMBER_EVENTS, *BRIDGE_EVENTS, "all", "all", "all")))
def test_lists_are_the_same_after_requests_about_all_participants(steps: list[Step]) -> None:
    expected = only_flags(lists_of(steps, True))
    assert only_flags(lists_of(steps, False)) == expected
    assert only_flags(lists_of(steps, None)) == expected
