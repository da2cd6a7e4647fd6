"""A demo gateway with the admin page, its doctor, and control of its SFU."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

from msgspec.structs import replace
from playwright.async_api import Browser, Page

from gateway.app import Gateway
from gateway.config import AdminSection, Config
from gateway.core.limits import Backend
from gateway.tools.demo import Demo
from gateway.tools.demo_page import page_routes
from gateway.tools.examine import examine
from mcu.base import BackendId, PublisherId, StreamKey, StreamType
from mcu.inprocess.backend import InprocessMcu
from tests.browser.conftest import inprocess

SECRET = "5a0f1d7c3b9e8642"


class AdminDemo(Demo):
    """A demo gateway whose configuration has a secret for the admin page; its doctor reads ``file``."""

    def __init__(self, file: Path) -> None:
        super().__init__("127.0.0.1", 0, inprocess())
        self._file = file

    async def start(self) -> None:
        """Start backend and gateway, and write the configuration for the doctor."""
        await super().start()
        backend, address = self.backend, self.url.removeprefix("http://").rstrip("/")
        text = (
            f'[http]\nlisten = ["{address}"]\n[sessions]\nsecret = "{self._sessions.secret}"\n'
            f'[[backend]]\nid = "{backend.id}"\nurls = ["{backend.urls[0]}"]\nsecret = "{backend.secret}"\n'
            '[mcu]\ntype = "inprocess"\n[mcu.inprocess]\naddress = "127.0.0.1"\n'
        )
        await asyncio.to_thread(self._file.write_text, text)

    @property
    def backend(self) -> Backend:
        """The demo backend as it is configured."""
        return self._backend.backend

    def lose_packets_of(self, session_id: str, loss: float) -> None:
        """Drop a fraction of the packets that a session sends with its camera and microphone."""
        assert self._gateway is not None
        sfu = self._gateway.mcu
        assert isinstance(sfu, InprocessMcu)
        (key,) = [
            StreamKey(BackendId(stream.backend), PublisherId(stream.publisher), StreamType(stream.type))
            for stream in sfu.counters()
            if stream.publisher == session_id
        ]
        sfu.impair(key, loss=loss, delay=0.0, jitter=0.0, seed=1, leg="publisher")

    def _create_gateway(self, config: Config) -> Gateway:
        return Gateway(config, routes=page_routes(self._backend), examine=partial(examine, self._file))

    def _config(self, files: tuple[Path, Path] | None = None) -> Config:
        return replace(super()._config(files), admin=AdminSection(secret=SECRET))


async def open_admin_page(browser: Browser, demo: Demo, problems: list[str], **context: object) -> Page:
    """Open the page in a context of its own; ``problems`` gets the errors and warnings of its console."""
    page = await (await browser.new_context(**context)).new_page()  # type: ignore[arg-type]
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
    await page.goto(f"{demo.url}admin/")
    return page


async def log_in(page: Page, secret: str = SECRET) -> None:
    """Send the secret to log in."""
    await page.fill("#secret", secret)
    await page.click("#login-form button")
