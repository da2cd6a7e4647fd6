"""Orphans of this gateway on a real Janus are removed, and no other objects."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from mcu.base import CloseReason, PublishOptions
from mcu.janus.backend import JanusMcu
from mcu.janus.connection.messages import PLUGIN
from mcu.janus.rooms.sweep import OrphanSweep
from mcu.janus.settings import JanusServerSettings
from tests.janus_process import ADMIN_KEY, ADMIN_SECRET, API_SECRET, ROOT, JanusApi, JanusProcess
from tests.mcu.descriptions import parse_frozen
from tests.mcu.janus.conftest import (
    CAMERA,
    INSTANCE,
    POLL,
    WAIT,
    JanusCall,
    RecordedStates,
    WaitableListener,
    handle_ids,
)
from tests.media import PublishingPeer

pytestmark = pytest.mark.usefixtures("janus_version")

OWN_LABEL = f"portunus|{INSTANCE}|cloud|anna|video"  # the label of CAMERA
FOREIGN_LABELS = {"somebody else's", "portunus|another|cloud|anna|video", "portunus|cloud|of an old version|video"}


@pytest.fixture(autouse=True)
def frequent_searches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcu.janus.rooms.sweep.FIRST_PAUSES", (0.0,))
    monkeypatch.setattr("mcu.janus.rooms.sweep.PAUSE", 0.1)
    monkeypatch.setattr("mcu.janus.rooms.sweep.MIN_SILENCE", 1.0)
    monkeypatch.setattr("mcu.janus.connection.session.KEEPALIVE", 0.3)


class RunningMcu:
    """A backend on a Janus with the given instance; an async context manager."""

    def __init__(self, janus: JanusProcess, instance: str, *, admin: bool = True) -> None:
        admin_url, admin_secret = (janus.admin_url, ADMIN_SECRET) if admin else ("", "")
        key = janus.values["ADMIN_KEY"]
        self.states = RecordedStates()
        self.mcu = JanusMcu(
            (JanusServerSettings(janus.url, API_SECRET, "", key, admin_url, admin_secret),), WAIT, instance=instance
        )

    async def __aenter__(self) -> JanusMcu:
        await self.mcu.start(self.states)
        await self.states.until(lambda status: status.ready)
        return self.mcu

    async def __aexit__(self, *_: object) -> None:
        await self.mcu.stop()


@pytest.fixture
async def sweeping_mcu(janus: JanusProcess, loopback: None) -> AsyncIterator[JanusMcu]:
    async with RunningMcu(janus, INSTANCE) as mcu:
        yield mcu


class OtherProgram:
    """Another program on the same Janus, with a session of its own."""

    def __init__(self, janus: JanusProcess) -> None:
        self._janus = janus
        self._api = JanusApi(janus.url, "janus-protocol", {"apisecret": API_SECRET})

    async def __aenter__(self) -> OtherProgram:
        await self._api.__aenter__()
        self.session: int = (await self._api.request(janus="create"))["data"]["id"]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._api.request(janus="destroy", session_id=self.session)
        await self._api.__aexit__(None, None, None)

    async def attach(self, opaque_id: str) -> int:
        """Open a handle and return its id."""
        request = {"janus": "attach", "session_id": self.session, "plugin": PLUGIN, "opaque_id": opaque_id}
        return int((await self._api.request(**request))["data"]["id"])

    async def request(self, handle: int, **body: object) -> dict[str, object]:
        """Send a request to VideoRoom and return the data of its answer."""
        request = {"janus": "message", "session_id": self.session, "handle_id": handle, "body": body}
        answer: dict[str, object] = (await self._api.request(**request))["plugindata"]["data"]
        return answer

    async def create_room(self, description: str) -> object:
        """Create a room and return its number; private if VideoRoom has an admin key."""
        key = self._janus.values["ADMIN_KEY"]
        body = {"request": "create", "description": description, "is_private": bool(key)}
        answer = await self.request(await self.attach(""), **body, **({"admin_key": key} if key else {}))
        return answer["room"]


async def descriptions_of_rooms(janus: JanusProcess) -> set[str]:
    """Return the descriptions of the rooms on Janus."""
    return {room["description"] for room in await janus.rooms()}


async def until_rooms_are(janus: JanusProcess, descriptions: set[str], limit: float = WAIT) -> None:
    """Poll Janus until its rooms have these descriptions."""
    async with asyncio.timeout(limit):
        while await descriptions_of_rooms(janus) != descriptions:  # noqa: ASYNC110 - Janus sends no event of it
            await asyncio.sleep(POLL)


@pytest.mark.parametrize("key", [ADMIN_KEY, ""])
async def test_rooms_of_an_earlier_process_are_destroyed_and_foreign_ones_are_not(loopback: None, key: str) -> None:
    async with JanusProcess(ADMIN_KEY=key) as janus, OtherProgram(janus) as other, AsyncExitStack() as stack:
        for description in FOREIGN_LABELS:
            await other.create_room(description)
        await other.create_room(f"portunus|{INSTANCE}|cloud|ben|video")
        await other.create_room(f"portunus|{INSTANCE}|cloud|ben|video|remote")
        mcu = await stack.enter_async_context(RunningMcu(janus, INSTANCE, admin=False))
        _, sender, _ = await JanusCall(mcu, stack).publish()
        await until_rooms_are(janus, FOREIGN_LABELS | {OWN_LABEL})
        _, watcher, _ = await JanusCall(mcu, stack).subscribe()
        await watcher.wait_for_tone(sender.frequency)


async def test_an_unknown_room_is_destroyed_when_its_last_participant_leaves(
    sweeping_mcu: JanusMcu, janus: JanusProcess
) -> None:
    async with OtherProgram(janus) as other:
        room = await other.create_room(f"portunus|{INSTANCE}|cloud|ben|video")
        handle = await other.attach("")
        await other.request(handle, request="join", ptype="publisher", room=room, id=1)
        empty = f"portunus|{INSTANCE}|cloud|carl|video"
        for _ in range(3):  # an empty room is destroyed each time
            await other.create_room(empty)
            await until_rooms_are(janus, {f"portunus|{INSTANCE}|cloud|ben|video"})
        await other.request(handle, request="leave")
        await until_rooms_are(janus, set())


async def test_a_handle_that_the_session_does_not_know_is_detached(sweeping_mcu: JanusMcu, janus: JanusProcess) -> None:
    async with AsyncExitStack() as stack:
        _, sender, _ = await JanusCall(sweeping_mcu, stack).publish()
        session = await sweeping_mcu.session()
        attached = session.require_success(
            await session.post("attach", plugin=PLUGIN)
        )  # without creating a ``Handle`` for it
        async with asyncio.timeout(WAIT):
            while attached.data.id in await handle_ids(janus):  # noqa: ASYNC110 - Janus sends no event of it
                await asyncio.sleep(POLL)
        assert len(await janus.handles()) == 2
        _, watcher, _ = await JanusCall(sweeping_mcu, stack).subscribe()
        await watcher.wait_for_tone(sender.frequency)


async def test_a_room_that_is_being_created_or_in_use_is_not_taken_for_an_orphan(
    janus: JanusProcess, loopback: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcu.janus.rooms.sweep.PAUSE", 0.0)  # searches follow each other without a pause
    searches, search = asyncio.Queue[None](), OrphanSweep.search

    async def counted(sweep: OrphanSweep) -> None:
        await search(sweep)
        searches.put_nowait(None)

    monkeypatch.setattr(OrphanSweep, "search", counted)
    async with RunningMcu(janus, INSTANCE) as mcu, PublishingPeer(1, 440.0, video=False) as peer:
        offer = await peer.offer()
        for _ in range(30):
            listener = WaitableListener()
            publisher, _ = await mcu.publish(CAMERA, parse_frozen(offer), PublishOptions(), listener)
            while not searches.empty():
                searches.get_nowait()
            for _ in range(4):  # the first may have begun before; an unknown room would be destroyed at the third
                await asyncio.wait_for(searches.get(), WAIT)
            assert await descriptions_of_rooms(janus) == {OWN_LABEL}
            assert listener.closed == []
            await publisher.close()
    assert janus.runs


async def test_a_silent_session_of_this_instance_is_destroyed(sweeping_mcu: JanusMcu, janus: JanusProcess) -> None:
    async with AsyncExitStack() as stack:
        earlier, mixed, foreign, second = [await stack.enter_async_context(OtherProgram(janus)) for _ in range(4)]
        orphans = {await earlier.attach(f"portunus|{INSTANCE}"), await earlier.attach(OWN_LABEL)}
        kept = {await mixed.attach(OWN_LABEL), await mixed.attach("somebody else's")}
        kept |= {await foreign.attach(""), await second.attach("portunus|another")}
        async with asyncio.timeout(WAIT):
            while orphans & await handle_ids(janus):  # noqa: ASYNC110 - Janus sends no event of it
                await asyncio.sleep(POLL)
        assert kept < await handle_ids(janus)


@pytest.mark.parametrize("second", ["another", INSTANCE])
async def test_two_gateways_on_one_janus_do_not_disturb_each_others_calls(
    janus: JanusProcess, loopback: None, monkeypatch: pytest.MonkeyPatch, second: str
) -> None:
    """This holds even if they share an instance by mistake."""
    monkeypatch.setattr("mcu.janus.rooms.sweep.MIN_SILENCE", 4.0)  # this process may stand still for a second or two
    async with AsyncExitStack() as stack:
        calls = [
            JanusCall(await stack.enter_async_context(RunningMcu(janus, name)), stack) for name in (INSTANCE, second)
        ]
        published = [await call.publish(number + 1) for number, call in enumerate(calls)]
        subscribed = [await call.subscribe() for call in calls]
        before = await handle_ids(janus)
        with pytest.raises(TimeoutError):
            await published[0][2].close_reason(5.0)  # longer than MIN_SILENCE, and many searches
        for (_, sender, _), (_, watcher, listener) in zip(published, subscribed, strict=True):
            await watcher.wait_for_tone(sender.frequency)
            assert listener.closed == []
        assert await handle_ids(janus) == before
        assert len(await janus.rooms()) == 2


EARLIER_PROCESS = """
import asyncio, sys
from mcu.base import PublishOptions
from mcu.janus.backend import JanusMcu
from mcu.janus.settings import JanusServerSettings
from tests.mcu.janus.conftest import CAMERA, INSTANCE, WaitableListener
from tests.mcu.descriptions import parse_frozen

