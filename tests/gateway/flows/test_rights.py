"""Each right after each change that may affect it: each cell of the table in docs/threat-model.md."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest

from gateway.core.backends import Backends
from gateway.core.limits import Backend
from mcu.base import StreamType
from tests.gateway.flows.fakes import FakeRoom
from tests.gateway.flows.federation.fake_host import FakeHost
from tests.gateway.flows.federation.seats import request_join
from tests.gateway.flows.harness import (
    CLOUD,
    INTERNAL_SECRET,
    OTHER_CLOUD,
    FakeClient,
    FlowHarness,
    Json,
    internal_params,
)
from tests.gateway.flows.media.calls import publish, set_permissions, subscribe
from tests.gateway.flows.virtual_time import settle

ROOT = Path(__file__).parents[3]


@dataclass
class RightsScene:
    """Alice, whose rights are changed, and Bob, a member of room ``r``."""

    harness: FlowHarness
    alice: FakeClient
    bob: FakeClient
    values: Iterator[int] = field(default_factory=count)  # of transient data
    room: str = "r"  # Bob's


async def in_a_call(harness: FlowHarness) -> RightsScene:
    """Return a scene in which both are in the call and publish, and Alice receives Bob's stream."""
    harness.nextcloud.rooms["denied"] = FakeRoom(permissions=["hide-displaynames"])
    alice, bob = await harness.callers("alice", "bob")
    await publish(alice)
    await publish(alice, "two", sid="2", room_type="screen")
    await publish(bob)
    await subscribe(alice, bob)
    return RightsScene(harness, alice, bob)


async def outside(harness: FlowHarness) -> RightsScene:
    """Return a scene in which Alice is in no room and publishes, and the room denies everything."""
    harness.nextcloud.rooms["r"] = FakeRoom(permissions=["hide-displaynames"])
    alice = await harness.hello("alice")
    await publish(alice)
    await publish(alice, "two", sid="2", room_type="screen")
    return RightsScene(harness, alice, await harness.member("bob"))


# -- rights: whether Alice has them


async def may_publish(scene: RightsScene) -> bool:
    found = {scene.harness.publisher(scene.alice, stream_type) is not None for stream_type in StreamType}
    assert len(found) == 1
    return found.pop()


async def may_receive(scene: RightsScene) -> bool:
    return bool(scene.harness.mcu.subscribers)  # no other client subscribes


async def may_control(scene: RightsScene) -> bool:
    recipient = {"type": "session", "sessionid": scene.bob.sessionid}
    scene.bob.received()
    scene.alice.send({"type": "control", "control": {"recipient": recipient, "data": {"type": "mute"}}})
    scene.alice.send_message(scene.bob, {"type": "control", "payload": {"action": "forceMute"}})
    received = len(scene.bob.received())
    assert received in (0, 2)
    return received == 2


async def may_change_transient_data(scene: RightsScene) -> bool:
    scene.bob.received()
    scene.alice.send({"type": "transient", "transient": {"type": "set", "key": "k", "value": next(scene.values)}})
    return any(message["type"] == "transient" for message in scene.bob.received())


async def sees_names(scene: RightsScene) -> bool:
    scene.alice.received()
    await scene.harness.member("carol", scene.room)
    events = [message["event"] for message in scene.alice.received() if message["type"] == "event"]
    return any("user" in entry for event in events for entry in event.get("join", ()))


async def receives_messages(scene: RightsScene) -> bool:
    scene.alice.received()
    scene.bob.send_message({"type": "room"}, "for the room")
    return any(message["type"] == "message" for message in scene.alice.received())


async def has_nextcloud_session(scene: RightsScene) -> bool:
    holder = scene.harness.hub.find_by_room_session("cloud", "nc-alice")
    return holder is not None and holder.id == scene.alice.sessionid


RIGHTS: dict[str, Callable[[RightsScene], Awaitable[bool]]] = {
    "publish": may_publish,
    "receive": may_receive,
    "control": may_control,
    "transient data": may_change_transient_data,
    "names": sees_names,
    "messages": receives_messages,
    "Nextcloud session id": has_nextcloud_session,
}

