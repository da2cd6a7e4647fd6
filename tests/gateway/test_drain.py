"""The end of ``portunus serve``: signals and ``portunus drain``, with clients that are connected."""

from __future__ import annotations

import asyncio
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from gateway.edge.operator.drain_api import DrainReport
from gateway.tools import drain as command
from gateway.tools.fake_nextcloud import FakeNextcloud
from gateway.tools.talk_client import RequestRefused, TalkClient
from tests.gateway.served import PORTUNUS, configuration_for

ROOM = "room"
LIMIT = 60.0  # seconds of a wait
NEVER = 86400  # seconds: a deadline that no test reaches


class ServedCall:
    """A process of ``portunus serve``, and two clients in a call."""

    def __init__(self, url: str, process: Process, admin: Path, cloud: FakeNextcloud) -> None:
        self.url, self.process, self.admin, self.cloud = url, process, admin, cloud
        self.sessions: dict[str, str] = {}  # at Nextcloud, by name

    async def client(self, stack: AsyncExitStack, name: str) -> TalkClient:
        """Connect a client, open its session and join the room."""
        client = await stack.enter_async_context(TalkClient(self.url, self.cloud.url))
        await client.hello(self.cloud.ticket(name))
        self.sessions[name] = self.cloud.talk.open(ROOM, name)
        await client.join(ROOM, self.sessions[name])
        return client

    async def set_in_call(self, name: str, flags: int) -> None:
        await self.cloud.talk.set_in_call(ROOM, self.sessions[name], flags)

    async def wait_for_log_line(self, part: str) -> None:
        """Wait for a line of the log that contains a text."""
        assert self.process.stderr is not None
        async with asyncio.timeout(LIMIT):
            while part not in (await self.process.stderr.readline()).decode():
                assert not self.process.stderr.at_eof()

    async def wait_until_ended(self) -> int:
        """Wait for the end of the process and return its status."""
        return await asyncio.wait_for(self.process.wait(), LIMIT)

    async def status(self) -> DrainReport:
        return await asyncio.to_thread(command.status, self.admin)


@asynccontextmanager
async def served_call(folder: Path) -> AsyncIterator[ServedCall]:
    """Run a gateway whose calls may go on without end after SIGTERM."""
    async with FakeNextcloud() as cloud:
        file, admin = folder / "portunus.toml", folder / "admin.sock"
        file.write_text(
            configuration_for(
                cloud, f'[drain]\ndeadline = {NEVER}\n[admin]\nsocket = "{admin}"\n[mcu]\ntype = "inprocess"\n'
            )
        )
        process = await asyncio.create_subprocess_exec(PORTUNUS, "serve", "-c", str(file), stdout=PIPE, stderr=PIPE)
        try:
            assert process.stdout is not None
            async with asyncio.timeout(LIMIT):
                line = (await process.stdout.readline()).decode()
            cloud.gateway = url = line.removeprefix("portunus listens on ").strip()
            yield ServedCall(url, process, admin, cloud)
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()


# reference 2.5-h
@pytest.mark.full
async def test_call_goes_on_after_sigterm_and_the_process_ends_with_it(tmp_path: Path) -> None:
    async with served_call(tmp_path) as call, AsyncExitStack() as stack, aiohttp.ClientSession() as http:
        anna, ben = await call.client(stack, "anna"), await call.client(stack, "ben")
        await call.client(stack, "listed")  # in the room only
        for name in ("anna", "ben"):
            await call.set_in_call(name, 7)
        async with http.get(call.url + "/readyz") as response:
            assert response.status == 200
        call.process.send_signal(signal.SIGTERM)
        await call.wait_for_log_line("draining: no new sessions are accepted; sessions in calls: 2;")
        async with http.get(call.url + "/readyz") as response:
            document = await response.json()
            assert (response.status, document["state"], document["draining"]) == (503, "away", True)
        async with http.get(call.url + "/healthz") as response:
            assert response.status == 200
        async with http.get(call.url + "/metrics") as response:
            lines = (await response.text()).splitlines()
            assert {"portunus_draining 1.0", "portunus_drain_sessions 2.0"} <= set(lines)
        late = await stack.enter_async_context(TalkClient(call.url, call.cloud.url))
        with pytest.raises(RequestRefused, match="shutdown_scheduled"):
            await late.hello(call.cloud.ticket("late"))
        await anna.disconnect()
        await anna.connect()
        await anna.resume()
        await ben.send_message(anna.session_id, {"type": "nickChanged", "roomType": "video"})
        await anna.wait_for(lambda it: it["type"] == "message" and it["message"]["data"]["type"] == "nickChanged")
        await anna.bye()
        report = await call.status()
        assert (report.draining, report.refused, report.sessions, report.in_calls) == (True, 1, 2, 1)
        await call.set_in_call("ben", 0)
        assert await call.wait_until_ended() == 0


@pytest.mark.full
async def test_second_sigterm_ends_the_process_in_a_call(tmp_path: Path) -> None:
    async with served_call(tmp_path) as call, AsyncExitStack() as stack:
        anna = await call.client(stack, "anna")
        await call.set_in_call("anna", 7)
        call.process.send_signal(signal.SIGTERM)
        await call.wait_for_log_line("draining: no new sessions are accepted")
        call.process.send_signal(signal.SIGTERM)
        assert await call.wait_until_ended() == 0
        assert await anna.wait_closed() == 1000


@pytest.mark.full
async def test_drain_command_is_cancelled_and_begun_again(tmp_path: Path) -> None:
    async with served_call(tmp_path) as call, AsyncExitStack() as stack:
        await call.client(stack, "anna")
        await call.set_in_call("anna", 7)
        begun = await asyncio.to_thread(command.begin, call.admin, None)
        assert begun.draining
        assert begun.seconds_left is not None
        assert begun.seconds_left > NEVER - 60.0  # from the configuration
        assert not (await asyncio.to_thread(command.cancel, call.admin)).draining
        await call.client(stack, "ben")
        assert (await call.status()).sessions == 2
        await asyncio.to_thread(command.begin, call.admin, 0.0)
        assert await call.wait_until_ended() == 0


# reference 2.5-f, 2.5-h
@pytest.mark.full
async def test_sigterm_after_sigusr1_waits_for_calls_only(tmp_path: Path) -> None:
    async with served_call(tmp_path) as call, AsyncExitStack() as stack:
        await call.client(stack, "anna")
        call.process.send_signal(signal.SIGUSR1)
        await call.wait_for_log_line("draining: no new sessions are accepted; sessions open: 1;")
        call.process.send_signal(signal.SIGTERM)
        assert await call.wait_until_ended() == 0
