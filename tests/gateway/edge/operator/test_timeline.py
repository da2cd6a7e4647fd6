"""The command ``portunus timeline``, over the admin socket."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import Result

from gateway.core.room import RoomKey
from tests.gateway.edge.operator.admin_harness import LIMITED_CLOUD, admin_harness, run_command
from tests.gateway.flows.harness import OTHER_CLOUD
from tests.gateway.flows.media.calls import subscribe
from tests.gateway.flows.virtual_time import settle


async def timeline(path: Path, *arguments: str) -> Result:
    return await run_command("timeline", "--socket", str(path), *arguments)


async def test_timeline_of_a_room_or_session_is_found_by_id_and_by_short_id(path: Path) -> None:
    async with admin_harness(path, LIMITED_CLOUD, OTHER_CLOUD) as harness:
        alice = await harness.member("alice", "secrettoken", in_call=True, backend=LIMITED_CLOUD)
        bob = await harness.member("bob", "secrettoken", in_call=True, backend=LIMITED_CLOUD)
        carol = await harness.member("carol", "another", backend=LIMITED_CLOUD)
        alice.offer()
        await settle()
        await subscribe(bob, alice)
        room = harness.services.calls.room_id(RoomKey("cloud", "secrettoken"))
        of_room = await timeline(path, "secrettoken")
        assert (await timeline(path, room, "--backend", "cloud")).output == of_room.output
        of_alice = await timeline(path, alice.sessionid)
        assert (await timeline(path, alice.sessionid[:8])).output == of_alice.output
    text = re.sub(r"(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} ", "", of_room.output)
    for client, name in ((alice, "ALICE"), (bob, "BOB"), (carol, "CAROL")):
        text = text.replace(client.sessionid[:8], name)
    head, *lines = text.replace(room, "ROOM").splitlines()
    assert re.fullmatch(r"Room ROOM: 9 events; recorded since \S+ \S+\.", head)
    assert lines == [
        "session ALICE: hello of a user, backend cloud",
        "session ALICE: joined room ROOM of backend cloud, members: 1",
        "session ALICE: entered the call in room ROOM",
        "session BOB: hello of a user, backend cloud",
        "session BOB: joined room ROOM of backend cloud, members: 2",
        "session BOB: entered the call in room ROOM",
        "session ALICE: publishes video in room ROOM (no limit, h264, vp8)",
        "session ALICE: video in room ROOM: at most 600 kbit/s from now on",
        "session BOB: subscribes to video of session ALICE in room ROOM",
    ]
    assert of_alice.output.startswith(f"Session {alice.sessionid[:8]}: 6 events; ")
    assert "secrettoken" not in of_room.output + of_alice.output


async def test_timeline_is_exported_as_json(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "timeline.json"
    async with admin_harness(path, LIMITED_CLOUD, OTHER_CLOUD) as harness:
        alice = await harness.member("alice", "secrettoken", backend=LIMITED_CLOUD)
        result = await timeline(path, "secrettoken", "--output", str(file))
        printed = await timeline(path, "secrettoken", "--json")
        failed = await timeline(path, "secrettoken", "--output", str(tmp_path / "none" / "timeline.json"))
        room = harness.services.calls.room_id(RoomKey("cloud", "secrettoken"))
    assert (result.exit_code, result.output) == (0, f"2 events are in {file}.\n")
    assert (failed.exit_code, failed.output.split(": cannot be written ")[1]) == (1, "(No such file or directory)\n")
    exported = json.loads(file.read_text())
    assert json.loads(printed.output) == exported
    assert (exported["room"], exported["session"], exported["dropped"]) == (room, "", 0)
    _, joined = exported["events"]
    assert joined.pop("at") >= exported["recorded_since"]
    assert joined == {
        "session": alice.sessionid[:8],
        "step": "joined",
        "text": f"joined room {room} of backend cloud, members: 1",
        "backend": "cloud",
        "room": room,
    }
    assert not {"secrettoken", "alice", alice.sessionid} & set(re.findall(r"\w+", file.read_text()))


async def test_room_id_used_by_several_backends_needs_the_backend(path: Path) -> None:
    async with admin_harness(path, LIMITED_CLOUD, OTHER_CLOUD) as harness:
        await harness.member("alice", backend=LIMITED_CLOUD)
        await harness.member("bob", backend=OTHER_CLOUD)
        refused = await timeline(path, "r")
        chosen = await timeline(path, "r", "--backend", "other", "--json")
    expected = "several backends have had such a room: choose one of cloud, other"
    assert (refused.exit_code, refused.output) == (1, f"Error: {expected}\n")
    assert {event["backend"] for event in json.loads(chosen.output)["events"]} == {"other"}


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ("nowhere", "no event of such a room or session is recorded"),
        ("x" * 48, "no event of such a room or session is recorded"),
        ("", "the parameter of is missing"),
    ],
)
async def test_unknown_subject_is_an_error(path: Path, subject: str, expected: str) -> None:
    async with admin_harness(path, LIMITED_CLOUD, OTHER_CLOUD) as harness:
        assert (await timeline(path, "nowhere")).exit_code == 1  # nothing at all is recorded yet
        await harness.member("alice", backend=LIMITED_CLOUD)
        result = await timeline(path, subject)
    assert (result.exit_code, result.output) == (1, f"Error: {expected}\n")
