"""The long-polling client pauses before it repeats a request, also one that is answered at once."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest
from aiohttp import web

from gateway.tools import poll_client
from gateway.tools.poll_client import PollClient
from tests.gateway.edge.serving import served_routes

REPETITIONS = 3


class HastyGateway:
    """A server that answers requests of each type at once without effect, ``REPETITIONS`` times."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = {"open": [], "fetch": [], "post": []}
        self.posted = asyncio.Event()

    async def handle(self, request: web.Request) -> web.Response:
        body: dict[str, Any] = await request.json() if request.can_read_body else {}
        request_type = "post" if "messages" in body else "fetch" if "received" in body else "open"
        times = self.times[request_type]
        times.append(asyncio.get_running_loop().time())
        if request_type == "open":
            if len(times) <= REPETITIONS:
                assert request.transport is not None
                request.transport.abort()
            return web.json_response({"secret": "s"})
        if request_type == "post":
            if len(times) > REPETITIONS:
                self.posted.set()
            return web.json_response({"accepted": int(len(times) > REPETITIONS)})
        if len(times) <= REPETITIONS:
            return web.json_response({"accepted": 0, "messages": []})
        await self.posted.wait()
        return web.json_response({"accepted": 1, "messages": [], "closed": 1000})


async def test_client_pauses_before_each_repetition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poll_client, "PAUSE", 0.05)
    gateway = HastyGateway()
    async with (
        served_routes([web.post("/spreed/poll", gateway.handle)]) as (host, port),
        PollClient(f"http://{host}:{port}") as client,
    ):
        client.send({"type": "bye"})
        assert await client.wait_closed() == 1000
        assert client.failed == REPETITIONS
    for request_type, times in gateway.times.items():
        assert len(times) == REPETITIONS + 1, request_type
        pauses = [later - earlier for earlier, later in pairwise(times)]
        assert min(pauses) >= 0.04, (request_type, pauses)
