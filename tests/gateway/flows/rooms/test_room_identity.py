"""Who is known by a Nextcloud session id, and who may take it over (reference 4.1, 4.4)."""

from __future__ import annotations

import asyncio

from tests.gateway.flows.house import House, Talker
from tests.gateway.flows.virtual_time import settle


def join(talker: Talker, room: str = "r", nc: str = "") -> None:
    talker.say({"id": "j", "type": "room", "room": {"roomid": room, "sessionid": nc}})


async def late_answer(house: House, other_nc: str) -> Talker:
    """A session ends while it joins ``r1`` as nc-alice; another one is in ``r1`` as ``other_nc`` by then."""
    alice, again = await house.member("alice", "r0"), await house.open("alice")
    held = house.nextcloud.gate = asyncio.Event()
    join(alice, "r1", "nc-alice")
    await settle()
    house.nextcloud.gate = None
    join(again, "r1", other_nc)
    await settle()
    alice.say({"type": "bye", "bye": {}})
    await settle()
    held.set()
    await settle()
    return again


async def test_answer_to_a_join_that_was_overtaken_does_not_end_the_talk_session_of_who_overtook_it() -> None:
    async with House() as house:
        again = await late_answer(house, "nc-alice")
        assert house.hub.of_room_session("cloud", "nc-alice") is again.session
        assert house.nextcloud.leaves() == []


async def test_answer_to_a_join_whose_session_has_ended_is_undone() -> None:
    async with House() as house:
        await late_answer(house, "nc-other")
        told = [(it.roomid, it.sessionid) for it in house.nextcloud.leaves()]
        assert told == [("r0", "nc-alice"), ("r1", "nc-alice")]


async def test_joining_the_own_room_again_does_not_take_the_id_of_another_one() -> None:
    async with House() as house:
        alice, eve = await house.member("alice"), await house.member("eve")
        alice.heard()
        join(eve, nc="nc-alice")
        await settle()
        assert eve.errors() == ["already_joined"]
        assert house.hub.of_room_session("cloud", "nc-alice") is alice.session
        assert house.hub.of_room_session("cloud", "nc-eve") is eve.session
        assert alice.heard() == []


async def test_joining_the_own_room_again_without_an_id_is_known_by_the_public_one() -> None:
    async with House() as house:
        alice = await house.member("alice")
        join(alice)
        await settle()
        assert alice.errors() == ["already_joined"]
        assert house.hub.of_room_session("cloud", "nc-alice") is None
        assert house.hub.of_room_session("cloud", alice.sessionid) is alice.session
        bob = await house.open("bob")
        join(bob, nc="nc-bob")
        await settle()
        (entry,) = bob.heard()[-1]["event"]["join"]
        assert entry["roomsessionid"] == alice.sessionid
        alice.say({"type": "room", "room": {"roomid": ""}})
        await settle()
        assert [it.sessionid for it in house.nextcloud.leaves()] == [alice.sessionid]


async def test_internal_client_does_not_take_the_id_of_another_one() -> None:
    async with House() as house:
        alice, internal = await house.member("alice"), await house.open_internal()
        join(internal, nc="nc-alice")
        await settle()
        assert internal.heard()[0]["room"]["roomid"] == "r"
        assert alice.session.open
        assert house.hub.of_room_session("cloud", "nc-alice") is alice.session
        assert house.hub.of_room_session("cloud", internal.sessionid) is internal.session
        assert [it["type"] for it in alice.heard()] == ["event"] * 2  # it came, and the list of participants


async def test_internal_client_has_an_id_that_is_free() -> None:
    async with House() as house:
        internal = await house.open_internal()
        join(internal, nc="nc-free")
        await settle()
        assert house.hub.of_room_session("cloud", "nc-free") is internal.session
