"""Two backends never meet, whatever the message, also when rooms, users and Nextcloud's ids have the same names.

Source: reference 3.6, 5.1, 5.3; invariant 9.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gateway.core.limits import Backend
from gateway.core.session import ClientType
from tests.gateway.flows.house import OTHER, House, Json, Talker
from tests.gateway.flows.sessions.test_federation import federated
from tests.gateway.flows.virtual_time import settle

Said = Callable[[str, str], Json]  # with the public ids of a session and of a virtual one there


def media(type: str, **data: Any) -> Said:
    return lambda session, _: message("message", {"type": "session", "sessionid": session}, {"type": type, **data})


def message(kind: str, recipient: Json, data: Any = "hello") -> Json:
    return {"type": kind, kind: {"recipient": recipient, "data": data}}


SAID: dict[str, Said] = {
    "message to the session": lambda session, _: message("message", {"type": "session", "sessionid": session}),
    "message to the virtual session": lambda _, virtual: message("message", {"type": "session", "sessionid": virtual}),
    "message to the user": lambda *_: message("message", {"type": "user", "userid": "bob"}),
    "message to the room": lambda *_: message("message", {"type": "room"}),
    "message to the call": lambda *_: message("message", {"type": "call"}),
    "control to the session": lambda session, _: message("control", {"type": "session", "sessionid": session}),
    "control to the virtual session": lambda _, virtual: message("control", {"type": "session", "sessionid": virtual}),
    "control to the user": lambda *_: message("control", {"type": "user", "userid": "bob"}),
    "control to the room": lambda *_: message("control", {"type": "room"}),
    "control to the call": lambda *_: message("control", {"type": "call"}),
    "requestoffer": media("requestoffer", roomType="video"),
    "sendoffer": media("sendoffer", roomType="video"),
    "selectStream": media("selectStream", roomType="video", payload={"substream": 1}),
    "endOfCandidates": media("endOfCandidates", roomType="video"),
    "unshareScreen": media("unshareScreen"),
    "transient set": lambda *_: {"type": "transient", "transient": {"type": "set", "key": "k", "value": 2}},
    "transient remove": lambda *_: {"type": "transient", "transient": {"type": "remove", "key": "k"}},
    "transient of the session": lambda session, _: {
        "type": "transient",
        "transient": {"type": "remove", "key": f"sd:{session}"},
    },
    "room": lambda *_: {"type": "room", "room": {"roomid": "q", "sessionid": "nc-alice"}},
    "leave": lambda *_: {"type": "room", "room": {"roomid": ""}},
    "bye": lambda *_: {"type": "bye"},
}

ENTRY = {"sessionId": "nc-alice", "inCall": 0, "permissions": []}
REQUESTS: dict[str, Json] = {
    "invite": {"userids": ["alice", "bob"], "alluserids": ["alice", "bob"]},
    "disinvite": {"userids": ["alice", "bob"], "sessionids": ["nc-alice", "nc-bob"], "alluserids": []},
    "update": {"userids": ["alice", "bob"], "properties": {"name": "changed"}},
    "delete": {"userids": ["alice", "bob"]},
    "incall": {"incall": 0, "changed": [ENTRY], "users": [ENTRY]},
    "participants": {"changed": [ENTRY], "users": [ENTRY]},
    "message": {"data": {"type": "chat"}},
    "switchto": {"roomid": "x", "sessions": ["nc-alice", "nc-bob"]},
}

INTERNAL: dict[str, Json] = {
    "addsession": {"sessionid": "mine", "roomid": "only there"},
    "updatesession": {"sessionid": "phone", "roomid": "r", "flags": 4, "incall": 0},
    "removesession": {"sessionid": "phone", "roomid": "r"},
    "incall": {"incall": 0},
    "dialout": {"type": "status", "roomid": "only there", "status": {"callid": "1", "status": "ringing"}},
}


async def scene(house: House) -> tuple[list[Talker], str]:
    """Return who is in a call of one backend, an internal client with a virtual session among them, and its id."""
    alice, bob = [await house.member(name, in_call=True) for name in ("alice", "bob")]
    bridge = await house.open_internal()
    bridge.say({"type": "room", "room": {"roomid": "r"}})
    add = {"type": "addsession", "addsession": {"sessionid": "phone", "roomid": "r"}}
    bridge.say({"type": "internal", "internal": add})
    lonely = await house.member("lonely", "only there")
    alice.say({"type": "transient", "transient": {"type": "set", "key": "k", "value": 1}})
    alice.say({"type": "transient", "transient": {"type": "set", "key": f"sd:{alice.sessionid}", "value": 1}})
    alice.offer()
    await settle()
    people = [alice, bob, bridge, lonely]
    for one in people:
        one.heard()
    (virtual,) = house.hub.virtuals
    return people, virtual


def undisturbed(people: list[Talker]) -> bool:
    return all(one.heard() == [] and one.session.open and not one.connection.finished for one in people)


@pytest.mark.parametrize("name", SAID)
@pytest.mark.parametrize("internal", [False, True])
async def test_nothing_that_is_said_reaches_another_backend(name: str, internal: bool) -> None:
    async with House() as house:
        people, virtual = await scene(house)
        eve = await (house.open_internal(backend=OTHER) if internal else house.open("alice", OTHER))
        eve.say({"type": "room", "room": {"roomid": "r", "sessionid": "nc-alice"}})
        await settle()
        house.backend("r", {"type": "incall", "incall": {"incall": 7, "all": True}}, OTHER)
        asked = len(house.nextcloud.asked)
        eve.say(SAID[name](people[0].sessionid, virtual))
        await settle()
        assert undisturbed(people)
        assert house.publisher(people[0]) is not None
        assert all(backend is OTHER for backend, _, _ in house.nextcloud.asked[asked:])
        alice = house.hub.of_room_session("cloud", "nc-alice")
        assert alice is people[0].session


@pytest.mark.parametrize("name", REQUESTS)
async def test_no_request_of_a_nextcloud_reaches_the_room_of_another(name: str) -> None:
    async with House() as house:
        people, _ = await scene(house)
        await house.member("alice", backend=OTHER, in_call=True)
        house.backend("r", {"type": name, name: REQUESTS[name]}, OTHER)
        await settle()
        assert undisturbed(people)
        assert house.publisher(people[0]) is not None
        assert people[0].session.permissions.listed is None


@pytest.mark.parametrize("name", INTERNAL)
async def test_no_internal_client_reaches_the_rooms_of_another_backend(name: str) -> None:
    async with House() as house:
        people, virtual = await scene(house)
        eve = await house.open_internal(backend=OTHER)
        eve.say({"type": "internal", "internal": {"type": name, name: INTERNAL[name]}})
        await settle()
        assert undisturbed(people)
        assert list(house.hub.virtuals) == [virtual]


async def test_a_phone_call_is_made_by_clients_of_its_backend_only() -> None:
    async with House() as house:
        await house.open_internal("start-dialout", backend=OTHER)
        status, body = await house.dial("12", {"number": "+49123"})
        assert (status, body["error"]["code"]) == (404, "no_client_available")


# -- session limits (3.5)


async def test_sessions_count_for_the_backend_whichever_of_its_urls_they_name() -> None:
    urls = ("https://one.example/", "https://two.example/cloud/")
    small = Backend("small", urls, "secret", session_limit=2)
    async with House(small, OTHER) as house:

        async def hello(url: str) -> Talker:
            talker = house.connect()
            talker.heard()
            auth = {"url": url, "params": house.nextcloud.ticket("u")}
            talker.say({"id": "h", "type": "hello", "hello": {"version": "1.0", "auth": auth}})
            await settle()
            return talker

        first, second = [await hello(url) for url in urls]
        assert [it.heard()[0]["type"] for it in (first, second)] == ["hello", "hello"]
        for url in urls:
            assert (await hello(url)).errors() == ["session_limit_exceeded"]
        assert house.counters.limit_exceeded == {"small": 2}
        second.lose()  # it may come back, and counts
        assert (await hello(urls[0])).errors() == ["session_limit_exceeded"]
        internal = await house.open_internal(backend=small)
        assert internal.session.is_internal
        assert (await hello(OTHER.urls[0])).heard()[0]["type"] == "hello"
        await house.sweep(31)
        assert (await hello(urls[1])).heard()[0]["type"] == "hello"
        assert (await hello(urls[1])).errors() == ["session_limit_exceeded"]


async def test_federated_sessions_count_and_virtual_ones_do_not() -> None:
    limited = Backend("cloud", ("https://cloud.example/",), "secret of the cloud", session_limit=2)
    async with House(limited) as house:
        await house.member("alice", backend=limited)
        bridge = await house.open_internal(backend=limited)
        for name in ("a", "b"):
            add = {"type": "addsession", "addsession": {"sessionid": name, "roomid": "r"}}
            bridge.say({"type": "internal", "internal": add})
        await settle()
        assert len(house.hub.virtuals) == 2
        zoe = await federated(house)
        assert zoe.session.client_type is ClientType.FEDERATION
        guest = house.connect()
        guest.heard()
        auth = {"url": limited.urls[0], "params": house.nextcloud.ticket("")}
        guest.say({"type": "hello", "hello": {"version": "1.0", "auth": auth}})
        await settle()
        assert guest.errors() == ["session_limit_exceeded"]
