"""Long polling (docs/protocol.md, "Long polling")."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from msgspec import Raw

from gateway.core.limits import Limits
from gateway.edge.clients.polling import MAX_BODY, MAX_MESSAGES, MAX_POSTS, SECRET_HEADER, PollingEndpoint
from gateway.edge.clients.polling_connection import FETCH_TIME, SILENCE, PollingConnection
from gateway.edge.http.address import TrustedProxies
from gateway.tools.poll_client import PollClient
from tests.gateway.edge.serving import served_routes
from tests.gateway.flows.harness import CLOUD, FakeClient, FlowHarness
from tests.gateway.flows.virtual_time import VirtualLoop, settle

Json = dict[str, Any]


# -- in virtual time


@dataclass
class DirectPoller:
    """A client that calls its polling connection directly, without HTTP."""

    harness: FlowHarness
    connection: PollingConnection
    posted_count: int = 0
    received: int = 0

    async def post(self, *messages: Any) -> None:
        texts = [message if isinstance(message, str) else json.dumps(message) for message in messages]
        assert await self.connection.deliver(self.posted_count + 1, posted_texts(*texts))
        self.posted_count += len(texts)

    async def fetch(self) -> list[Json]:
        """Acknowledge all received messages and return the next messages."""
        answer = await self.fetch_answer(self.received)
        assert answer["first"] == self.received + 1
        self.received += len(answer["messages"])
        messages: list[Json] = answer["messages"]
        return messages

    async def fetch_answer(self, received: int) -> Json:
        body = await self.connection.fetch(received)
        assert body is not None
        answer: Json = json.loads(body)
        return answer

    async def hello(self, **hello: Any) -> Json:
        await self.fetch()
        auth = {"url": CLOUD.urls[0], "params": self.harness.nextcloud.ticket("poller")}
        await self.post({"type": "hello", "hello": {"version": "1.0", "auth": auth} | hello})
        (reply,) = await self.fetch()
        body: Json = reply["hello"]
        return body


def in_virtual_time(test: Callable[[FlowHarness, PollingEndpoint], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Return a test function that runs ``test`` with fake ports in virtual time."""

    def run() -> None:
        async def body() -> None:
            async with FlowHarness(mcu=False) as harness:
                await test(harness, PollingEndpoint(harness.dispatch, harness.counters, TrustedProxies(())))

        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(body())

    return run


def posted_texts(*texts: str) -> list[Raw]:
    """Encode texts as members of a request's ``messages``."""
    return [Raw(json.dumps(text).encode()) for text in texts]


def poller_for(harness: FlowHarness, endpoint: PollingEndpoint) -> DirectPoller:
    return DirectPoller(harness, endpoint.connect(ip_address("192.0.2.9"), "poller/1.0"))


def send_to(client: FakeClient, to: str, data: Any) -> None:
    client.send_message({"type": "session", "sessionid": to}, data)


@in_virtual_time
async def test_fetch_waits_for_a_message(harness: FlowHarness, endpoint: PollingEndpoint) -> None:
    poller, bob = poller_for(harness, endpoint), await harness.hello("bob")
    session = (await poller.hello())["sessionid"]
    fetch = asyncio.create_task(poller.fetch())
    await asyncio.sleep(20)
    assert not fetch.done()
    send_to(bob, session, {"n": 1})
    (message,) = await fetch
    assert message["message"]["data"] == {"n": 1}


@in_virtual_time
async def test_fetch_without_messages_is_answered_after_25_seconds(
    harness: FlowHarness, endpoint: PollingEndpoint
) -> None:
    poller = poller_for(harness, endpoint)
    await poller.hello()
    started = asyncio.get_running_loop().time()
    assert await poller.fetch() == []
    assert asyncio.get_running_loop().time() - started == pytest.approx(FETCH_TIME)


@in_virtual_time
async def test_answer_is_repeated_until_it_is_acknowledged(harness: FlowHarness, endpoint: PollingEndpoint) -> None:
    poller, bob = poller_for(harness, endpoint), await harness.hello("bob")
    session = (await poller.hello())["sessionid"]
    send_to(bob, session, 1)
    first = await poller.fetch_answer(poller.received)
    send_to(bob, session, 2)
    again = await poller.fetch_answer(poller.received)
    assert [message["message"]["data"] for message in first["messages"]] == [1]
    assert [message["message"]["data"] for message in again["messages"]] == [1, 2]
    assert first["first"] == again["first"]
    assert harness.hub.sessions[session].outbox.size > 0
    assert await poller.connection.fetch(poller.received + 3) is None
    await asyncio.wait_for(poller.fetch_answer(poller.received + 2), 30)
    assert harness.hub.sessions[session].outbox.size == 0
    assert await poller.connection.fetch(poller.received) is None


