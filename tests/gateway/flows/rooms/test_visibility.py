"""Recipients that see the same form of an event receive the same encoded bytes (reference 5.4, 5.5)."""

from __future__ import annotations

from tests.gateway.flows.fakes import FakeRoom
from tests.gateway.flows.harness import FlowHarness
from tests.gateway.flows.virtual_time import settle


async def test_join_event_is_encoded_once_with_and_once_without_names() -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.member("alice"), await harness.member("bob")
        harness.nextcloud.rooms["r"] = FakeRoom(permissions=["hide-displaynames"])
        carol, dave = await harness.member("carol"), await harness.member("dave")
        harness.nextcloud.rooms["r"] = FakeRoom()
        await harness.member("eve")
        with_names, same, without_names, same_without = [
            client.connection.written[-1] for client in (alice, bob, carol, dave)
        ]
        assert with_names is same
        assert without_names is same_without
        assert b"displayname" in with_names
        assert b"displayname" not in without_names


async def test_chat_message_is_encoded_once_for_each_form() -> None:
    async with FlowHarness() as harness:
        plain = [await harness.member(name) for name in ("alice", "bob")]
        relay = [await harness.member(name, features=("chat-relay",)) for name in ("carol", "dave")]
        data = {"type": "chat", "chat": {"refresh": True, "comment": {"id": 1}}}
        harness.rooms_api("r", {"type": "message", "message": {"data": data}})
        await settle()
        refresh, same_refresh, comment, same_comment = [client.connection.written[-1] for client in (*plain, *relay)]
        assert refresh is same_refresh
        assert comment is same_comment
        assert b'"refresh"' in refresh
        assert b'"comment"' in comment
