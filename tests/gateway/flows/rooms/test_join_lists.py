"""The lists of participants for a session that joins: sent in parts, and encoded once for all joining sessions."""

from __future__ import annotations

import json
from itertools import chain

import pytest
from msgspec import Raw

from gateway.core.acknowledged import FEATURE
from gateway.core.visibility import Form
from gateway.flows.rooms.join_lists import PART_SIZE, list_parts
from tests.gateway.flows.harness import FakeClient, FlowHarness
from tests.gateway.flows.virtual_time import settle

LONG_FEATURES = tuple(f"feature-{number:02}".ljust(64, "x") for number in range(64))  # 4 kB


def listed_sessions(client: FakeClient) -> list[list[str]]:
    """Return the session ids of each join event received."""
    events = [message["event"] for message in client.received() if message["type"] == "event"]
    return [[entry["sessionid"] for entry in event["join"]] for event in events if event["type"] == "join"]


# reference 4.3-a
async def test_list_is_sent_in_parts_that_contain_each_member_once_and_in_order() -> None:
    async with FlowHarness() as harness:
        members = [await harness.member(f"m{number}", features=LONG_FEATURES) for number in range(20)]
        newcomer = await harness.hello("newcomer")
        newcomer.join()
        await settle()
        sizes = [len(message) for message in newcomer.connection.written]
        assert max(sizes) < PART_SIZE + 200
        own, *parts = listed_sessions(newcomer)
        assert own == [newcomer.sessionid]
        assert len(parts) > 1
        assert list(chain.from_iterable(parts)) == [member.sessionid for member in members]


async def test_parts_are_measured_in_the_form_that_the_recipient_gets() -> None:
    async with FlowHarness() as harness:
        for number in range(40):
            member = await harness.member(f"m{number}")
            member.session.user = Raw(json.dumps({"displayname": "x" * 2000}).encode())
        room = harness.room()
        for session in room.members.values():
            session.join_entries.clear()
        full, without_names = (
            list_parts(room, room.members.values(), form) for form in (Form.FULL, Form.WITHOUT_NAMES)
        )
        assert max(map(len, full)) < PART_SIZE + 200
        assert (len(full), len(without_names)) == (3, 1)
        assert len(json.loads(without_names[0])["event"]["join"]) == 40


async def test_full_parts_are_the_same_bytes_for_all_joining_sessions() -> None:
    async with FlowHarness() as harness:
        for number in range(20):
            await harness.member(f"m{number}", features=LONG_FEATURES)
        room = harness.room()
        first = list_parts(room, room.members.values(), Form.FULL)
        await harness.member("last", features=LONG_FEATURES)
        second = list_parts(room, room.members.values(), Form.FULL)
        assert len(first) > 1
        assert [old is new for old, new in zip(first, second, strict=False)][:-1] == [True] * (len(first) - 1)
        assert len(room.join_parts) < len(second)


async def test_entry_changes_with_the_nextcloud_session_id_and_the_form() -> None:
    async with FlowHarness() as harness:
        alice = await harness.member("alice")
        room = harness.room()

        def entry(form: Form) -> dict[str, object]:
            (event,) = list_parts(room, [alice.session], form)
            (listed,) = json.loads(event)["event"]["join"]
            return dict(listed)

        assert entry(Form.FULL)["roomsessionid"] == "nc-alice"
        assert "displayname" in str(entry(Form.FULL))
        assert "displayname" not in str(entry(Form.WITHOUT_NAMES))
        harness.hub.register(alice.session, "nc-other")
        assert entry(Form.FULL)["roomsessionid"] == "nc-other"


@pytest.mark.parametrize("features", [(), (FEATURE,)])
async def test_long_list_does_not_end_the_session_that_receives_it(features: tuple[str, ...]) -> None:
    async with FlowHarness(outbox_bytes=65_536) as harness:
        for number in range(40):
            await harness.member(f"m{number}", features=LONG_FEATURES)
        newcomer = await harness.hello("newcomer", features=features)
        newcomer.connection.stuck = True
        newcomer.join()
        await settle()
        session = newcomer.session
        assert session.outbox.size > 2 * 65_536
        await harness.member("another")
        await settle()
        assert session.open
        newcomer.disconnect()
        again = await harness.resume(newcomer)
        assert sum(map(len, listed_sessions(again))) == 42


async def test_transient_data_are_encoded_once_for_all_joining_sessions_until_they_change() -> None:
    async with FlowHarness(without_permissions=True) as harness:
        alice = await harness.member("alice")
        alice.send({"type": "transient", "transient": {"type": "set", "key": "k", "value": 1}})
        room = harness.room()
        await harness.member("bob")
        encoded = room.transient.encoded
        assert encoded is not None
        await harness.member("carol")
        assert room.transient.encoded is encoded
        alice.send({"type": "transient", "transient": {"type": "remove", "key": "k"}})
        assert room.transient.encoded is None
