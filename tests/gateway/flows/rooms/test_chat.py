"""Chat messages of Nextcloud in the form that each client may see (reference 5.4-5.6)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.gateway.flows.fakes import FakeRoom
from tests.gateway.flows.harness import FakeClient, FlowHarness, Json

COMMENT = {"id": 1, "actorDisplayName": "Alice", "message": "hi", "parent": {"actorDisplayName": "Bob"}}
REFRESH = {"type": "chat", "chat": {"refresh": True}}


def send_chat(harness: FlowHarness, *, room: str = "r", **fields: Any) -> None:
    harness.rooms_api(room, {"type": "message", "message": {"data": {"type": "chat", "chat": fields, "more": 1}}})


def message_data(client: FakeClient) -> list[Any]:
    messages = client.received()
    assert all(
        message["event"]["type"] == "message" and message["event"]["message"]["roomid"] == "r" for message in messages
    ), messages
    return [message["event"]["message"]["data"] for message in messages]


def comment(shown: Json) -> Json:
    return {"type": "chat", "chat": {"comment": shown}}


async def members_without_and_with_chat_relay(harness: FlowHarness) -> tuple[FakeClient, FakeClient]:
    plain, relay = await harness.member("plain"), await harness.member("relay", features=("chat-relay",))
    plain.received()
    return plain, relay


# reference 5.5-a
async def test_clients_with_chat_relay_receive_the_comment_and_others_a_refresh() -> None:
    async with FlowHarness() as harness:
        plain, relay = await members_without_and_with_chat_relay(harness)
        send_chat(harness, refresh=True, comment=COMMENT)
        assert message_data(plain) == [REFRESH]
        assert message_data(relay) == [comment(COMMENT)]


# reference 5.5-c
async def test_each_comment_is_an_event_of_its_own_in_order() -> None:
    async with FlowHarness() as harness:
        plain, relay = await members_without_and_with_chat_relay(harness)
        send_chat(harness, refresh=True, comments=[{"id": 2}, None, {}, {"id": 3}], comment={"id": 1})
        assert message_data(plain) == [REFRESH]
        assert message_data(relay) == [comment({"id": number}) for number in (1, 2, 3)]


# reference 5.5-b
async def test_comments_without_refresh_reach_all_clients() -> None:
    async with FlowHarness() as harness:
        plain, relay = await members_without_and_with_chat_relay(harness)
        send_chat(harness, comments=[{"id": 1}, {"id": 2}])
        send_chat(harness, refresh=False, comment={"id": 3})
        assert message_data(plain) == message_data(relay) == [comment({"id": number}) for number in (1, 2, 3)]


# reference 5.5-e
@pytest.mark.parametrize("fields", [{"refresh": True}, {"refresh": True, "comment": None, "comments": [None, {}]}, {}])
async def test_chat_message_without_comments_is_forwarded_unchanged(fields: Json) -> None:
    async with FlowHarness() as harness:
        for client in await members_without_and_with_chat_relay(harness):
            send_chat(harness, **fields)
            assert message_data(client)[-1] == {"type": "chat", "chat": fields, "more": 1}


# reference 5.5-e
@pytest.mark.parametrize(
    "other",
    ["text", [1], {"type": "chat"}, {"type": "chat", "chat": {"refresh": "yes", "comment": {"id": 1}}}, {"type": "x"}],
)
async def test_other_message_is_forwarded_unchanged(other: Any) -> None:
    async with FlowHarness() as harness:
        for client in await members_without_and_with_chat_relay(harness):
            harness.rooms_api("r", {"type": "message", "message": {"data": other}})
            assert message_data(client)[-1] == other


# reference 5.5-d
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
async def test_author_is_hidden_from_clients_that_must_not_see_names(sent: Any, seen: Any) -> None:
    async with FlowHarness() as harness:
        harness.nextcloud.rooms["r"] = FakeRoom(permissions=["hide-displaynames"])
        relay = await harness.member("relay", features=("chat-relay",))
        send_chat(harness, refresh=True, comment=sent)
        assert message_data(relay) == [comment(seen)]


# reference 5.6-b
async def test_disconnected_client_receives_one_refresh_but_each_comment() -> None:
    async with FlowHarness() as harness:
        plain, relay = await members_without_and_with_chat_relay(harness)
        plain.disconnect()
        relay.disconnect()
        send_chat(harness, refresh=True, comment={"id": 1})
        send_chat(harness, refresh=True)
        send_chat(harness, refresh=True, comment={"id": 2})
        send_chat(harness, refresh=True)
        again = await harness.resume(plain)
        assert [message["event"]["message"]["data"] for message in again.received()[1:]] == [REFRESH]
        again = await harness.resume(relay)
        comments = [message["event"]["message"]["data"]["chat"] for message in again.received()[1:]]
        assert comments == [{"comment": {"id": 1}}, {"refresh": True}, {"comment": {"id": 2}}]