@in_virtual_time
async def test_second_fetch_replaces_the_first(harness: FlowHarness, endpoint: PollingEndpoint) -> None:
    poller, bob = poller_for(harness, endpoint), await harness.hello("bob")
    session = (await poller.hello())["sessionid"]
    first = asyncio.create_task(poller.fetch_answer(poller.received))
    await settle()
    second = asyncio.create_task(poller.fetch_answer(poller.received))
    await settle()
    assert first.done()
    assert not second.done()
    send_to(bob, session, 1)
    assert (await first)["messages"] == []
    assert len((await second)["messages"]) == 1


@in_virtual_time
async def test_repeated_messages_are_skipped_and_a_gap_is_refused(
    harness: FlowHarness, endpoint: PollingEndpoint
) -> None:
    poller, bob = poller_for(harness, endpoint), await harness.hello("bob")
    await poller.hello()
    texts = [
        json.dumps({"type": "message", "message": {"recipient": {"type": "user", "userid": "bob"}, "data": number}})
        for number in range(3)
    ]
    first = poller.posted_count + 1
    assert await poller.connection.deliver(first, posted_texts(*texts[:2]))
    assert await poller.connection.deliver(first, posted_texts(*texts))
    assert not await poller.connection.deliver(first + 4, posted_texts(*texts))
    assert [message["message"]["data"] for message in bob.received()] == [0, 1, 2]
    assert poller.connection.accepted == first + 2


@in_virtual_time
async def test_connection_is_lost_after_60_seconds_without_a_fetch(
    harness: FlowHarness, endpoint: PollingEndpoint
) -> None:
    poller = poller_for(harness, endpoint)
    session = (await poller.hello())["sessionid"]
    await asyncio.sleep(SILENCE - 1)
    await poller.fetch()
    await asyncio.sleep(SILENCE - 1)
    assert harness.hub.sessions[session].connection is not None
    await asyncio.sleep(2)
    assert harness.hub.sessions[session].connection is None
    assert len(endpoint) == 0
    await harness.sweep(31)
    assert session not in harness.hub.sessions


@in_virtual_time
async def test_session_is_resumed_on_a_websocket_and_back_by_polling(
    harness: FlowHarness, endpoint: PollingEndpoint
) -> None:
    poller, bob = poller_for(harness, endpoint), await harness.hello("bob")
    hello = await poller.hello()
    session, resumeid = hello["sessionid"], hello["resumeid"]
    socket = harness.connect()
    socket.received()
    fetch = asyncio.create_task(poller.fetch_answer(poller.received))
    await settle()
    socket.send({"type": "hello", "hello": {"version": "1.0", "resumeid": resumeid}})
    assert [message["bye"]["reason"] for message in (await fetch)["messages"]] == ["session_resumed"]
    poller.received += 1
    assert (await poller.fetch_answer(poller.received))["closed"] == 1000
    send_to(bob, session, 1)
    assert [message["type"] for message in socket.received()] == ["hello", "message"]
    socket.disconnect()
    send_to(bob, session, 2)
    back = poller_for(harness, endpoint)
    await back.fetch()
    await back.post({"type": "hello", "hello": {"version": "1.0", "resumeid": resumeid}})
    resumed, message = await back.fetch()
    assert resumed["hello"]["sessionid"] == session
    assert message["message"]["data"] == 2


@in_virtual_time
async def test_unacknowledged_messages_are_sent_after_a_resume_on_another_connection(
    harness: FlowHarness, endpoint: PollingEndpoint
) -> None:
    poller, bob = poller_for(harness, endpoint), await harness.hello("bob")
    hello = await poller.hello()
    send_to(bob, hello["sessionid"], 1)
    await poller.fetch_answer(poller.received)  # the answer is lost, and the client resumes elsewhere
    poller.connection.lose()
    socket = harness.connect()
    socket.send({"type": "hello", "hello": {"version": "1.0", "resumeid": hello["resumeid"]}})
    assert socket.received()[-1]["message"]["data"] == 1


@in_virtual_time
async def test_close_can_acknowledge_the_last_messages(harness: FlowHarness, endpoint: PollingEndpoint) -> None:
    poller, bob = poller_for(harness, endpoint), await harness.hello("bob")
    hello = await poller.hello()
    send_to(bob, hello["sessionid"], 1)
    answer = await poller.fetch_answer(poller.received)
    assert poller.connection.acknowledge(poller.received + len(answer["messages"]))
    poller.connection.lose()
    socket = harness.connect()
    socket.send({"type": "hello", "hello": {"version": "1.0", "resumeid": hello["resumeid"]}})
    assert socket.received()[-1]["type"] == "hello"


