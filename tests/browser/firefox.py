"""Debian's Firefox, headless, controlled over its own WebDriver BiDi.

Source: W3C WebDriver BiDi; only the few commands that the tests need.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.sdp.renewal.browser import FIREFOX_PREFERENCES

EXECUTABLE = Path("/usr/bin/firefox-esr")
START = 60.0  # seconds; measured 2 to 4 on an idle machine
ANSWER = 300.0  # seconds for a command, of which one may run a script that waits; the tests have limits of their own

PREFERENCES = FIREFOX_PREFERENCES | {
    "media.autoplay.default": 0,  # no user clicks
    "media.peerconnection.ice.loopback": True,  # the SFU is on 127.0.0.1 only
    "media.peerconnection.ice.obfuscate_host_addresses": False,
}


class Firefox:
    """A running Firefox; a tab is identified by its browsing context."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._ids = itertools.count(1)

    async def command(self, method: str, **params: Any) -> dict[str, Any]:
        """Run a command and return its result; events are skipped."""
        id = next(self._ids)
        await self._socket.send_json({"id": id, "method": method, "params": params})
        async with asyncio.timeout(ANSWER):
            while (answer := await self._socket.receive_json()).get("id") != id:
                pass
        assert answer["type"] == "success", f"{method}: {answer}"
        result: dict[str, Any] = answer["result"]
        return result

    async def open(self, url: str) -> str:
        """Open a page in a tab of its own and return the tab."""
        tab = str((await self.command("browsingContext.create", type="tab"))["context"])
        await self.command("browsingContext.navigate", context=tab, url=url, wait="complete")
        return tab

    async def evaluate(self, tab: str, script: str) -> Any:
        """Return the JSON value of an expression, or of the promise that it returns."""
        wrapped = f"Promise.resolve({script}).then(value => JSON.stringify(value ?? null))"
        result = await self.command(
            "script.evaluate", expression=wrapped, target={"context": tab}, awaitPromise=True, userActivation=True
        )
        assert result["type"] == "success", f"{script}: {result}"
        return json.loads(result["result"]["value"])


@asynccontextmanager
async def firefox() -> AsyncIterator[Firefox]:
    """Run Firefox with an empty profile, a fake camera and a fake microphone.

    Raises:
        pytest.UsageError: Debian's firefox-esr is not installed.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            *_command(Path(profile)),
            env={**os.environ, "HOME": profile},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(START):
                address = await _address(process)
            async with aiohttp.ClientSession() as client, client.ws_connect(f"{address}/session") as socket:
                running = Firefox(socket)
                await running.command("session.new", capabilities={})
                yield running
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.communicate()


def _command(profile: Path) -> tuple[str, ...]:
    if not EXECUTABLE.exists():
        raise pytest.UsageError("the tests need a real browser: apt-get install firefox-esr")
    lines = (f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in PREFERENCES.items())
    (profile / "user.js").write_text("\n".join(lines))
    arguments = ("--headless", "--no-remote", "--profile", str(profile), "--remote-debugging-port", "0")
    return (str(EXECUTABLE), *arguments)


async def _address(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    async for line in process.stderr:
        if b"BiDi listening on " in line:
            return line.decode().split()[-1]
    raise AssertionError("Firefox ended before it listened")
