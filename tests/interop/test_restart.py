"""A restart of ``portunus serve`` while Janus keeps running (docs/janus.md, "Ownership on Janus")."""

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
from tests.janus_process import ADMIN_KEY, ADMIN_SECRET, API_SECRET, JanusProcess
from tests.media.loopback import loopback
from tests.ports import free_ports

__all__ = ["loopback"]

pytestmark = pytest.mark.full

CLEAN_UP_TIMEOUT = 60.0  # seconds after the start; docs/janus.md says 18
CALL_HANDLES = 5  # of a call of two members: the control handle, two publishers, two subscribers


class GatewayWithCall:
    """One ``portunus serve`` with an instance name on Janus, and a call of two members."""

    def __init__(
        self, folder: Path, instance: str, cloud: FakeNextcloud, janus: JanusProcess, first_number: int
    ) -> None:
        self.instance, self.cloud, self.janus = instance, cloud, janus
        self.url = f"http://127.0.0.1:{free_ports(1)[0]}"
        self.members: list[Member] = []
        self._first_number = first_number  # shown by the pictures of the first member
        self._file = folder / f"{instance}.toml"
        self._file.write_text(
            f'[http]\nlisten = ["{self.url.removeprefix("http://")}"]\n[sessions]\nsecret = "{cloud.secret}"\n'
            f'[[backend]]\nid = "cloud"\nurls = ["{cloud.url}"]\nsecret = "{cloud.secret}"\n'
            f'[drain]\ndeadline = 0\n[mcu]\ntype = "janus"\ninstance = "{instance}"\n'
            f'[[mcu.janus]]\nurl = "{janus.url}"\napi_secret = "{API_SECRET}"\nadmin_key = "{ADMIN_KEY}"\n'
            f'admin_url = "{janus.admin_url}"\nadmin_secret = "{ADMIN_SECRET}"\n'
        )

    @asynccontextmanager
    async def run(self) -> AsyncIterator[Process]:
        """Run the process, and terminate it at the end of the block if it still runs."""
        command = str(Path(sys.executable).with_name("portunus"))
        process = await asyncio.create_subprocess_exec(command, "serve", "-c", str(self._file), stdout=PIPE)
        try:
            assert process.stdout is not None
            async with asyncio.timeout(60):
                await process.stdout.readline()
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()

    async def call(self, stack: AsyncExitStack) -> None:
        """Have two members join the call and receive each other."""
        names = (f"{self.instance}-anna", f"{self.instance}-ben")
        self.members = [
            await stack.enter_async_context(Member(self.url, self.cloud, name, number))
            for number, name in enumerate(names, self._first_number)
        ]
        anna, ben = self.members
        for member in self.members:
            await member.set_in_call()
            await member.publish()
        await ben.request_offer(anna)
        await anna.request_offer(ben)
        await self.assert_media_flow()

    async def assert_media_flow(self) -> None:
        """Wait until each member decodes a picture of the other."""
        anna, ben = self.members
        await ben.wait_for_picture(anna)
        await anna.wait_for_picture(ben)

    async def rooms_and_handles(self) -> tuple[set[int], set[int]]:
        """Return Janus' rooms and handles that carry the instance name."""
        label = f"portunus|{self.instance}"
        rooms = {room["room"] for room in await self.janus.rooms() if room["description"].startswith(f"{label}|")}
        handles = {
            handle["handle_id"]
            for handle in await self.janus.handles()
            if handle["opaque_id"] == label or handle["opaque_id"].startswith(f"{label}|")
        }
        return rooms, handles

    async def wait_for_counts(self, rooms: int, handles: int, limit: float = CLEAN_UP_TIMEOUT) -> None:
        """Wait until Janus has exactly that many rooms and handles of this instance."""
        async with asyncio.timeout(limit):
            while [len(found) for found in await self.rooms_and_handles()] != [rooms, handles]:  # noqa: ASYNC110 - Janus has no event for it
                await asyncio.sleep(0.2)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGKILL])
async def test_restarted_gateway_removes_its_old_rooms_and_serves_its_clients_again(
    loopback: None, tmp_path: Path, signal_number: signal.Signals
) -> None:
    """The clients join again at once, the old process' rooms and handles go, another gateway is unaffected."""
    async with FakeNextcloud() as cloud, JanusProcess() as janus, AsyncExitStack() as stack:
        restarted = GatewayWithCall(tmp_path, "restarted", cloud, janus, 1)
        other = GatewayWithCall(tmp_path, "other", cloud, janus, 3)
        await stack.enter_async_context(other.run())
        await other.call(stack)
        untouched = await other.rooms_and_handles()
        async with restarted.run() as process, AsyncExitStack() as members:
            await restarted.call(members)
            left_behind = await restarted.rooms_and_handles()
            assert [len(found) for found in left_behind] == [2, CALL_HANDLES]
            process.send_signal(signal_number)
            await asyncio.wait_for(process.wait(), 60)
            if signal_number is signal.SIGTERM:
                assert await restarted.rooms_and_handles() == (set(), set())
            old_members = restarted.members
            async with restarted.run():
                for member in old_members:
                    await member.client.connect()
                    with pytest.raises(RequestRefused, match="no_such_session"):
                        await member.client.resume()
                async with AsyncExitStack() as new_members:
                    await restarted.call(new_members)
                    await restarted.wait_for_counts(2, CALL_HANDLES)
                    assert not (await restarted.rooms_and_handles())[0] & left_behind[0]
                    await restarted.assert_media_flow()
                    await other.assert_media_flow()
                    assert await other.rooms_and_handles() == untouched
                await restarted.wait_for_counts(0, 1)
        await restarted.wait_for_counts(0, 0)
        assert await other.rooms_and_handles() == untouched
        assert janus.runs
