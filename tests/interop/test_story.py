"""The log lines of a call, with each SFU: its connections and its end, found by the ids of the sessions."""

from __future__ import annotations

import asyncio
import re

import pytest

from tests.captured_log import captured_lines
from tests.interop.conftest import CallGateway
from tests.interop.member import ROOM

LIMIT = 60.0  # seconds; a step takes a fraction of one


async def wait_for_line(lines: list[str], text: str) -> None:
    """Wait until the log has a line with a text."""
    async with asyncio.timeout(LIMIT):
        while not any(text in line for line in lines):  # noqa: ASYNC110 - the log has no event
            await asyncio.sleep(0.05)


@pytest.mark.full
async def test_log_lines_with_the_id_of_a_session_tell_its_whole_call(gateway: CallGateway) -> None:
    with captured_lines() as lines:
        anna, ben = await gateway.join("anna", 1), await gateway.join("ben", 2)
        await anna.publish()
        await ben.request_offer(anna)
        await ben.wait_for_picture(anna)
        own, other = anna.id[:8], ben.id[:8]
        await wait_for_line(lines, f"session {other}: video of session {own} ")
        await ben.received[anna.id, "video"].peer.close()
        await anna.published["video"].close()
        await wait_for_line(lines, "ended: its client has closed the connection")
        await anna.set_in_call(0)
        await gateway.wait_for_streams(0)
    story = [line.split('event="')[1].rstrip('"') for line in lines if f"session {own}" in line and 'event="' in line]
    (room,) = {found for line in story for found in re.findall(r" room ([0-9a-f]{8})\b", line)}
    shown = [line.replace(own, "ANNA").replace(other, "BEN").replace(room, "ROOM") for line in story]
    steps = [re.sub(r" \(at most.*?\)", "", line) for line in shown]
    by_ben = [line for line in steps if line.startswith("session BEN: ") and "slow link" not in line]
    assert by_ben == [
        "session BEN: subscribes to video of session ANNA in room ROOM",
        "session BEN: video of session ANNA in room ROOM: connected (ICE and DTLS)",
    ]
    by_anna = [line for line in steps if line.startswith("session ANNA: ")]
    assert by_anna[0] == f"session ANNA: hello of a user, backend {gateway.nextcloud.backend().id}"
    assert [line for line in by_anna[2:] if "slow link" not in line] == [
        "session ANNA: entered the call in room ROOM",
        "session ANNA: publishes video in room ROOM",
        "session ANNA: video in room ROOM: connected (ICE and DTLS)",
        "session ANNA: video in room ROOM: media arrive",
        "session ANNA: video in room ROOM ended: its client has closed the connection",
        "session ANNA: left the call in room ROOM",
    ]
    assert not [line for line in story if "failed" in line]
    told = [line for line in lines if "area=calls" in line]
    slow = [line for line in told if "slow link" in line]  # a busy machine loses packets; once a minute and stream
    usual = [line for line in told if line not in slow]
    assert (len(usual), len(slow) <= 2) == (13, True)  # 8 of Anna, 5 of Ben
    assert [line for line in lines if own in line or other in line] == told
    assert [line for line in usual if room not in line] == [line for line in usual if ": hello of a user" in line]
    assert len([line for line in lines if f" room {room}" in line and line not in slow]) == 11
    assert not [line for line in lines if re.search(rf"(calls|session).*\b{ROOM}\b", line)]