async def main():
    mcu = JanusMcu((JanusServerSettings(sys.argv[1], sys.argv[2], "", sys.argv[3]),), 10.0, instance=INSTANCE)
    await mcu.start(lambda status: None)
    await mcu.publish(CAMERA, parse_frozen(sys.stdin.read()), PublishOptions(), WaitableListener())
    print("published", flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


@pytest.mark.full
@pytest.mark.parametrize("admin", [True, False])
async def test_rooms_of_a_killed_gateway_are_destroyed_when_it_is_started_again(
    janus: JanusProcess, loopback: None, monkeypatch: pytest.MonkeyPatch, admin: bool
) -> None:
    for name, value in (("FIRST_PAUSES", (0.5, 1.5, *[2.0] * 7, 4.0, 4.0)), ("PAUSE", 60.0), ("MIN_SILENCE", 12.0)):
        monkeypatch.setattr(f"mcu.janus.rooms.sweep.{name}", value)
    async with PublishingPeer(1, 440.0, video=False) as peer, OtherProgram(janus) as other:
        for description in FOREIGN_LABELS:
            await other.create_room(description)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", EARLIER_PROCESS, janus.url, API_SECRET, ADMIN_KEY,
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write((await peer.offer()).encode())
        process.stdin.close()
        assert await asyncio.wait_for(process.stdout.readline(), 60) == b"published\n"
        assert len(await janus.rooms()) == len(FOREIGN_LABELS) + 1
        process.kill()
        await process.wait()
        async with RunningMcu(janus, INSTANCE, admin=admin):
            await until_rooms_are(janus, FOREIGN_LABELS, 60)
            own = [handle for handle in await janus.handles() if handle["opaque_id"].startswith("portunus|of")]
            assert len(own) == 1  # the control handle


async def test_a_failed_search_does_not_disturb_calls(
    janus: JanusProcess, states: RecordedStates, loopback: None, caplog: pytest.LogCaptureFixture
) -> None:
    settings = JanusServerSettings(
        janus.url, api_secret=API_SECRET, admin_key=ADMIN_KEY, admin_url=janus.admin_url, admin_secret="not-the-secret"
    )
    mcu = JanusMcu((settings,), timeout=WAIT)
    await mcu.start(states)
    await states.until(lambda status: status.ready)
    async with AsyncExitStack() as stack:
        _, sender, _ = await JanusCall(mcu, stack).publish()
        _, watcher, _ = await JanusCall(mcu, stack).subscribe()
        await watcher.wait_for_tone(sender.frequency)
    await mcu.stop()
    assert "could not be searched for orphans" in caplog.text
    assert "not-the-secret" not in caplog.text


async def test_a_frozen_admin_api_does_not_delay_the_loss_of_streams(
    janus: JanusProcess, states: RecordedStates, loopback: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcu.janus.rooms.sweep.SEARCH_TIMEOUT", 3600.0)
    connected, finished = asyncio.Event(), asyncio.Event()

    async def never_answer(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=["janus-admin-protocol"])
        await socket.prepare(request)
        connected.set()
        await finished.wait()
        return socket

    app = web.Application()
    app.router.add_get("/", never_answer)
    async with TestServer(app) as admin, AsyncExitStack() as stack:
        settings = JanusServerSettings(
            janus.url, API_SECRET, "", ADMIN_KEY, f"ws://127.0.0.1:{admin.port}", ADMIN_SECRET
        )
        mcu = JanusMcu((settings,), timeout=WAIT)
        await mcu.start(states)
        stack.push_async_callback(mcu.stop)
        _, _, listener = await JanusCall(mcu, stack).publish()
        await asyncio.wait_for(connected.wait(), WAIT)
        await janus.kill()
        assert await listener.close_reason() is CloseReason.LOST
        finished.set()
