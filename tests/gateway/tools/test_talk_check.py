"""Talk's check of a signaling server, of a process of ``portunus serve`` and of servers with faults."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from gateway.tools import talk_check
from gateway.tools.fake_nextcloud import FakeNextcloud
from gateway.tools.talk_check import REQUIRED_FEATURES, UpdateRequired, check_server
from gateway.version import SERVER_VERSION
from tests.gateway.served import served_gateway


async def test_talk_accepts_a_served_gateway(tmp_path: Path) -> None:
    async with FakeNextcloud() as cloud, served_gateway(tmp_path, cloud) as url:
        check = await check_server(url)
        assert check.version == SERVER_VERSION
        assert check.missing_required_features == frozenset()
        assert check.missing_wanted_features == frozenset()
        assert check.clock_agrees
        cloud.gateway = url
        await cloud.talk.send_message("r", {"type": "chat", "chat": {"refresh": True}})


@pytest.mark.parametrize(("ahead", "agrees"), [(0, True), (40, True), (-40, True), (60, False), (-60, False)])
async def test_clocks_may_differ_by_45_seconds(ahead: float, agrees: bool) -> None:
    async with welcome_server({"version": "1"}) as url:
        assert (await check_server(url, now=time.time() - ahead)).clock_agrees is agrees


async def test_server_without_the_features_is_refused() -> None:
    async with welcome_server({"version": "1"}) as url:
        check = await check_server(url)
        assert check.missing_required_features == REQUIRED_FEATURES
        assert check.missing_wanted_features == {"dialout", "join-features", "chat-relay", "changed-users"}


@pytest.mark.parametrize("welcome", [{}, {"version": ""}, {"version": 1}, [], None])
async def test_welcome_without_a_version_is_an_error(welcome: object) -> None:
    async with welcome_server(welcome) as url:
        with pytest.raises(ValueError, match="version"):
            await check_server(url)


async def test_server_that_answers_with_an_error_status_is_an_error() -> None:
    async with welcome_server({"version": "1"}, status=502) as url:
        with pytest.raises(aiohttp.ClientResponseError):
            await check_server(url)


def test_answer_is_accepted_with_all_required_features() -> None:
    talk_check.require_features({talk_check.FEATURES_HEADER: ", ".join(REQUIRED_FEATURES)})
    with pytest.raises(UpdateRequired, match=r"lacks hello-v2, switchto$"):
        talk_check.require_features(
            {talk_check.FEATURES_HEADER: ",".join(REQUIRED_FEATURES - {"hello-v2", "switchto"})}
        )


@asynccontextmanager
async def welcome_server(welcome: object, status: int = 200) -> AsyncIterator[str]:
    """Serve a document as the welcome of a signaling server; yield the URL."""

    async def answer(request: web.Request) -> web.Response:
        return web.json_response(welcome, status=status)

    app = web.Application()
    app.router.add_get("/api/v1/welcome", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
