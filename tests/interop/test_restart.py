"""``portunus serve`` is ended and started again while Janus keeps running (docs/janus.md, "Ownership on Janus")."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from gateway.tools.fake_nextcloud import FakeNextcloud
from gateway.tools.talk_client import RequestRefused
from tests.interop.member import Member
from tests.janus_process import ADMIN_KEY, ADMIN_SECRET, API_SECRET, JanusProcess, free_ports
from tests.media.loopback import loopback

__all__ = ["loopback"]

pytestmark = pytest.mark.full

CLEAN = 24.0  # seconds after the start; docs/janus.md says 18
CALL = 5  # handles of a call of two: the control handle, two publishers, two subscribers


class Served:
    """One ``portunus serve`` with a name on Janus, and a call of two over it."""

    def __init__(self, folder: Path, instance: str, cloud: FakeNextcloud, janus: JanusProcess, first: int) -> None:
        self.instance, self.cloud, self.janus = instance, cloud, janus
        self.url = f"http://127.0.0.1:{free_ports(1)[0]}"
        self.members: list[Member] = []
        self._first = first  # number of a picture
        self._file = folder / f"{instance}.toml"
        self._file.write_text(
            f'[http]\nlisten = ["{self.url.removeprefix("http://")}"]\n[sessions]\nsecret = "{cloud.secret}"\n'
            f'[[backend]]\nid = "cloud"\nurls = ["{cloud.url}"]\nsecret = "{cloud.secret}"\n'
            f'[mcu]\ntype = "janus"\ninstance = "{instance}"\n'
            f'[[mcu.janus]]\nurl = "{janus.url}"\napi_secret = "{API_SECRET}"\nadmin_key = "{ADMIN_KEY}"\n'
            f'admin_url = "{janus.admin_url}"\nadmin_secret = "{ADMIN_SECRET}"\n'
        )

    @asynccontextmanager
    async def runs(self) -> AsyncIterator[Process]:
        """Run it, and end it if the test has not."""
        command = str(Path(sys.executable).with_name("portunus"))
        process = await asyncio.create_subprocess_exec(command, "serve", "-c", str(self._file), stdout=PIPE)
        try:
            assert process.stdout is not None
            async with asyncio.timeout(20):
                await process.stdout.readline()
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()

    async def call(self, stack: AsyncExitStack) -> None:
        """Let two enter the call and see each other."""
        names = (f"{self.instance}-anna", f"{self.instance}-ben")
        self.members = [
            await stack.enter_async_context(Member(self.url, self.cloud, name, number))
            for number, name in enumerate(names, self._first)
        ]
        anna, ben = self.members
        for one in self.members:
            await one.in_call()
            await one.publish()
        await ben.ask(anna)
        await anna.ask(ben)
        await self.goes_on()

    async def goes_on(self) -> None:
        """See that each still sees the other."""
        anna, ben = self.members
        await ben.wait_for_picture(anna)
        await anna.wait_for_picture(ben)

    async def on_janus(self) -> tuple[set[int], set[int]]:
        """Ask Janus for the rooms and handles that carry the name."""
        label = f"portunus|{self.instance}"
        rooms = {room["room"] for room in await self.janus.rooms() if room["description"].startswith(f"{label}|")}
        handles = {
            handle["handle_id"]
            for handle in await self.janus.handles()
            if handle["opaque_id"] == label or handle["opaque_id"].startswith(f"{label}|")
        }
        return rooms, handles

    async def has(self, rooms: int, handles: int, limit: float = CLEAN) -> None:
        """Wait until Janus has that many of each and no more."""
        async with asyncio.timeout(limit):
            while [len(them) for them in await self.on_janus()] != [rooms, handles]:  # noqa: ASYNC110 - Janus can only be asked
                await asyncio.sleep(0.2)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_a_gateway_that_is_started_again_finds_janus_as_its_call_left_it_for_the_next(
    loopback: None, tmp_path: Path, how: signal.Signals
) -> None:
    """Its clients join anew at once, what the earlier process left goes, and a second gateway notices nothing."""
    async with FakeNextcloud() as cloud, JanusProcess() as janus, AsyncExitStack() as stack:
        one, second = (Served(tmp_path, name, cloud, janus, first) for name, first in (("one", 1), ("second", 3)))
        await stack.enter_async_context(second.runs())
        await second.call(stack)
        untouched = await second.on_janus()
        async with one.runs() as process, AsyncExitStack() as members:
            await one.call(members)
            left = await one.on_janus()
            assert [len(them) for them in left] == [2, CALL]
            process.send_signal(how)
            await asyncio.wait_for(process.wait(), 20)
            if how is signal.SIGTERM:
                assert await one.on_janus() == (set(), set())
            old = one.members
            async with one.runs():
                for member in old:
                    await member.client.connect()
                    with pytest.raises(RequestRefused, match="no_such_session"):
                        await member.client.resume()
                async with AsyncExitStack() as anew:
                    await one.call(anew)
                    await one.has(2, CALL)
                    assert not (await one.on_janus())[0] & left[0]
                    await one.goes_on()
                    await second.goes_on()
                    assert await second.on_janus() == untouched
                await one.has(0, 1)
        await one.has(0, 0)
        assert await second.on_janus() == untouched
        assert janus.runs
