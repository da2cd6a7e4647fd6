"""Acknowledged delivery of the Talk client: new sessions, order after a resume, servers without the feature."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from gateway.app import Gateway
from gateway.config import Config, HttpSection, SessionsSection
from gateway.tools.fake_nextcloud import FakeNextcloud
from gateway.tools.talk_client import TalkClient

SECRET = "0d3c52ab9e1748f6a7715f20c4be9d88"
WAIT_TIMEOUT = 20.0
MANY, PADDING = 300, "x" * 60_000  # 18 MB: more than the kernel buffers while the server does not read


@asynccontextmanager
async def gateway() -> AsyncIterator[tuple[str, FakeNextcloud]]:
    async with FakeNextcloud(secret=SECRET) as nextcloud:
        sessions, http = SessionsSection(secret=SECRET), HttpSection(listen=("127.0.0.1:0",))
        app = Gateway(Config(sessions=sessions, http=http, backends=(nextcloud.backend(),)))
        (url,) = await app.start()
        try:
            yield url, nextcloud
        finally:
            await app.stop()


@asynccontextmanager
async def server(script: Callable[[web.WebSocketResponse], Awaitable[None]]) -> AsyncIterator[str]:
    """Serve WebSocket connections: send a welcome message, then call ``script``."""

    async def serve(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_json({"type": "welcome", "welcome": {"features": []}})
        await script(socket)
        return socket

    app = web.Application()
    app.router.add_get("/spreed", serve)
    async with TestServer(app, host="127.0.0.1") as test_server:
        yield str(test_server.make_url("")).rstrip("/")


async def answer_hello(socket: web.WebSocketResponse, **more: Any) -> None:
    """Answer the hello of a client; ``more`` are further members."""
    request = await socket.receive_json()
    hello = {"sessionid": "s", "resumeid": "r"} | more
    await socket.send_json({"id": request["id"], "type": "hello", "hello": hello})


def numbers(client: TalkClient) -> list[int]:
    """Return the numbers in all received messages, including duplicates."""
    return [message["message"]["data"]["n"] for message in client.messages if message["type"] == "message"]


async def wait_for_number(client: TalkClient, number: int) -> None:
    await client.wait_for(lambda m: m["type"] == "message" and m["message"]["data"]["n"] == number)


async def test_second_hello_sends_nothing_of_the_previous_session() -> None:
    async with (
        asyncio.timeout(WAIT_TIMEOUT),
        gateway() as (url, nextcloud),
        TalkClient(url, nextcloud.url) as bob,
        TalkClient(url, nextcloud.url, features=("ack",)) as alice,
    ):
        await bob.hello(nextcloud.ticket("bob"))
        await alice.hello(nextcloud.ticket("alice"))
        for number in range(3):
            await alice.send_message(bob.session_id, {"n": number})
            await bob.send_message(alice.session_id, {"n": number})
        await asyncio.gather(wait_for_number(alice, 2), wait_for_number(bob, 2))

        await alice.connect()
        await alice.hello(nextcloud.ticket("alice"))
        assert alice.received == 0
        await alice.send_message(bob.session_id, {"n": 3})
        await bob.send_message(alice.session_id, {"n": 3})
        await asyncio.gather(wait_for_number(alice, 3), wait_for_number(bob, 3))

        await alice.connect()
        await alice.resume()
        await alice.send_message(bob.session_id, {"n": 4})
        await bob.send_message(alice.session_id, {"n": 4})
        await asyncio.gather(wait_for_number(alice, 4), wait_for_number(bob, 4))
        assert numbers(alice) == numbers(bob) == list(range(5))


async def test_session_resumed_elsewhere_can_be_resumed_back_without_a_gap() -> None:
    async with (
        asyncio.timeout(WAIT_TIMEOUT),
        gateway() as (url, nextcloud),
        TalkClient(url, nextcloud.url) as bob,
        TalkClient(url, nextcloud.url, features=("ack",)) as alice,
        TalkClient(url, nextcloud.url) as other,
    ):
        await bob.hello(nextcloud.ticket("bob"))
        await alice.hello(nextcloud.ticket("alice"))
        other.resume_id = alice.resume_id
        await other.resume()
        await alice.wait_closed()
        assert alice.messages[-1]["bye"] == {"reason": "session_resumed"}
        assert alice.received == 0
        await alice.connect()
        await alice.resume()
        await bob.send_message(alice.session_id, {"n": 0})
        await wait_for_number(alice, 0)
        assert alice.received == 1


async def test_messages_sent_during_a_resume_follow_the_repeated_ones() -> None:
    reading, receiving = asyncio.Event(), asyncio.Event()
    received: list[int] = []

    async def script(socket: web.WebSocketResponse) -> None:
        await answer_hello(socket, received=0)
        async for frame in socket:
            received.append(frame.json().get("n", -1))
            receiving.set()
            await reading.wait()

    async with asyncio.timeout(WAIT_TIMEOUT), server(script) as url, TalkClient(url, "", features=("ack",)) as client:
        await client.hello({})
        await client.disconnect()
        for number in range(MANY):
            await client.send(json.dumps({"type": "x", "n": number, "padding": PADDING}))
        receiving.clear()
        await client.connect()
        resuming = asyncio.create_task(client.resume())
        await receiving.wait()
        late = asyncio.create_task(client.send({"type": "x", "n": MANY}))
        await asyncio.sleep(0)  # the client is sending, and the server does not read yet
        assert not resuming.done()
        reading.set()
        await asyncio.gather(resuming, late)
        while MANY not in received:
            receiving.clear()
            await receiving.wait()
    assert [number for number in received if number >= 0] == list(range(MANY + 1))


async def test_client_works_with_a_server_without_acknowledgements() -> None:
    received: asyncio.Queue[Any] = asyncio.Queue()

    async def script(socket: web.WebSocketResponse) -> None:
        await answer_hello(socket)
        async for frame in socket:
            received.put_nowait(frame.json())

    async with asyncio.timeout(WAIT_TIMEOUT), server(script) as url, TalkClient(url, "", features=("ack",)) as client:
        await client.hello({})
        await client.send({"type": "x"})
        assert await received.get() == {"type": "x"}
        await client.connect()
        await client.resume()
        await client.send({"type": "y"})
        assert await received.get() == {"type": "y"}
