"""HTTP servers of single handlers and of a whole gateway, and HTTP exchanges over a raw socket."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from aiohttp import web

from gateway.app import Gateway
from gateway.config import Config
from gateway.edge.http.descriptors import DescriptorReserve
from gateway.edge.http.idle_connections import IdleConnections
from gateway.edge.http.new_connection import Upgrade
from gateway.edge.http.runner import ConnectionRules, HttpRunner
from gateway.limited_log import LimitedLog


@asynccontextmanager
async def served_routes(routes: Iterable[web.AbstractRouteDef]) -> AsyncIterator[tuple[str, int]]:
    """Serve the routes on a free port; yield host and port."""
    app = web.Application(client_max_size=0)
    app.router.add_routes(routes)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    try:
        yield host, port
    finally:
        await runner.cleanup()


@asynccontextmanager
async def served_with_upgrades(
    routes: Iterable[web.AbstractRouteDef], upgrade: Upgrade, clock: Callable[[], float]
) -> AsyncIterator[tuple[str, int]]:
    """Serve the routes by the gateway's HTTP runner, which opens WebSockets by ``upgrade``; yield host and port."""
    app = web.Application(client_max_size=0)
    app.router.add_routes(routes)
    rules = ConnectionRules(
        headers={},
        timeout=lambda: 0.0,
        on_timeout=lambda: None,
        idle=IdleConnections(lambda: 0, lambda limit: None),
        reserve=DescriptorReserve(LimitedLog(logging.getLogger("portunus.http"), clock)),
        upgrade=upgrade,
    )
    runner = HttpRunner(app, rules, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    try:
        yield host, port
    finally:
        await runner.cleanup()


@asynccontextmanager
async def running_gateway(config: Config, *, at_once: bool = True) -> AsyncIterator[str]:
    """Run a gateway, which leaves all connections to aiohttp unless ``at_once``; yield its URL."""
    gateway = Gateway(config)
    if not at_once:
        gateway._upgrade_at_once = lambda request: False  # type: ignore[method-assign]
    (url,) = await gateway.start()
    try:
        yield url
    finally:
        await gateway.stop()


def address_of(url: str) -> tuple[str, int]:
    """Return host and port of a URL."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 0


async def exchange(address: tuple[str, int], request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send the octets of a request; return status, headers (names in lower case) and body of the answer."""
    async with asyncio.timeout(5):
        reader, writer = await asyncio.open_connection(*address)
        try:
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
            body = await reader.readexactly(int(headers["content-length"]))
        finally:
            writer.close()
    return int(head[0].split()[1]), headers, body