# -- changes


async def joins_first(scene: RightsScene) -> None:
    scene.alice.join("r", "nc-alice")


async def joins_denied(scene: RightsScene) -> None:
    scene.alice.join("denied", "nc-alice-2")


async def joins_another(scene: RightsScene) -> None:
    scene.alice.join("another", "nc-alice-2")


async def joins_elsewhere(scene: RightsScene) -> None:
    scene.harness.services.remote_servers = FakeHost()
    request_join(scene.alice)
    await settle()
    assert scene.alice.session.seat is not None


async def leaves(scene: RightsScene) -> None:
    scene.alice.leave()


async def permissions_revoked(scene: RightsScene) -> None:
    set_permissions(scene.harness, "alice", "hide-displaynames")


async def permissions_revoked_after_a_join_without_id(scene: RightsScene) -> None:
    scene.alice.join("r", "")
    await settle()
    await permissions_revoked(scene)


async def id_exchanged(scene: RightsScene) -> None:
    scene.harness.nextcloud.rooms["r"] = FakeRoom(permissions=["hide-displaynames"])
    scene.alice.join("r", "nc-alice-2")


async def leaves_call(scene: RightsScene) -> None:
    scene.harness.set_in_call("r", "alice", flags=0)


async def call_ends(scene: RightsScene) -> None:
    scene.harness.rooms_api("r", {"type": "incall", "incall": {"incall": 0, "all": True}})


async def disinvited(scene: RightsScene) -> None:
    scene.harness.rooms_api("r", {"type": "disinvite", "disinvite": {"sessionids": ["nc-alice"]}})


async def disinvited_while_disconnected_only(scene: RightsScene) -> None:
    scene.alice.disconnect()
    await disinvited(scene)
    await settle()


async def disinvited_while_disconnected(scene: RightsScene) -> None:
    await disinvited_while_disconnected_only(scene)
    assert not await may_publish(scene)
    assert not await may_receive(scene)
    scene.alice = await scene.harness.resume(scene.alice)


async def deleted(scene: RightsScene) -> None:
    scene.harness.rooms_api("r", {"type": "delete", "delete": {"userids": ["alice"]}})


async def replaced(scene: RightsScene) -> None:
    (await scene.harness.hello("alice")).join("r", "nc-alice")


async def says_bye(scene: RightsScene) -> None:
    scene.alice.send({"type": "bye"})


async def expires(scene: RightsScene) -> None:
    scene.alice.disconnect()
    await scene.harness.sweep(31)
    scene.alice = await scene.harness.resume(scene.alice)


async def resumes(scene: RightsScene) -> None:
    scene.alice.disconnect()
    scene.alice = await scene.harness.resume(scene.alice)


async def hello_again(scene: RightsScene) -> None:
    auth = {"type": "internal", "params": internal_params(CLOUD.urls[0])}
    scene.alice.send({"type": "hello", "hello": {"version": "1.0", "auth": auth}})


async def reloaded(scene: RightsScene) -> None:
    changed = Backend("cloud", ("https://new.example/", *CLOUD.urls), "another secret", max_stream_bitrate=1000)
    scene.harness.change_settings(backends=Backends([changed, OTHER_CLOUD]), internal_secret=f"not {INTERNAL_SECRET}")


CHANGES: dict[str, Callable[[RightsScene], Awaitable[None]]] = {
    "first join, of a room that denies them": joins_first,
    "join of another room that denies them": joins_denied,
    "join of another room": joins_another,
    "join of the same room with another Nextcloud session id, which denies them": id_exchanged,
    "join of a room of another server": joins_elsewhere,
    "leave of the room": leaves,
    "`participants` request that denies them": permissions_revoked,
    "`participants` request that denies them, after a join of the same room without a Nextcloud session id": (
        permissions_revoked_after_a_join_without_id
    ),
    "leave of the call": leaves_call,
    "end of the call for all": call_ends,
    "disinvitation": disinvited,
    "disinvitation while disconnected": disinvited_while_disconnected,
    "deletion of the room": deleted,
    "another session takes the Nextcloud session id over": replaced,
    "bye": says_bye,
    "expiry": expires,
    "resume": resumes,
    "second hello, as another client type": hello_again,
    "reload of the backend's settings": reloaded,
}


