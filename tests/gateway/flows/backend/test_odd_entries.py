"""Lists of participants with several entries of a session, and with entries of sessions in other rooms.

Source: reference 7.2.
"""

from __future__ import annotations

import pytest

from tests.gateway.flows.harness import FakeClient, FlowHarness, Json
from tests.gateway.flows.virtual_time import settle


def entry(name: str, flags: int) -> Json:
    return {"sessionId": f"nc-{name}", "inCall": flags}


def updates(client: FakeClient) -> list[list[tuple[str, int]]]:
    """Return the sessions and in-call flags of the updates that a client has received."""
    events = [message["event"] for message in client.received() if message["type"] == "event"]
    lists: list[list[Json]] = [event["update"]["users"] for event in events if event["target"] == "participants"]
    return [[(user["sessionId"], user["inCall"]) for user in users] for users in lists]


# reference 7.2-d
@pytest.mark.parametrize("type", ["incall", "participants"])
async def test_session_that_is_listed_twice_has_one_entry(type: str) -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.member("alice"), await harness.member("bob")
        listed = [entry("alice", 3), entry("bob", 1), entry("alice", 7)]
        harness.rooms_api("r", {"type": type, type: {"users": listed, "changed": listed}})
        await settle()
        expected = [(alice.sessionid, 7), (bob.sessionid, 1)]
        assert updates(alice) == updates(bob) == [expected]
        harness.rooms_api("r", {"type": type, type: {"changed": [entry("bob", 3), entry("bob", 7)]}})
        await settle()
        assert updates(alice)[0][-1] == (bob.sessionid, 7)


# reference 7.2-d
@pytest.mark.parametrize("type", ["incall", "participants"])
async def test_session_of_another_room_is_not_listed(type: str) -> None:
    async with FlowHarness() as harness:
        alice = await harness.member("alice")
        carol = await harness.hello("carol")
        carol.join("another", "nc-carol")
        await settle()
        carol.received()
        harness.rooms_api("r", {"type": type, type: {"changed": [entry("carol", 7)]}})
        await settle()
        assert updates(alice) == []
        assert carol.received() == []
        harness.rooms_api("r", {"type": type, type: {"changed": [entry("alice", 3), entry("carol", 7)]}})
        await settle()
        assert updates(alice) == [[(alice.sessionid, 3)]]
