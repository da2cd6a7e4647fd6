"""Fake of another signaling server, and a resolver with scripted answers."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Self

from aiohttp import web

from gateway.core.limits import FederationRules
from gateway.edge.federation.connections import CheckedResolver

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class OtherServer:
    """HTTP server on a free port of 127.0.0.1; ``handler`` serves all requests, which are recorded."""

    def __init__(self, handler: Handler | None = None, tls: ssl.SSLContext | None = None) -> None:
        self._handler = handler or accept
        self._tls = tls
        self.requests: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.port = 0

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._runner.cleanup()

    def rules(self, *ports: int, authorities: Path | None = None) -> FederationRules:
        """Return rules that allow this server's address."""
        return FederationRules(
            allow_insecure=self._tls is None,
            ports=(self.port, *ports),
            allowed=("127.0.0.0/8",),
            certificate_authorities=str(authorities or ""),
            timeout=5.0,
        )

    def rules_for_public_addresses(self) -> FederationRules:
        """Return rules that allow this server's port and scheme, but not its address."""
        return FederationRules(allow_insecure=self._tls is None, ports=(self.port,))

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request.path)
        self.headers.append(dict(request.headers))
        return await self._handler(request)


async def accept(request: web.Request) -> web.StreamResponse:
    """Accept a WebSocket, and echo each message until the client closes."""
    response = web.WebSocketResponse(max_msg_size=0)
    response.headers["X-Spreed-Signaling-Features"] = "a, federation"
    await response.prepare(request)
    async for frame in response:
        await response.send_str(frame.data)
    return response


class ScriptedResolver(CheckedResolver):
    """Resolver that answers each look-up with the next of the given answers."""

    def __init__(self, rules: FederationRules, answers: Iterator[tuple[str, ...]]) -> None:
        super().__init__(rules)
        self._answers = answers
        self.look_ups = 0

    async def _look_up(self, host: str, port: int) -> list[tuple[int, str]]:
        self.look_ups += 1
        return [(10 if ":" in address else 2, address) for address in next(self._answers)]
