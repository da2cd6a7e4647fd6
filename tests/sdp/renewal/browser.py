"""A browser that opens ``peer.html`` and carries out tasks there."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from aiohttp import web

from tests.sdp.renewal.session_description import SessionDescription

PAGE = Path(__file__).parent / "peer.html"
TASK_TIMEOUT = 60.0  # seconds for one description; the first one waits for the browser's start

CHROMIUM = (
    "chromium",
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    "--auto-accept-this-tab-capture",
    "--user-data-dir={profile}",
    "{url}",
)
FIREFOX = ("firefox-esr", "--headless", "--no-remote", "--profile", "{profile}", "{url}")
FIREFOX_PREFERENCES = {
    "app.normandy.enabled": False,
    "app.update.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "media.navigator.permission.disabled": True,
    "media.navigator.streams.fake": True,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "toolkit.telemetry.enabled": False,
}


class TaskFailed(Exception):
    """The page could not carry out its task."""


class Browser:
    """One page in one browser, doing one task at a time."""

    def __init__(self, version: str) -> None:
        self.version = version
        self._tasks: asyncio.Queue[dict[str, object]] = asyncio.Queue()
        self._results: asyncio.Queue[dict[str, str]] = asyncio.Queue()

    async def ask(self, name: str, offer: SessionDescription | None = None) -> SessionDescription:
        """Carry out a task of peer.html and return the description.

        Raises:
            TaskFailed: the browser raised an error, or did not come up.
        """
        self._tasks.put_nowait({"name": name, "offer": offer and offer.as_json()})
        try:
            result = await asyncio.wait_for(self._results.get(), TASK_TIMEOUT)
        except TimeoutError:
            raise TaskFailed(f"{name}: the browser does not answer") from None
        if "error" in result:
            raise TaskFailed(f"{name}: {result['error']}")
        return SessionDescription(result["type"], result["sdp"], result.get("before", ""))

    async def page(self, request: web.Request) -> web.Response:
        """Serve the page."""
        return web.Response(text=PAGE.read_text(), content_type="text/html")

    async def next(self, request: web.Request) -> web.Response:
        """Return the next task, as soon as there is one."""
        return web.json_response(await self._tasks.get())

    async def receive(self, request: web.Request) -> web.Response:
        """Receive the description that the page has created."""
        self._results.put_nowait(json.loads(await request.text()))
        return web.Response()


@asynccontextmanager
async def browser(command: tuple[str, ...]) -> AsyncIterator[Browser]:
    """Run ``CHROMIUM`` or ``FIREFOX`` with an empty profile."""
    peer = Browser(await _version(command[0]))
    app = web.Application()
    app.add_routes([web.get("/", peer.page), web.get("/next", peer.next), web.post("/description", peer.receive)])
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        _write_preferences(Path(profile))
        arguments = [part.format(profile=profile, url=f"http://{host}:{port}/") for part in command]
        process = await asyncio.create_subprocess_exec(
            *arguments,
            env={**os.environ, "HOME": profile},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield peer
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            await runner.cleanup()


async def _version(program: str) -> str:
    process = await asyncio.create_subprocess_exec(
        program, "--version", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    output, _ = await process.communicate()
    return output.decode().strip()


def _write_preferences(profile: Path) -> None:
    lines = (f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in FIREFOX_PREFERENCES.items())
    (profile / "user.js").write_text("\n".join(lines))
