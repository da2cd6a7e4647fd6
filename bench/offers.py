"""The time from an offer to its answer through a server and a real Janus, beside the same on Janus' own API."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import aiohttp

from bench.hellos import hello
from bench.publish_descriptions import FIXTURES
from bench.report import FLOOR, NO_TARGETS, Row, Targets
from bench.runner import Bench
from bench.servers import RunningServer, open_janus
from mcu.base import PublishOptions
from mcu.janus.rooms import videoroom

RATE = 20.0  # offers a second
SECONDS = 5.0  # of each server in a round
ANSWER_TIMEOUT = 20.0  # seconds
PERCENTILES = ((50, "median", NO_TARGETS), (95, "95th percentile", Targets(floor=1.1)))

Publish = Callable[[], Awaitable[None]]


def measure(bench: Bench) -> list[Row]:
    """Measure the time that a server adds to Janus' own, at a stated rate; each offer is a new publication."""
    count = max(2, int(RATE * min(SECONDS, SECONDS * bench.scale * 4)))
    load = f"{RATE:g} a second, {count} in a round"
    added = Row("offer to answer, added to Janus alone, median", load, "ms", Targets(value=3.0))
    rows = [Row(f"offer to answer, {name}", f"{load}; floor: Janus alone", "ms", it) for _, name, it in PERCENTILES]
    with open_janus() as janus, replace(bench.site, janus=janus).run_all() as servers:
        for number in range(bench.rounds + 1):
            direct = asyncio.run(_latencies(lambda: _on_janus(janus, count)))
            times = {FLOOR: direct}
            for server in servers:
                times[server.name] = asyncio.run(_latencies(lambda server=server: _on_server(bench, server, count)))  # type: ignore[misc]
            if not number:
                continue
            for name, found in times.items():
                for row, (percent, _, _) in zip(rows, PERCENTILES, strict=True):
                    row.figures.setdefault(name, []).append(_percentile(found, percent))
                if found is not direct:
                    added.figures.setdefault(name, []).append(_percentile(found, 50) - _percentile(direct, 50))
    return [added, *rows]


async def _latencies(
    open_publications: Callable[[], contextlib.AbstractAsyncContextManager[list[Publish]]],
) -> list[float]:
    """Publish at ``RATE``; return the time from each planned offer to its answer, in milliseconds."""
    async with open_publications() as publishes:
        begun = time.monotonic()

        async def one(planned: float, publish: Publish) -> float:
            await asyncio.sleep(planned - time.monotonic())
            async with asyncio.timeout(ANSWER_TIMEOUT):
                await publish()
            return (time.monotonic() - planned) * 1000

        planned = (begun + number / RATE for number in range(len(publishes)))
        return await asyncio.gather(*(one(at, publish) for at, publish in zip(planned, publishes, strict=True)))


def _percentile(times: list[float], percent: int) -> float:
    return sorted(times)[min(len(times) - 1, len(times) * percent // 100)]


@contextlib.asynccontextmanager
async def _on_server(bench: Bench, server: RunningServer, count: int) -> AsyncIterator[list[Publish]]:
    """Open a session on a server for each publication; the sessions end with the block."""
    offer = (FIXTURES / "chromium" / "camera.offer.sdp").read_text()
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client,
        contextlib.AsyncExitStack() as stack,
    ):
        publishes: list[Publish] = []
        for number in range(count):
            socket = await stack.enter_async_context(client.ws_connect(f"http://127.0.0.1:{server.port}/spreed"))
            await socket.send_json(hello(bench, "plain", f"user{number:05d}"))
            session = (await _receive(socket, "hello"))["hello"]["sessionid"]
            publishes.append(_publish_function(socket, session, offer))
            stack.push_async_callback(_say_bye, socket)
        yield publishes


def _publish_function(socket: aiohttp.ClientWebSocketResponse, session: str, offer: str) -> Publish:
    async def publish() -> None:
        payload = {"type": "offer", "sdp": offer}
        data = {"to": session, "sid": "1", "roomType": "video", "type": "offer", "payload": payload}
        recipient = {"type": "session", "sessionid": session}
        await socket.send_json({"type": "message", "message": {"recipient": recipient, "data": data}})
        answer = await _receive(socket, "message")
        if answer["message"]["data"]["type"] != "answer":
            raise RuntimeError(f"no answer: {answer!r:.200}")

    return publish


async def _say_bye(socket: aiohttp.ClientWebSocketResponse) -> None:
    await socket.send_json({"type": "bye", "bye": {}})
    await _receive(socket, "bye")


async def _receive(socket: aiohttp.ClientWebSocketResponse, message_type: str) -> Any:
    while True:
        message = await socket.receive_json(timeout=ANSWER_TIMEOUT)
        if message["type"] == message_type:
            return message
        if message["type"] == "error":
            raise RuntimeError(f"the server refused: {message!r:.300}")


@contextlib.asynccontextmanager
async def _on_janus(url: str, count: int) -> AsyncIterator[list[Publish]]:
    """Open one Janus session, on which each publication attaches a handle, creates its room, joins and negotiates."""
    offer = (FIXTURES / "chromium" / "camera.offer.sdp").read_text()
    async with aiohttp.ClientSession() as client, client.ws_connect(url, protocols=["janus-protocol"]) as socket:
        janus = JanusRequests(socket)
        reader = asyncio.create_task(janus.read())
        session = (await janus.request(janus="create"))["data"]["id"]

        async def publish() -> None:
            attached = await janus.request(janus="attach", session_id=session, plugin="janus.plugin.videoroom")
            handle = {"janus": "message", "session_id": session, "handle_id": attached["data"]["id"]}
            room = secrets.randbits(52) + 1
            await janus.request(**handle, body=videoroom.create(room, "bench", PublishOptions(), ""))
            await janus.request(**handle, body=videoroom.join_publisher(room, 1))
            jsep = {"type": "offer", "sdp": offer}
            answer = await janus.request(**handle, body=videoroom.configure_publisher(), jsep=jsep)
            if "jsep" not in answer:
                raise RuntimeError(f"Janus gave no answer: {answer!r:.200}")

        yield [publish] * count
        await janus.request(janus="destroy", session_id=session)
        reader.cancel()


class JanusRequests:
    """Requests on one WebSocket of Janus, any number at a time."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._waiting: dict[str, asyncio.Future[Any]] = {}

    async def request(self, **request: Any) -> Any:
        """Send a request and return its answer."""
        transaction = secrets.token_hex(8)
        answer = self._waiting[transaction] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({**request, "transaction": transaction})
        async with asyncio.timeout(ANSWER_TIMEOUT):
            return await answer

    async def read(self) -> None:
        """Hand the answers to the requests, until cancelled."""
        async for message in self._socket:
            answer = json.loads(message.data)
            if answer["janus"] != "ack" and (waiting := self._waiting.pop(answer.get("transaction", ""), None)):
                waiting.set_result(answer)