@in_virtual_time
async def test_bye_closes_the_connection(harness: FlowHarness, endpoint: PollingEndpoint) -> None:
    poller = poller_for(harness, endpoint)
    await poller.hello()
    await poller.post({"id": "x", "type": "bye"})
    assert await poller.fetch() == [{"type": "bye", "id": "x"}]
    answer = await poller.fetch_answer(poller.received)
    assert (answer["messages"], answer["closed"]) == ([], 1000)
    assert len(endpoint) == 0


async def test_last_answer_of_an_ended_connection_is_repeated() -> None:
    async with polling_server() as (url, harness), PollClient(url) as client:
        await client.receive()
        auth = {"url": CLOUD.urls[0], "params": harness.nextcloud.ticket("alice")}
        client.send({"type": "hello", "hello": {"version": "1.0", "auth": auth}})
        client.send({"type": "bye"})
        assert await client.wait_closed() == 1000
        assert (await client.request({"received": 3}))[1]["closed"] == 1000
        assert (await client.request({"messages": ["x"], "first": 3}))[0] == 404


@in_virtual_time
async def test_message_over_64_kib_ends_the_connection_and_not_the_session(
    harness: FlowHarness, endpoint: PollingEndpoint
) -> None:
    poller = poller_for(harness, endpoint)
    session = (await poller.hello())["sessionid"]
    await poller.post("x" * 65_536)
    assert (await poller.fetch())[0]["error"]["code"] == "invalid_format"
    await poller.post("x" * 65_537, "{")
    assert (await poller.fetch_answer(poller.received))["closed"] == 1009
    assert harness.hub.sessions[session].connection is None


@in_virtual_time
async def test_post_is_refused_while_the_most_posts_wait(harness: FlowHarness, endpoint: PollingEndpoint) -> None:
    poller = poller_for(harness, endpoint)
    await poller.hello()
    harness.nextcloud.gate = asyncio.Event()
    join = json.dumps({"type": "room", "room": {"roomid": "r"}})
    first = poller.posted_count + 1
    posts = [asyncio.create_task(poller.connection.deliver(first, posted_texts(join) * 100)) for _ in range(MAX_POSTS)]
    await settle()
    assert poller.connection.posts == MAX_POSTS
    refused = await endpoint._post(poller.connection, first, posted_texts("{"))
    assert refused is not None
    assert refused.status == 429
    harness.nextcloud.gate.set()
    assert await asyncio.gather(*posts) == [True] * MAX_POSTS
    assert poller.connection.posts == 0
    await settle()


@in_virtual_time
async def test_post_waits_while_the_connection_is_paused(harness: FlowHarness, endpoint: PollingEndpoint) -> None:
    poller = poller_for(harness, endpoint)
    await poller.hello()
    harness.nextcloud.gate = asyncio.Event()
    join = {"type": "room", "room": {"roomid": "r"}}
    posting = asyncio.create_task(
        poller.connection.deliver(poller.posted_count + 1, posted_texts(json.dumps(join)) * 100)
    )
    await settle()
    accepted = poller.connection.accepted
    assert accepted < 100
    assert not posting.done()
    harness.nextcloud.gate.set()
    assert await posting
    assert poller.connection.accepted == poller.posted_count + 100
    await settle()


@in_virtual_time
async def test_rate_limit_and_throttling_apply_to_polling(harness: FlowHarness, endpoint: PollingEndpoint) -> None:
    harness.change_settings(limits=Limits(messages_per_second=5, messages_burst=10))
    poller = poller_for(harness, endpoint)
    await poller.fetch()
    await poller.post(*["{"] * 15)
    assert [message["error"]["code"] for message in await poller.fetch()] == ["invalid_format"] * 10 + [
        "too_many_requests"
    ]
    assert (await poller.fetch_answer(poller.received))["closed"] == 1000
    victim = await harness.hello("victim")
    attacker = poller_for(harness, endpoint)
    await attacker.fetch()
    await attacker.post({"type": "hello", "hello": {"version": "1.0", "resumeid": victim.resumeid + "x"}})
    assert [message["error"]["code"] for message in await attacker.fetch()] == ["no_such_session"]
    assert harness.counters.throttle_delayed == {("HelloResume", 100): 1}


