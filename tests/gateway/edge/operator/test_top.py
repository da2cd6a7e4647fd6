"""The command ``portunus top``: snapshots over the admin socket, as text, as JSON and on a terminal."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from click.testing import Result

from gateway.app import Gateway
from gateway.config import AdminSection, Config, HttpSection, McuSection, SessionsSection
from gateway.core.room import RoomKey
from gateway.edge.operator.snapshot import Snapshot
from gateway.tools import top as tool
from gateway.tools.admin_requests import GatewayUnreachable
from gateway.tools.fake_nextcloud import FakeNextcloud
from mcu.base import BackendId, MediaKind, PublisherId, StreamKey, StreamReport, StreamType
from mcu.inprocess import InprocessSettings
from tests.gateway.edge.operator.admin_harness import admin_harness, run_command, snapshots
from tests.gateway.flows.harness import CLOUD, OTHER_CLOUD, FlowHarness
from tests.interop.member import ROOM, Member
from tests.media.loopback import loopback

__all__ = ["loopback"]


async def top(path: Path, *arguments: str) -> Result:
    return await run_command("top", "--socket", str(path), *arguments)


def reports(publisher: str) -> list[StreamReport]:
    """Return the reports of a camera with two subscribers, whose audio the SFU does not measure."""
    key = StreamKey(BackendId("cloud"), PublisherId(publisher), StreamType.VIDEO)
    video, audio = MediaKind.VIDEO, MediaKind.AUDIO
    return [
        StreamReport(key, subscriber=False, kind=video, codec="vp8", bits_per_second=800_400, lost=3),
        StreamReport(key, subscriber=False, kind=audio, codec="opus"),
        StreamReport(key, subscriber=True, kind=video, codec="vp8", bits_per_second=700_000, lost=1),
        StreamReport(key, subscriber=True, kind=audio, codec="opus"),
        StreamReport(key, subscriber=True, kind=video, codec="vp8", bits_per_second=None, lost=4),
    ]


async def test_state_is_printed_once_when_the_output_is_no_terminal(path: Path) -> None:
    async with admin_harness(path, CLOUD, OTHER_CLOUD) as harness:
        alice = await harness.member("alice", "secrettoken", in_call=True)
        bob = await harness.member("", "secrettoken")
        await harness.internal_hello()
        bob.disconnect()
        harness.mcu.reports = reports(alice.sessionid)
        harness.services.refusals.wrong_checksum(CLOUD, CLOUD.urls[0])
        harness.services.count_excess("rooms")
        result = await top(path)
        assert result.exception is None, (result, result.exc_info, result.stderr)
        assert (await top(path, "--once")).output.splitlines()[0] == result.output.splitlines()[0]
        room = harness.services.calls.room_id(RoomKey("cloud", "secrettoken"))
        (internal,) = [id for id in harness.hub.sessions if id not in (alice.sessionid, bob.sessionid)]
    assert result.exit_code == 0, result.output
    names = {alice.sessionid[:8]: "ALICE-ID", bob.sessionid[:8]: "BOBBY-ID", internal[:8]: "INTERNAL", room: "ROOM-ID-"}
    text = re.sub(r"\b\d+ s ago", "n s ago", result.output)
    for id, name in names.items():
        text = text.replace(id, name)
    head, lines = text.splitlines()[:2], text.splitlines()[2:]
    counts = "Sessions: 3, rooms: 1, in calls: 1, publications: 0, subscriptions: 0."
    assert head == [f"portunus 1.2.3: ok. {counts}", "Not draining (sessions: 2, in calls: 1)."]
    refusals = [line for line in lines if line.startswith("n s ago: ")]
    assert any("their signature is wrong" in line for line in refusals)
    assert [line for line in lines if line not in refusals] == [
        "SFU: 0 publications, 0 subscriptions, load 0.0",
        "sfu is ok",
        "backend cloud is ok",
        "backend other is ok",
        "Refused: limits.rooms 1, wrong_checksum of cloud 1",
        "",
        "ROOM      BACKEND  SESSIONS  IN CALL  PUBL  SUBS  IN kbit/s  OUT kbit/s",
        "ROOM-ID-  cloud           2        1     1     2        800         700",
        "",
        "SESSION   ROOM      STREAM  MEDIA  CODEC  kbit/s  LOST  SUBS  OUT kbit/s  OUT LOST",
        "ALICE-ID  ROOM-ID-  video   video  vp8       800     3     2         700         5",
        "ALICE-ID  ROOM-ID-  video   audio  opus        –     –     1           –         –",
        "",
        "SESSION   BACKEND  CLIENT    ROOM      STATE",
        "ALICE-ID  cloud    user      ROOM-ID-  in call",
        "INTERNAL  cloud    internal  –         not in call",
        "BOBBY-ID  cloud    guest     ROOM-ID-  not in call, disconnected",
    ]
    assert "secrettoken" not in result.output


async def test_state_is_printed_as_json(path: Path) -> None:
    async with admin_harness(path, CLOUD, OTHER_CLOUD) as harness:
        await harness.member("alice")
        state = json.loads((await top(path, "--json")).output)
        missing = await top(path.parent / "none")
    assert (state["version"], state["sessions"], state["rooms"]) == ("1.2.3", 1, 1)
    assert [row["client"] for row in state["session_rows"]] == ["user"]
    assert missing.exit_code == 3


async def test_terminal_is_refreshed_cut_to_its_size_and_restored() -> None:
    async with FlowHarness(CLOUD) as harness:
        await harness.member("alice")
        snapshot = snapshots(harness).snapshot()
    answers = [snapshot, snapshot]
    written: list[str] = []

    def take_snapshot() -> Snapshot:
        if not answers:
            raise GatewayUnreachable("gone")
        return answers.pop()

    with pytest.raises(GatewayUnreachable):
        tool.watch(take_snapshot, 0.0, written.append)
    screen = tool.screen(snapshot, 80, 24)
    assert written == [tool.ENTER_SCREEN, screen, screen, tool.LEAVE_SCREEN]
    lines = [line.removesuffix(tool.CLEAR_LINE) for line in screen.removeprefix(tool.HOME).split("\n")]
    assert lines[-1] == tool.CLEAR_BELOW
    assert lines[:-1] == [line[:80] for line in tool.lines(snapshot)]
    small = tool.screen(snapshot, 10, 4).split("\n")
    assert [len(line.removeprefix(tool.HOME).removesuffix(tool.CLEAR_LINE)) for line in small[:-1]] == [10, 10, 10]


@pytest.mark.full
@pytest.mark.usefixtures("loopback")
async def test_terminal_shows_a_real_call_until_it_is_interrupted(path: Path) -> None:
    async with AsyncExitStack() as stack:
        nextcloud = await stack.enter_async_context(FakeNextcloud())
        gateway = Gateway(
            Config(
                sessions=SessionsSection(secret="6f1b0c7d9ae24835b6cf01d27e9a4488"),
                http=HttpSection(listen=("127.0.0.1:0",)),
                backends=(nextcloud.backend(),),
                mcu=McuSection(type="inprocess", settings=InprocessSettings(address=("127.0.0.1",))),
                admin=AdminSection(socket=str(path)),
            )
        )
        (url,) = await gateway.start()
        stack.push_async_callback(gateway.stop)
        nextcloud.gateway = url
        anna = await stack.enter_async_context(Member(url, nextcloud, "anna", 1))
        ben = await stack.enter_async_context(Member(url, nextcloud, "ben", 2))
        await anna.set_in_call()
        await ben.set_in_call()
        await anna.publish()
        await ben.request_offer(anna)
        await ben.wait_for_stream(anna)
        stream = re.compile(rf"{anna.id[:8]} .*video +video +vp8 +[1-9]\d* +\d+ +1 +[1-9]\d* ")
        text, status = await run_on_terminal(path, lambda text: bool(stream.search(text)) and text.count(tool.HOME) > 1)
    assert status == 0
    assert text.startswith(tool.ENTER_SCREEN)
    assert text.endswith(tool.LEAVE_SCREEN)
    assert ROOM not in text


async def run_on_terminal(path: Path, until: Callable[[str], bool]) -> tuple[str, int]:
    """Run the command on a terminal, and interrupt it on a condition; return all that it wrote, and its status."""
    controller, terminal = pty.openpty()
    program = Path(sys.executable).with_name("portunus")
    arguments = ("top", "--socket", str(path), "--interval", "0.5")
    environment = {**os.environ, "COLUMNS": "120", "LINES": "40"}
    process = await asyncio.create_subprocess_exec(
        program,
        *arguments,
        stdin=terminal,
        stdout=terminal,
        env=environment,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored when the tests run in the background
    )
    os.close(terminal)
    text = ""

    def read() -> str:
        try:
            return os.read(controller, 65536).decode(errors="replace")
        except OSError:  # the process has ended
            return ""

    try:
        async with asyncio.timeout(60.0):
            while not until(text):
                chunk = await asyncio.to_thread(read)
                assert chunk, text
                text += chunk
            process.send_signal(signal.SIGINT)
            while chunk := await asyncio.to_thread(read):
                text += chunk
            return text, await process.wait()
    except TimeoutError:
        raise AssertionError(f"the terminal shows: {text[-2000:]!r}") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(controller)
