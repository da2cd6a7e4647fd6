"""Transient data for sessions that join: of a large room a federated session gets several messages."""

from __future__ import annotations

import json

import pytest

from gateway.core.limits import Limits
from gateway.flows.rooms import transient_lists
from gateway.flows.rooms.transient_lists import FEDERATED_INITIAL_SIZE
from tests.gateway.flows.harness import FakeClient, FlowHarness, Json
from tests.gateway.flows.sessions.test_federation import federated_client
from tests.gateway.flows.virtual_time import settle

VALUE = "ä" * 20_000  # 40 kB


def set_value(client: FakeClient, key: str, value: object) -> None:
    body = {"type": "set", "key": key, "value": value}
    client.send(json.dumps({"type": "transient", "transient": body}, ensure_ascii=False))


def transient_of(client: FakeClient) -> list[Json]:
    return [message["transient"] for message in client.received() if message["type"] == "transient"]


# reference 10-j
async def test_values_of_a_large_room_reach_a_federated_session_once_and_in_order() -> None:
    async with FlowHarness(without_permissions=True) as harness:
        harness.change_settings(limits=Limits(relayed_bytes_per_second=0, bytes_per_second=0))
        alice = await harness.member("alice")
        for number in range(40):  # 1.6 MB
            set_value(alice, f"k{number}", VALUE + str(number))
        zoe = await federated_client(harness)
        set_value(alice, "k0", "new")
        await settle()
        assert max(map(len, zoe.connection.written)) <= FEDERATED_INITIAL_SIZE
        initial, *others = transient_of(zoe)
        assert initial["type"] == "initial"
        assert 10 < len(initial["data"]) < 14
        assert [other["type"] for other in others] == ["set"] * (40 - len(initial["data"]) + 1)
        assert not any("oldvalue" in other for other in others[:-1])
        received = [*initial["data"].items(), *((other["key"], other["value"]) for other in others)]
        assert received == [*((f"k{number}", VALUE + str(number)) for number in range(40)), ("k0", "new")]
        bob = await harness.hello("bob")
        bob.join()
        await settle()
        (whole,) = transient_of(bob)
        assert len(whole["data"]) == 40


@pytest.mark.parametrize("key", ["k", "\n"], ids=["plain", "escaped"])
async def test_values_that_fit_are_one_message_and_parts_are_encoded_once(
    monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    async with FlowHarness(without_permissions=True) as harness:
        alice = await harness.member("alice")
        for number in range(10):
            set_value(alice, key * 100 + str(number), "v")
        room, session = harness.room(), (await federated_client(harness)).session
        whole = transient_lists.transient_list(session, room)
        assert [len(json.loads(message)["transient"]["data"]) for message in whole] == [10]
        monkeypatch.setattr(transient_lists, "FEDERATED_INITIAL_SIZE", len(whole[0]) - 1)
        parts = transient_lists.transient_list(session, room)
        assert len(parts) == 2
        assert all(len(part) < len(whole[0]) for part in parts)
        assert transient_lists.transient_list(session, room) is parts
        set_value(alice, "more", "v")
        assert len(transient_lists.transient_list(session, room)) == 3