@in_virtual_time
async def test_connection_without_a_hello_is_closed(harness: FlowHarness, endpoint: PollingEndpoint) -> None:
    poller = poller_for(harness, endpoint)
    await poller.fetch()
    await harness.sweep(2.5)
    assert (await poller.fetch())[0]["bye"]["reason"] == "hello_timeout"
    assert (await poller.fetch_answer(poller.received))["closed"] == 1000


# -- over HTTP


@asynccontextmanager
async def polling_server(limits: Limits | None = None) -> AsyncIterator[tuple[str, FlowHarness]]:
    async with FlowHarness(mcu=False) as harness:
        harness.change_settings(limits=limits or Limits())
        endpoint = PollingEndpoint(harness.dispatch, harness.counters, TrustedProxies(()))
        routes = [web.post("/spreed/poll", endpoint.handle), web.options("/spreed/poll", endpoint.preflight)]
        async with served_routes(routes) as (host, port):
            try:
                yield f"http://{host}:{port}", harness
            finally:
                endpoint.close()


async def status_of(url: str, body: bytes, secret: str | None) -> int:
    headers = {} if secret is None else {SECRET_HEADER: secret}
    async with aiohttp.ClientSession() as http, http.post(url + "/spreed/poll", data=body, headers=headers) as response:
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        return response.status


async def test_secret_is_required_and_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        async with polling_server() as (url, _), PollClient(url) as client:
            assert (await client.receive())["type"] == "welcome"
            secret = client._secret
            assert len(secret) >= 43
            assert await status_of(url, b"{}", secret) == 200
            assert await status_of(url, b"{}", "guessed") == 404
            assert await status_of(url, b"{}", "") == 404
    assert secret not in caplog.text


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"messages":7}', b'{"received":-1}', b'{"first":0}', b"[" * 9999])
async def test_malformed_poll_request_is_refused(body: bytes) -> None:
    async with polling_server() as (url, _), PollClient(url) as client:
        assert await status_of(url, body, client._secret) == 400


async def test_body_is_limited() -> None:
    async with polling_server() as (url, _), PollClient(url) as client:
        assert await status_of(url, b" " * (MAX_BODY + 1), client._secret) == 413
        assert await status_of(url, b"{}".ljust(MAX_BODY), client._secret) == 200


async def test_number_of_messages_is_limited() -> None:
    async with polling_server() as (url, _), PollClient(url) as client:
        for count, status in ((MAX_MESSAGES + 1, 400), (MAX_MESSAGES, 200)):
            body = json.dumps({"first": 1, "messages": ["x"] * count}).encode()
            assert await status_of(url, body, client._secret) == status


async def test_message_number_that_was_never_reached_is_refused() -> None:
    async with polling_server() as (url, _), PollClient(url) as client:
        assert await status_of(url, b'{"received":7}', client._secret) == 409
        assert await status_of(url, b'{"first":7,"messages":[]}', client._secret) == 409


async def test_connections_of_one_address_are_limited() -> None:
    async with polling_server(Limits(connections_per_address=1)) as (url, _), PollClient(url):
        assert await status_of(url, b"", None) == 429


async def test_preflight_allows_other_origins() -> None:
    async with (
        polling_server() as (url, _),
        aiohttp.ClientSession() as http,
        http.options(url + "/spreed/poll") as response,
    ):
        assert response.status == 204
        assert SECRET_HEADER in response.headers["Access-Control-Allow-Headers"]


async def test_message_that_is_not_a_text_is_answered_with_invalid_format() -> None:
    async with polling_server() as (url, _), PollClient(url) as client:
        await client.receive()
        for value in (7, None, dict[str, Any](), list[Any]()):
            client.send_raw(value)
            assert (await client.receive())["error"]["code"] == "invalid_format"


async def test_octets_of_a_message_that_is_not_a_text_count() -> None:
    async with polling_server() as (url, harness):
        harness.change_settings(limits=Limits(bytes_before_hello=1000))
        async with PollClient(url) as client:
            await client.receive()
            for code in ("invalid_format", "too_many_requests"):
                client.send_raw({"text": "x" * 600})
                assert (await client.receive())["error"]["code"] == code
        assert harness.counters.limits_met["bytes_before_hello"] == 1
        assert harness.counters.bytes_in > 1200


async def test_session_stays_after_its_connection_is_closed() -> None:
    async with polling_server() as (url, harness), PollClient(url) as client:
        await client.receive()
        auth = {"url": CLOUD.urls[0], "params": harness.nextcloud.ticket("alice")}
        client.send({"type": "hello", "hello": {"version": "1.0", "auth": auth}})
        session = (await client.receive())["hello"]["sessionid"]
        await client.close()
        assert harness.hub.sessions[session].connection is None
