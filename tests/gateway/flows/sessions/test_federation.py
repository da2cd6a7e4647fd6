"""Sessions of users of other servers, as the host of their room sees them (reference 3.3, 4.1, 7.4, 12.4)."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.tools.fake_nextcloud import SigningKey
from tests.gateway.flows.house import CLOUD, WALL, House, Json, Talker
from tests.gateway.flows.virtual_time import settle

URL = CLOUD.urls[0]


async def federated(house: House, **userdata: Any) -> Talker:
    """Let a federated user join the room; everybody there has heard of it."""
    key = SigningKey()
    house.nextcloud.keys[URL] = key.published
    house.nextcloud.features.add("federation-v2")
    token = key.sign({"iat": WALL + 1000, "exp": WALL + 1300, "sub": "zoe", "userdata": userdata})
    talker = house.connect()
    auth = {"type": "federation", "url": URL, "params": {"token": token}}
    talker.say({"id": "h", "type": "hello", "hello": {"version": "2.0", "auth": auth}})
    await settle()
    reply = talker.heard()[-1]
    assert reply["type"] == "hello", reply
    talker.sessionid, talker.resumeid = reply["hello"]["sessionid"], reply["hello"]["resumeid"]
    talker.say({"type": "room", "room": {"roomid": "r", "sessionid": "nc-zoe"}})
    await settle()
    return talker


def join(messages: list[Json]) -> list[Json]:
    return [entry for it in messages if it["type"] == "event" for entry in it["event"].get("join", ())]


async def test_others_see_that_a_session_is_federated() -> None:
    async with House() as house:
        alice = await house.member("alice")
        await federated(house, displayname="Zoe")
        (entry,) = join(alice.heard())
        assert (entry["federated"], entry["userid"], entry["user"]) == (True, "zoe", {"displayname": "Zoe"})


async def test_nextcloud_is_told_the_actor_at_join_and_leave() -> None:
    async with House() as house:
        zoe = await federated(house, actorType="federated_users", actorId="zoe@there.example")
        zoe.say({"id": "l", "type": "room", "room": {"roomid": ""}})
        await settle()
        asked = [msgspec.to_builtins(it) for it in (*house.nextcloud.joins(), *house.nextcloud.leaves())]
        actor = {"actortype": "federated_users", "actorid": "zoe@there.example"}
        assert [{name: it[name] for name in actor} for it in asked] == [actor, actor]


async def test_an_actor_needs_id_and_type_as_strings() -> None:
    async with House() as house:
        await federated(house, actorType="federated_users", actorId=5)
        (asked,) = house.nextcloud.joins()
        assert (asked.actorid, asked.actortype) == ("", "")


async def test_incall_all_does_not_bring_federated_sessions_in_but_takes_them_out() -> None:
    async with House() as house:
        alice = await house.member("alice")
        zoe = await federated(house)
        room = house.hub.room(CLOUD, "r")
        assert room is not None
        alice.heard()
        zoe.heard()
        house.backend("r", {"type": "incall", "incall": {"incall": 7, "all": True}})
        await settle()
        assert room.in_call == {alice.sessionid}
        assert zoe.heard() == []
        house.call("r", "zoe")
        await settle()
        zoe.heard()
        house.backend("r", {"type": "incall", "incall": {"incall": 0, "all": True}})
        await settle()
        assert room.in_call == set()
        assert [it["event"]["update"]["incall"] for it in zoe.heard()] == [0]


async def test_a_federated_session_counts_in_the_limit() -> None:
    limited = msgspec.structs.replace(CLOUD, session_limit=1)
    async with House(limited) as house:
        await federated(house)
        talker = house.connect()
        auth = {"url": URL, "params": house.nextcloud.ticket("alice")}
        talker.say({"id": "h", "type": "hello", "hello": {"version": "1.0", "auth": auth}})
        await settle()
        assert talker.heard()[-1]["error"]["code"] == "session_limit_exceeded"
