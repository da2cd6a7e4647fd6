"""Floods of long-polling requests: bounded in memory, no other client is delayed (docs/protocol.md, "Long polling")."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from gateway.edge.clients.polling import MAX_BODY, MAX_MESSAGES, MAX_POSTS, SECRET_HEADER
from gateway.tools.fake_nextcloud import FakeNextcloud, RecordedRequest
from gateway.tools.talk_client import Json
from tests.abuse.scene import PATIENCE, Scene, running

pytestmark = pytest.mark.full

DURATION = 3.0  # seconds of an attack
CONNECTIONS = 30  # with posts that wait
FETCHES = 300  # fetches that stay open: of one connection, and of as many connections
STRANGERS = 100
STALLED = 100  # bodies that stay incomplete
OBJECTS = [b"{}"] * ((MAX_BODY - 10_000) // 3)  # many times their size as Python objects
TEXTS = ['"😀234567890123456789012345678901234"'.encode()] * (MAX_MESSAGES - 100)  # four bytes for each character


class UnresponsiveNextcloud(FakeNextcloud):
    """A Nextcloud that does not answer hellos of mallory until ``resumed`` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.resumed = asyncio.Event()

    async def _record(self, request: RecordedRequest) -> Json | web.StreamResponse | None:
        if request.body.get("params", {}).get("userid") == "mallory":
            await self.resumed.wait()
        return await super()._record(request)


async def test_floods_of_long_polling_are_bounded_in_memory_and_delay_no_other_client(tmp_path: Path) -> None:
    cloud = UnresponsiveNextcloud()
    connector = aiohttp.TCPConnector(limit=0)
    async with running(tmp_path, cloud=cloud) as scene, aiohttp.ClientSession(connector=connector) as http:
        async with scene.undisturbed(memory=128 << 20), asyncio.timeout(5 * PATIENCE):
            await asyncio.gather(*(keep_posts_waiting(scene, http, junk) for junk in (OBJECTS, TEXTS)))
            await keep_fetches_open(scene, http)
            await guess_secrets(scene, http)
            await send_incomplete_bodies(scene, http)
        cloud.resumed.set()


async def open_polling_connection(scene: Scene, http: aiohttp.ClientSession) -> str:
    """Open a long-polling connection and return its secret."""
    async with http.post(scene.url + "/spreed/poll") as answer:
        secret = (await answer.json())["secret"]
    assert isinstance(secret, str)
    return secret


async def status_of(scene: Scene, http: aiohttp.ClientSession, secret: str, body: bytes) -> int:
    """Return the status of the answer to a request of a connection; 0: there is none."""
    with contextlib.suppress(aiohttp.ClientError):
        async with http.post(scene.url + "/spreed/poll", data=body, headers={SECRET_HEADER: secret}) as answer:
            await answer.read()
            return answer.status
    return 0


def post(messages: list[bytes]) -> bytes:
    """Return the body of a request that posts these messages, which are JSON."""
    body = b'{"first":1,"messages":[' + b",".join(messages) + b"]}"
    assert len(body) <= MAX_BODY
    return body


async def keep_posts_waiting(scene: Scene, http: aiohttp.ClientSession, junk: list[bytes]) -> None:
    """Let posts full of junk wait for ``DURATION`` behind a hello that Nextcloud does not answer."""

    async def attack() -> None:
        auth = {"url": scene.cloud.url, "params": scene.cloud.ticket("mallory")}
        hello = json.dumps({"type": "hello", "hello": {"version": "1.0", "auth": auth}})
        secret = await open_polling_connection(scene, http)
        body = post([json.dumps(hello).encode(), *[b'"x"'] * 70, *junk])  # 64 waiting messages pause the connection
        posts = [asyncio.create_task(status_of(scene, http, secret, body)) for _ in range(MAX_POSTS)]
        await asyncio.wait(posts, timeout=DURATION)
        for task in posts:
            task.cancel()

    await asyncio.gather(*(attack() for _ in range(CONNECTIONS)))


async def keep_fetches_open(scene: Scene, http: aiohttp.ClientSession) -> None:
    """Leave fetches open: a newer one of a connection replaces the one before it."""
    secrets = [await open_polling_connection(scene, http) for _ in range(FETCHES)]
    await asyncio.gather(*(status_of(scene, http, secret, b'{"received":0}') for secret in secrets))  # the welcome
    waiting = [asyncio.create_task(status_of(scene, http, secret, b'{"received":1}')) for secret in secrets]
    replaced = [asyncio.create_task(status_of(scene, http, secrets[0], b'{"received":1}')) for _ in secrets]
    for answered in asyncio.as_completed(replaced):
        assert await answered == 200
        if sum(task.done() for task in replaced) >= FETCHES - 1:  # all but the newest one
            break
    for task in (*waiting, *replaced):
        task.cancel()
    await asyncio.gather(*waiting, *replaced, return_exceptions=True)


async def guess_secrets(scene: Scene, http: aiohttp.ClientSession) -> None:
    """Send requests of connections that do not exist: their bodies are not read."""
    body = post(OBJECTS)
    answers = await asyncio.gather(*(status_of(scene, http, f"guessed {n}", body) for n in range(STRANGERS)))
    assert set(answers) <= {0, 404}


async def send_incomplete_bodies(scene: Scene, http: aiohttp.ClientSession) -> None:
    """Announce long bodies with the right secret, and leave them incomplete, which makes the connection unusable."""
    secret = await open_polling_connection(scene, http)
    head = f"POST /spreed/poll HTTP/1.1\r\nHost: h\r\n{SECRET_HEADER}: {secret}\r\nContent-Length: {MAX_BODY}\r\n\r\n"
    writers = []
    for _ in range(STALLED):
        _, writer = await asyncio.open_connection(*scene.address)
        writer.write(head.encode() + b" " * (MAX_BODY - 1))
        writers.append(writer)
    for writer in writers:
        with contextlib.suppress(ConnectionError):
            await writer.drain()
    await asyncio.gather(*(scene.healthy() for _ in range(10)))
    for writer in writers:
        writer.transport.abort()
