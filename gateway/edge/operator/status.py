"""The read-only HTTP endpoints: welcome, statistics, server information, metrics and health.

Source: reference 1.3, 14.4. Extensions: ``/healthz`` answers while the process runs; ``/readyz`` reports
whether calls can be served, and to addresses in ``stats.allowed`` the state of each SFU and backend, too.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from gateway.edge.http.address import Networks, TrustedProxies
from gateway.edge.operator.readiness import Readiness
from gateway.flows.refusals import Refusals
from gateway.metrics import CONTENT_TYPE

Handler = Callable[[web.Request], Awaitable[web.Response]]

_nosniff = {"X-Content-Type-Options": "nosniff"}


class Status:
    """Serves the read-only endpoints.

    Each request calls the function that makes its content: ``stats`` for ``/api/v1/stats``, ``server_info`` for
    ``/api/v1/serverinfo``, ``metrics`` for ``/metrics``, ``readiness`` for ``/readyz``.
    """

    def __init__(
        self,
        version: str,
        proxies: TrustedProxies,
        allowed: Networks,
        refusals: Refusals,
        *,
        stats: Callable[[], Mapping[str, Any]],
        metrics: Callable[[], bytes],
        server_info: Callable[[], Mapping[str, Any]],
        readiness: Callable[[], Readiness],
    ) -> None:
        self._proxies = proxies
        self._allowed = allowed
        self._refusals = refusals
        self._stats = stats
        self._metrics = metrics
        self._server_info = server_info
        self._readiness = readiness
        self._welcome = json.dumps({"nextcloud-spreed-signaling": "Welcome", "version": version}, separators=(",", ":"))

    def routes(self, prefix: str = "") -> list[web.RouteDef]:
        """Return the routes, with ``prefix`` before each path."""
        handlers: dict[str, Handler] = {
            "/api/v1/welcome": self._answer_welcome,
            "/api/v1/stats": self._restricted("/api/v1/stats", self._answer_stats),
            "/api/v1/serverinfo": self._restricted("/api/v1/serverinfo", self._answer_server_info),
            "/metrics": self._restricted("/metrics", self._answer_metrics),
            "/healthz": self._answer_health,
            "/readyz": self._answer_ready,
        }
        return [web.get(prefix + path, handler, allow_head=False) for path, handler in handlers.items()]

    async def _answer_welcome(self, request: web.Request) -> web.Response:
        return web.Response(text=self._welcome + "\n", content_type="application/json")

    async def _answer_stats(self, request: web.Request) -> web.Response:
        return _json_response(self._stats())

    async def _answer_server_info(self, request: web.Request) -> web.Response:
        return _json_response(self._server_info())

    async def _answer_metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=self._metrics(), headers={"Content-Type": CONTENT_TYPE})

    async def _answer_health(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _answer_ready(self, request: web.Request) -> web.Response:
        readiness = self._readiness()
        document = readiness.document(complete=self._is_allowed(request))
        return _json_response(document, status=200 if readiness.serving else 503)

    def _is_allowed(self, request: web.Request) -> bool:
        """Return whether the client is in ``stats.allowed``; a proxy that is not trusted hides the client's address."""
        allowed = self._proxies.real_ip(request) in self._allowed
        return allowed and not self._proxies.hides_client(request)

    def _restricted(self, path: str, handler: Handler) -> Handler:
        async def checked(request: web.Request) -> web.Response:
            if not self._is_allowed(request):
                self._refusals.statistics(path, hidden=self._proxies.hides_client(request))
                return web.Response(status=403, text="Authentication check failed\n", headers=_nosniff)
            return await handler(request)

        return checked


def _json_response(document: Mapping[str, Any], status: int = 200) -> web.Response:
    text = json.dumps(document, indent=2)
    return web.Response(status=status, text=text, content_type="application/json", headers=_nosniff)
