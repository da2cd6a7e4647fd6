"""What is ours and nobody owns on a real Janus is cleared away, and nothing else."""

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
from mcu.janus.settings import JanusServerSettings
from tests.janus_process import ADMIN_KEY, ADMIN_SECRET, API_SECRET, ROOT, Conversation, JanusProcess
from tests.mcu.janus.conftest import CAMERA, INSTANCE, WAIT, Call, Heard, States
from tests.media import PublishingPeer

OWN = f"portunus|{INSTANCE}|cloud|anna|video"  # the label of CAMERA
FOREIGN = {"somebody else's", "portunus|another|cloud|anna|video", "portunus|cloud|of an old version|video"}


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcu.janus.rooms.sweep.FIRST", (0.0,))
    monkeypatch.setattr("mcu.janus.rooms.sweep.EVERY", 0.1)
    monkeypatch.setattr("mcu.janus.rooms.sweep.SILENT", 1.0)
    monkeypatch.setattr("mcu.janus.connection.session.KEEPALIVE", 0.3)


class Gateway:
    """A backend on a Janus, under a name."""

    def __init__(self, janus: JanusProcess, instance: str, *, admin: bool = True) -> None:
        admin_url, admin_secret = (janus.admin_url, ADMIN_SECRET) if admin else ("", "")
        key = janus.values["ADMIN_KEY"]
        self.states = States()
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
async def sweeping(janus: JanusProcess, loopback: None) -> AsyncIterator[JanusMcu]:
    async with Gateway(janus, INSTANCE) as mcu:
        yield mcu


class Other:
    """A program on the same Janus, with a session of its own; ``leave`` it to Janus by not closing it."""

    def __init__(self, janus: JanusProcess) -> None:
        self._janus = janus
        self._talk = Conversation(janus.url, "janus-protocol", {"apisecret": API_SECRET})

    async def __aenter__(self) -> Other:
        await self._talk.__aenter__()
        self.session: int = (await self._talk.ask(janus="create"))["data"]["id"]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._talk.ask(janus="destroy", session_id=self.session)
        await self._talk.__aexit__(None, None, None)

    async def attach(self, opaque: str) -> int:
        """Open a handle under a name."""
        asked = {"janus": "attach", "session_id": self.session, "plugin": PLUGIN, "opaque_id": opaque}
        return int((await self._talk.ask(**asked))["data"]["id"])

    async def ask(self, handle: int, **body: object) -> dict[str, object]:
        """Ask VideoRoom for something."""
        asked = {"janus": "message", "session_id": self.session, "handle_id": handle, "body": body}
        answer: dict[str, object] = (await self._talk.ask(**asked))["plugindata"]["data"]
        return answer

    async def room(self, description: str) -> object:
        """Make a private room, or one for all where there is no key, and return its number."""
        key = self._janus.values["ADMIN_KEY"]
        body = {"request": "create", "description": description, "is_private": bool(key)}
        answer = await self.ask(await self.attach(""), **body, **({"admin_key": key} if key else {}))
        return answer["room"]


async def rooms(janus: JanusProcess) -> set[str]:
    """Ask Janus how its rooms are called."""
    return {room["description"] for room in await janus.rooms()}


async def become(janus: JanusProcess, descriptions: set[str], limit: float = WAIT) -> None:
    """Ask Janus until its rooms are called that."""
    async with asyncio.timeout(limit):
        while await rooms(janus) != descriptions:
            pass


@pytest.mark.parametrize("key", [ADMIN_KEY, ""])
async def test_rooms_of_an_earlier_process_go_and_all_others_stay(loopback: None, key: str) -> None:
    async with JanusProcess(ADMIN_KEY=key) as janus, Other(janus) as other, AsyncExitStack() as stack:
        for description in FOREIGN:
            await other.room(description)
        await other.room(f"portunus|{INSTANCE}|cloud|ben|video")
        await other.room(f"portunus|{INSTANCE}|cloud|ben|video|remote")
        mcu = await stack.enter_async_context(Gateway(janus, INSTANCE, admin=False))
        _, sender, _ = await Call(mcu, stack).publisher()
        await become(janus, FOREIGN | {OWN})
        _, watcher, _ = await Call(mcu, stack).subscriber()
        await watcher.hears(sender.frequency)


