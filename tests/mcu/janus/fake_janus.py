"""A server with Janus' protocol, for behaviour that a real Janus cannot be made to show."""

from __future__ import annotations

import asyncio
import json
from types import TracebackType
from typing import Any

from aiohttp import web

from mcu.janus.connection.messages import PLUGIN
from tests.mcu.janus.conftest import WAIT

OFFER = "v=0\r\na=ice-ufrag:u\r\na=fingerprint:sha-256 AA\r\n"


class FakeJanus:
    """A server that answers info, create, attach, detach and keepalive as Janus does.

    ``answers`` replaces answers by request, or by request to the plugin; ``None``: the request is not answered.
    """

    def __init__(self) -> None:
        self.answers: dict[str, dict[str, Any] | None] = {}
        self.requests: list[dict[str, Any]] = []
        self.sockets: list[web.WebSocketResponse] = []
        self._ids = iter(range(100, 1000))
        self._changed = asyncio.Event()

    async def __aenter__(self) -> FakeJanus:
        app = web.Application()
        app.router.add_get("/", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"ws://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def until(self, name: str, count: int = 1) -> dict[str, Any]:
        """Wait until a request to Janus or to the plugin was received ``count`` times, and return the last one."""
        async with asyncio.timeout(WAIT):
            while len(found := self.received(name)) < count:
                self._changed.clear()
                await self._changed.wait()
        return found[-1]

    def received(self, name: str) -> list[dict[str, Any]]:
        """Return the requests to Janus or to the plugin with this name."""
        return [
            request for request in self.requests if name in (request["janus"], request.get("body", {}).get("request"))
        ]

    async def reply(self, name: str, answer: dict[str, Any]) -> None:
        """Answer the last request with this name, once there is one, over the last connection."""
        await self.sockets[-1].send_json({**answer, "transaction": (await self.until(name))["transaction"]})

    async def send(self, text: str) -> None:
        """Send a message over the last connection."""
        await self.sockets[-1].send_str(text)

    async def _serve(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=["janus-protocol"])
        await socket.prepare(request)
        self.sockets.append(socket)
        async for frame in socket:
            received = json.loads(frame.data)
            self.requests.append(received)
            self._changed.set()
            await self.answer(socket, received)
        return socket

    async def answer(self, socket: web.WebSocketResponse, received: dict[str, Any]) -> None:
        """Answer a request as ``answers`` says, or as Janus does."""
        of_janus = self.answers.get(received["janus"], self._default_answer(received["janus"]))
        answer = self.answers.get(received.get("body", {}).get("request"), of_janus)
        if answer is not None:
            await socket.send_json({**answer, "transaction": received["transaction"]})

    def _default_answer(self, janus: str) -> dict[str, Any] | None:
        if janus == "info":
            return {"janus": "server_info", "data_channels": True, "plugins": {PLUGIN: {}}, "version_string": "9.9"}
        if janus == "keepalive":
            return {"janus": "ack"}
        if janus == "message":
            return {"janus": "success", "plugindata": {"plugin": PLUGIN, "data": {"videoroom": "success", "list": []}}}
        return {"janus": "success", "data": {"id": next(self._ids)}}
