"""Reverse proxy in front of a gateway, with the faults of common configurations."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Self

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

PREFIX = "/signal"  # below which it serves the gateway
_OWN_HEADERS = ("Transfer-Encoding", "Content-Length", "Content-Encoding", "Date", "Server", "Connection")


class FaultyProxy:
    """HTTP server that forwards requests below ``PREFIX``; its attributes are faults, which may be set at any time."""

    def __init__(self) -> None:
        self.upstream = ""  # base URL of the gateway; empty: it cannot be reached
        self.strips_prefix = True
        self.upgrades = True
        self.chunks_bodies = False
        self.answer: web.Response | None = None  # in place of the gateway's
        self.names_client = True  # in X-Real-IP and X-Forwarded-For
        self.passes_forged_names = False  # of clients, instead of the client's address
        self.lost_request_headers: tuple[str, ...] = ()
        self.answer_headers: dict[str, str] = {}  # replaced in answers; empty: removed
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def start(self, certificate: tuple[Path, Path] | None = None) -> Self:
        """Listen on a free port of 127.0.0.1, with TLS if there is a certificate."""
        context = None
        if certificate is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(*certificate)
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._forward)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=context).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def close(self) -> None:
        """Stop listening. Idempotent."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        if self.answer is not None:
            return web.Response(status=self.answer.status, body=self.answer.body, headers=self.answer.headers.copy())
        if not self.upstream:
            return web.Response(status=502, text="Bad Gateway")
        path = request.path_qs.removeprefix(PREFIX) if self.strips_prefix else request.path_qs
        async with aiohttp.ClientSession(auto_decompress=False) as http:
            if self.upgrades and request.headers.get("Upgrade"):
                return await _bridge(http, f"{self.upstream}{path}", request)
            headers = CIMultiDict(request.headers)
            for name in ("Host", "Connection", "Upgrade", "Content-Length", *self.lost_request_headers):
                headers.popall(name, None)
            if self.names_client and not (self.passes_forged_names and "X-Real-IP" in headers):
                headers["X-Real-IP"] = request.remote or ""
                before = request.headers.getall("X-Forwarded-For", ())
                headers["X-Forwarded-For"] = ", ".join([*before, request.remote or ""])
            body = await request.read()
            data = _chunks(body) if self.chunks_bodies and body else body
            url = f"{self.upstream}{path}"
            async with http.request(request.method, url, headers=headers, data=data, allow_redirects=False) as answer:
                kept = {name: value for name, value in answer.headers.items() if name not in _OWN_HEADERS}
                replaced = kept | self.answer_headers
                passed = {name: value for name, value in replaced.items() if value}
                return web.Response(status=answer.status, body=await answer.read(), headers=passed)


async def _chunks(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def _bridge(http: aiohttp.ClientSession, url: str, request: web.Request) -> web.StreamResponse:
    """Forward the frames of a WebSocket in both directions until one side closes."""
    async with http.ws_connect(url) as gateway:
        client = web.WebSocketResponse()
        await client.prepare(request)

        async def to_client() -> None:
            async for frame in gateway:
                with suppress(ConnectionError):
                    await client.send_str(frame.data)
            await client.close()

        sending = asyncio.create_task(to_client())
        async for frame in client:
            await gateway.send_str(frame.data)
        await gateway.close()
        await sending
    return client