async def test_a_room_of_ours_with_somebody_in_it_stays_as_long(sweeping: JanusMcu, janus: JanusProcess) -> None:
    async with Other(janus) as other:
        room = await other.room(f"portunus|{INSTANCE}|cloud|ben|video")
        handle = await other.attach("")
        await other.ask(handle, request="join", ptype="publisher", room=room, id=1)
        empty = f"portunus|{INSTANCE}|cloud|carl|video"
        for _ in range(3):  # each time one that is empty goes
            await other.room(empty)
            await become(janus, {f"portunus|{INSTANCE}|cloud|ben|video"})
        await other.ask(handle, request="leave")
        await become(janus, set())


async def test_a_handle_that_nobody_knows_goes_and_all_others_stay(sweeping: JanusMcu, janus: JanusProcess) -> None:
    async with AsyncExitStack() as stack:
        _, sender, _ = await Call(sweeping, stack).publisher()
        session = await sweeping.session()
        session.post("attach", plugin=PLUGIN)  # no Handle is made of the answer
        async with asyncio.timeout(WAIT):
            while len(await janus.handles()) < 3:
                pass
            while len(await janus.handles()) > 2:
                pass
        _, watcher, _ = await Call(sweeping, stack).subscriber()
        await watcher.hears(sender.frequency)


