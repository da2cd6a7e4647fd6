"""A gateway for a page of the tests that is a client itself: its Nextcloud, and a server of the page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from gateway.app import Gateway
from gateway.config import Config, GeoIpSection, HttpSection, McuSection, SessionsSection
from gateway.tools.fake_nextcloud import FakeNextcloud
from gateway.tools.talk_rooms import nextcloud_session

ROOM = "kitchen"
NO_LOCATIONS = GeoIpSection()


@dataclass
class PageGateway:
    """A gateway whose clients are pages in one room."""

    gateway: Gateway
    config: Config
    url: str
    nextcloud: FakeNextcloud
    page_url: str

    def settings(self, name: str) -> dict[str, object]:
        """Return the argument of a page's function ``enter``, which joins the room."""
        return {
            "url": self.url.replace("http", "ws", 1) + "/spreed",
            "auth": {"url": self.nextcloud.url, "params": self.nextcloud.ticket(name)},
            "room": {"roomid": ROOM, "sessionid": nextcloud_session(name)},
        }

    async def set_in_call(self, *names: str) -> None:
        """Have Nextcloud notify the gateway that these members have joined the call."""
        for name in names:
            await self.nextcloud.talk.set_in_call(ROOM, nextcloud_session(name), 7)


@asynccontextmanager
async def page_gateway(mcu: McuSection, page: Path, geoip: GeoIpSection = NO_LOCATIONS) -> AsyncIterator[PageGateway]:
    """Run a gateway with an SFU, and serve a page."""
    async with AsyncExitStack() as stack:
        nextcloud = await stack.enter_async_context(FakeNextcloud())
        config = Config(
            sessions=SessionsSection(secret="6f1b0c7d9ae24835b6cf01d27e9a4488"),
            http=HttpSection(listen=("127.0.0.1:0",)),
            backends=(nextcloud.backend(),),
            mcu=mcu,
            geoip=geoip,
        )
        gateway = Gateway(config)
        (url,) = await gateway.start()
        nextcloud.gateway = url
        stack.push_async_callback(gateway.stop)
        yield PageGateway(gateway, config, url, nextcloud, await stack.enter_async_context(serve_page(page)))


@asynccontextmanager
async def serve_page(page: Path) -> AsyncIterator[str]:
    """Serve a page on a free port, and yield its URL."""

    async def answer(request: web.Request) -> web.FileResponse:
        return web.FileResponse(page)

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()