def table() -> list[tuple[str, str, str]]:
    """Return change, right and cell of the table in docs/threat-model.md."""
    lines = (ROOT / "docs" / "threat-model.md").read_text().split("\n| Change |")[1].splitlines()
    rights = [cell.strip() for cell in lines[0].strip("|").split("|")]
    cells = []
    for line in lines[2:]:
        if not line.startswith("|"):
            break
        change, *row = (cell.strip() for cell in line.strip("|").split("|"))
        cells += [(change, right, cell) for right, cell in zip(rights, row, strict=True)]
    return cells


def test_table_has_each_right_and_each_change() -> None:
    found = table()
    assert {right for _, right, _ in found} == set(RIGHTS)
    assert {change for change, _, _ in found} == set(CHANGES)
    assert len(found) == len(RIGHTS) * len(CHANGES)
    assert {cell for _, _, cell in found} == {"ends", "kept", "–"}


@pytest.mark.parametrize(("change", "right", "cell"), [row for row in table() if row[2] != "–"])
async def test_right_is_kept_or_ends_with_a_change_as_the_table_says(change: str, right: str, cell: str) -> None:
    async with FlowHarness(without_permissions=True) as harness:
        first = change.startswith("first join")
        scene = await (outside(harness) if first else in_a_call(harness))
        if right not in ("names", "control", "transient data", "messages") or not first:
            assert await RIGHTS[right](scene)
        await CHANGES[change](scene)
        await settle()
        assert await RIGHTS[right](scene) is (cell == "kept")


@pytest.mark.parametrize(
    "incall",
    [None, {"incall": 7, "all": True}, {"changed": [{"sessionId": "nc-alice", "inCall": 7}], "users": []}],
)
async def test_no_stream_is_offered_to_a_session_that_was_disinvited_while_disconnected(incall: Json | None) -> None:
    async with FlowHarness(without_permissions=True) as harness:
        scene = await in_a_call(harness)
        await disinvited_while_disconnected_only(scene)
        if incall is not None:
            harness.rooms_api("r", {"type": "incall", "incall": incall})
        scene.bob.received()
        scene.bob.send_message(scene.alice, {"type": "sendoffer", "roomType": "video"})
        await settle()
        assert scene.bob.error_codes() == ["not_allowed"]
        assert not await may_receive(scene)


@pytest.mark.parametrize(("change", "kept"), [(joins_denied, False), (joins_another, True)])
@pytest.mark.parametrize("right", ["control", "transient data", "names"])
async def test_right_is_kept_in_the_new_room_if_its_permissions_allow_it(
    right: str, change: Callable[[RightsScene], Awaitable[None]], kept: bool
) -> None:
    async with FlowHarness(without_permissions=True) as harness:
        scene = await in_a_call(harness)
        scene.room = "another" if kept else "denied"
        scene.bob = await harness.member("dave", scene.room)
        await change(scene)
        await settle()
        assert await RIGHTS[right](scene) is kept


@pytest.mark.parametrize(("change", "kept"), [(joins_denied, False), (joins_another, True)])
async def test_new_offer_needs_the_permission_of_the_new_room(
    change: Callable[[RightsScene], Awaitable[None]], kept: bool
) -> None:
    async with FlowHarness(without_permissions=True) as harness:
        scene = await in_a_call(harness)
        await change(scene)
        await settle()
        scene.alice.offer("three", sid="3")
        scene.alice.offer("four", sid="4", roomType="screen")
        await settle()
        assert await may_publish(scene) is kept
