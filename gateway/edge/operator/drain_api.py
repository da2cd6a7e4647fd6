"""The drain on the admin socket: ``POST /drain?deadline=S`` begins it, ``DELETE`` cancels it, ``GET`` reports it.

Source: docs/operations.md, "Draining". ``deadline`` is in seconds, by default ``drain.deadline``. Each answers with a
``DrainReport``; errors are ``{"error": …}``, one sentence.
"""

from __future__ import annotations

from math import isfinite

import msgspec
from aiohttp import web

from gateway.core.drain import client_sessions, sessions_in_calls
from gateway.edge.http.json_answer import answer, refusal
from gateway.flows.draining import Draining, NotDraining
from gateway.flows.services import Services


class DrainReport(msgspec.Struct, frozen=True):
    """The state of the drain, and the sessions of the gateway."""

    draining: bool
    awaited: str  # "calls" or "sessions": a value of ``AwaitedSessions``; meaningless unless ``draining``
    seconds_left: float | None  # None: no deadline
    refused: int  # hellos refused since the beginning of the drain
    sessions: int  # without internal clients
    in_calls: int  # virtual sessions included


def drain_report(services: Services) -> DrainReport:
    """Return the present state of the drain."""
    drain, hub = services.drain, services.hub
    return DrainReport(
        drain.active,
        drain.awaited.value,
        drain.seconds_left(services.clock()),
        drain.refused,
        client_sessions(hub),
        sessions_in_calls(hub),
    )


class DrainApi:
    """Serves the requests."""

    def __init__(self, services: Services, draining: Draining) -> None:
        self._services = services
        self._draining = draining

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/drain", self._report, allow_head=False),
            web.post("/drain", self._begin),
            web.delete("/drain", self._cancel),
        ]

    async def _report(self, request: web.Request) -> web.Response:
        return answer(200, drain_report(self._services))

    async def _begin(self, request: web.Request) -> web.Response:
        text = request.query.get("deadline", "")
        try:
            seconds = float(text) if text else self._services.settings.drain_deadline
        except ValueError:
            seconds = -1.0
        if not isfinite(seconds) or seconds < 0.0:
            return refusal(400, "the parameter deadline is no number of seconds")
        self._draining.begin(seconds)
        return await self._report(request)

    async def _cancel(self, request: web.Request) -> web.Response:
        try:
            self._draining.cancel()
        except NotDraining as error:
            return refusal(409, str(error))
        return await self._report(request)