async def test_what_is_just_being_made_is_not_taken_for_left(
    janus: JanusProcess, loopback: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("mcu.janus.rooms.sweep.EVERY", 0.0)  # one look after the other
    caplog.set_level("INFO")
    async with Gateway(janus, INSTANCE) as mcu, PublishingPeer(1, 440.0, video=False) as peer:
        offer = await peer.offer()
        for _ in range(30):
            publisher, _ = await mcu.publish(CAMERA, offer, PublishOptions(), Heard())
            assert await rooms(janus) == {OWN}
            await publisher.close()
    assert "orphaned" not in caplog.text
    assert janus.runs


async def test_a_silent_session_of_ours_goes_and_those_of_others_stay(sweeping: JanusMcu, janus: JanusProcess) -> None:
    async with AsyncExitStack() as stack:
        earlier, mixed, foreign, second = [await stack.enter_async_context(Other(janus)) for _ in range(4)]
        left = {await earlier.attach(f"portunus|{INSTANCE}"), await earlier.attach(OWN)}
        stay = {await mixed.attach(OWN), await mixed.attach("somebody else's")}
        stay |= {await foreign.attach(""), await second.attach("portunus|another")}
        async with asyncio.timeout(WAIT):
            while left & {handle["handle_id"] for handle in await janus.handles()}:
                pass
        assert stay < {handle["handle_id"] for handle in await janus.handles()}


@pytest.mark.parametrize("second", ["another", INSTANCE])
async def test_two_gateways_on_one_janus_leave_each_other_alone(
    janus: JanusProcess, loopback: None, second: str
) -> None:
    """Even under the same name, which they should not have, calls are not disturbed."""
    async with AsyncExitStack() as stack:
        calls = [Call(await stack.enter_async_context(Gateway(janus, name)), stack) for name in (INSTANCE, second)]
        made = [await call.publisher(number + 1) for number, call in enumerate(calls)]
        seen = [await call.subscriber() for call in calls]
        before = {handle["handle_id"] for handle in await janus.handles()}
        with pytest.raises(TimeoutError):
            await made[0][2].end(2.5)  # longer than SILENT, and many looks
        for (_, sender, _), (_, watcher, heard) in zip(made, seen, strict=True):
            await watcher.hears(sender.frequency)
            assert heard.closed == []
        assert before == {handle["handle_id"] for handle in await janus.handles()}
        assert len(await janus.rooms()) == 2


EARLIER = """
import asyncio, sys
from mcu.base import PublishOptions
from mcu.janus.backend import JanusMcu
from mcu.janus.settings import JanusServer
from tests.mcu.janus.conftest import CAMERA, INSTANCE, Heard

async def main():
    mcu = JanusMcu((JanusServer(sys.argv[1], sys.argv[2], "", sys.argv[3]),), 10.0, instance=INSTANCE)
    await mcu.start(lambda status: None)
    await mcu.publish(CAMERA, sys.stdin.read(), PublishOptions(), Heard())
    print("published", flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


@pytest.mark.full
@pytest.mark.parametrize("admin", [True, False])
async def test_what_a_killed_gateway_left_goes_when_it_is_started_again(
    janus: JanusProcess, loopback: None, monkeypatch: pytest.MonkeyPatch, admin: bool
) -> None:
    for name, value in (("FIRST", (0.5, 1.5, *[2.0] * 7, 4.0, 4.0)), ("EVERY", 60.0), ("SILENT", 12.0)):
        monkeypatch.setattr(f"mcu.janus.rooms.sweep.{name}", value)
    async with PublishingPeer(1, 440.0, video=False) as peer, Other(janus) as other:
        for description in FOREIGN:
            await other.room(description)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", EARLIER, janus.url, API_SECRET, ADMIN_KEY,
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write((await peer.offer()).encode())
        process.stdin.close()
        assert await asyncio.wait_for(process.stdout.readline(), 20) == b"published\n"
        assert len(await janus.rooms()) == len(FOREIGN) + 1
        process.kill()
        await process.wait()
        async with Gateway(janus, INSTANCE, admin=admin):
            await become(janus, FOREIGN, 24)
            assert (
                len([handle for handle in await janus.handles() if handle["opaque_id"].startswith("portunus|of")]) == 1
            )


async def test_a_look_that_fails_disturbs_nobody(
    janus: JanusProcess, states: States, loopback: None, caplog: pytest.LogCaptureFixture
) -> None:
    settings = JanusServerSettings(
        janus.url, api_secret=API_SECRET, admin_key=ADMIN_KEY, admin_url=janus.admin_url, admin_secret="wrong"
    )
    mcu = JanusMcu((settings,), timeout=WAIT)
    await mcu.start(states)
    await states.until(lambda status: status.ready)
    async with AsyncExitStack() as stack:
        _, sender, _ = await Call(mcu, stack).publisher()
        _, watcher, _ = await Call(mcu, stack).subscriber()
        await watcher.hears(sender.frequency)
    await mcu.stop()
    assert "could not be searched for orphans" in caplog.text
    assert "wrong" not in caplog.text


async def test_an_admin_api_that_stands_still_keeps_nobody_from_learning_that_janus_is_gone(
    janus: JanusProcess, states: States, loopback: None
) -> None:
    asked, over = asyncio.Event(), asyncio.Event()

    async def stand_still(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=["janus-admin-protocol"])
        await socket.prepare(request)
        asked.set()
        await over.wait()
        return socket

    app = web.Application()
    app.router.add_get("/", stand_still)
    async with TestServer(app) as admin, AsyncExitStack() as stack:
        settings = JanusServerSettings(
            janus.url, API_SECRET, "", ADMIN_KEY, f"ws://127.0.0.1:{admin.port}", ADMIN_SECRET
        )
        mcu = JanusMcu((settings,), timeout=WAIT)
        await mcu.start(states)
        stack.push_async_callback(mcu.stop)
        _, _, heard = await Call(mcu, stack).publisher()
        await asyncio.wait_for(asked.wait(), WAIT)
        await janus.kill()
        assert await heard.end(3.0) is CloseReason.LOST
        over.set()
