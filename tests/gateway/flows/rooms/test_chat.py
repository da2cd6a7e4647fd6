"""Chat messages of the backend: who sees how much of them (reference 5.4-5.6)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.gateway.flows.fakes import FakeRoom
from tests.gateway.flows.house import House, Json, Talker
from tests.gateway.flows.virtual_time import settle

COMMENT = {"id": 1, "actorDisplayName": "Alice", "message": "hi", "parent": {"actorDisplayName": "Bob"}}
REFRESH = {"type": "chat", "chat": {"refresh": True}}


def chat(house: House, *, room: str = "r", **fields: Any) -> None:
    house.backend(room, {"type": "message", "message": {"data": {"type": "chat", "chat": fields, "more": 1}}})


def data(talker: Talker) -> list[Any]:
    heard = talker.heard()
    assert all(it["event"]["type"] == "message" and it["event"]["message"]["roomid"] == "r" for it in heard), heard
    return [it["event"]["message"]["data"] for it in heard]


def comment(it: Json) -> Json:
    return {"type": "chat", "chat": {"comment": it}}


async def two(house: House) -> tuple[Talker, Talker]:
    plain, relay = await house.member("plain"), await house.member("relay", features=("chat-relay",))
    plain.heard()
    return plain, relay


async def test_comment_goes_to_who_can_take_it_and_a_refresh_to_the_others() -> None:
    async with House() as house:
        plain, relay = await two(house)
        chat(house, refresh=True, comment=COMMENT)
        assert data(plain) == [REFRESH]
        assert data(relay) == [comment(COMMENT)]


async def test_several_comments_are_events_of_their_own_in_order() -> None:
    async with House() as house:
        plain, relay = await two(house)
        chat(house, refresh=True, comments=[{"id": 2}, None, {}, {"id": 3}], comment={"id": 1})
        assert data(plain) == [REFRESH]
        assert data(relay) == [comment({"id": number}) for number in (1, 2, 3)]


async def test_comments_without_refresh_go_to_everybody() -> None:
    async with House() as house:
        plain, relay = await two(house)
        chat(house, comments=[{"id": 1}, {"id": 2}])
        chat(house, refresh=False, comment={"id": 3})
        assert data(plain) == data(relay) == [comment({"id": number}) for number in (1, 2, 3)]


@pytest.mark.parametrize("fields", [{"refresh": True}, {"refresh": True, "comment": None, "comments": [None, {}]}, {}])
async def test_without_comments_it_is_passed_on_untouched(fields: Json) -> None:
    async with House() as house:
        for talker in await two(house):
            chat(house, **fields)
            assert data(talker)[-1] == {"type": "chat", "chat": fields, "more": 1}


@pytest.mark.parametrize(
    "other",
    ["text", [1], {"type": "chat"}, {"type": "chat", "chat": {"refresh": "yes", "comment": {"id": 1}}}, {"type": "x"}],
)
async def test_what_is_no_chat_message_is_passed_on_untouched(other: Any) -> None:
    async with House() as house:
        for talker in await two(house):
            house.backend("r", {"type": "message", "message": {"data": other}})
            assert data(talker)[-1] == other


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        (COMMENT, COMMENT | {"actorDisplayName": ""}),
        ({"id": 1}, {"id": 1}),
        ({"actorDisplayName": ""}, {"actorDisplayName": ""}),
        ({"actorDisplayName": 5}, {"actorDisplayName": 5}),
        ("text", "text"),
    ],
)
async def test_names_are_hidden_from_who_must_not_see_them(sent: Any, seen: Any) -> None:
    async with House() as house:
        house.nextcloud.rooms["r"] = FakeRoom(permissions=["hide-displaynames"])
        relay = await house.member("relay", features=("chat-relay",))
        chat(house, refresh=True, comment=sent)
        assert data(relay) == [comment(seen)]


async def test_who_is_away_is_told_once_to_refresh_but_misses_no_comment() -> None:
    async with House() as house:
        plain, relay = await two(house)
        plain.lose()
        relay.lose()
        chat(house, refresh=True, comment={"id": 1})
        chat(house, refresh=True)
        chat(house, refresh=True, comment={"id": 2})
        chat(house, refresh=True)
        again = await house.resume(plain)
        assert [it["event"]["message"]["data"] for it in again.heard()[1:]] == [REFRESH]
        again = await house.resume(relay)
        heard = [it["event"]["message"]["data"]["chat"] for it in again.heard()[1:]]
        assert heard == [{"comment": {"id": 1}}, {"refresh": True}, {"comment": {"id": 2}}]
        await settle()
