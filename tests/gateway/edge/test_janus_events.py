"""The endpoint for Janus' events: accepted addresses, frames for the SFU, and limits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import aiohttp
import pytest
from aiohttp import WSMsgType, web

from gateway.app import PATH_PREFIXES, Gateway
from gateway.config import Config, HttpSection, McuSection, SessionsSection
from gateway.core.limits import Limits
from gateway.edge import janus_events
from gateway.edge.http.address import TrustedProxies
from gateway.edge.janus_events import MESSAGE_LIMIT, SUBPROTOCOL, JanusEvents, event_receiver
from gateway.tools.talk_client import TalkClient
from gateway.version import SERVER_HEADER
from mcu.inprocess.settings import InprocessSettings

WAIT_TIMEOUT = 30.0
LOOPBACK = ("127.0.0.0/8",)
Headers = list[tuple[str, str]]


class FrameRecorder:
    """Receiver of event frames that records them."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self._received = asyncio.Event()

    def __call__(self, frame: bytes) -> None:
        self.frames.append(frame)
        self._received.set()

    async def wait_for(self, count: int) -> list[bytes]:
        async with asyncio.timeout(WAIT_TIMEOUT):
            while len(self.frames) < count:
                self._received.clear()
                await self._received.wait()
        return self.frames


class EventServer:
    """Event endpoint on a free port."""

    def __init__(self, events: JanusEvents, url: str, http: aiohttp.ClientSession) -> None:
        self.events = events
        self._url = url
        self._http = http

    @property
    def origin(self) -> str:
        return self._url.removesuffix("/spreed").replace("ws://", "http://")

    async def connect(self, headers: Headers | None = None) -> aiohttp.ClientWebSocketResponse:
        return await self._http.ws_connect(self._url, protocols=["x", SUBPROTOCOL], headers=headers)

    async def refusal_code(self, headers: Headers | None = None) -> int | None:
        """Connect, and return the close code of the refusal."""
        socket = await self.connect(headers)
        assert (await socket.receive(timeout=WAIT_TIMEOUT)).type is WSMsgType.CLOSE
        return socket.close_code


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as opened:
        yield opened


async def serve(
    stack: AsyncExitStack, receiver: Callable[[bytes], None] | None, trusted: tuple[str, ...] = LOOPBACK
) -> EventServer:
    events = JanusEvents(receiver, TrustedProxies(trusted), time.monotonic)
    app = web.Application()
    app.router.add_get("/spreed", events.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    stack.push_async_callback(events.close)
    http = await stack.enter_async_context(aiohttp.ClientSession())
    return EventServer(events, f"ws://127.0.0.1:{runner.addresses[0][1]}/spreed", http)


async def test_event_frames_reach_the_sfu_in_order(stack: AsyncExitStack) -> None:
    recorder = FrameRecorder()
    server = await serve(stack, recorder)
    janus = await server.connect()
    assert janus.protocol == SUBPROTOCOL
    big = "[" + " " * (MESSAGE_LIMIT - 2) + "]"
    for frame in ('{"type":256}', '["\u00e4"]', big):
        await janus.send_str(frame)
    assert await recorder.wait_for(3) == [b'{"type":256}', '["\u00e4"]'.encode(), big.encode()]


async def test_frames_of_several_janus_reach_the_sfu(stack: AsyncExitStack) -> None:
    recorder = FrameRecorder()
    server = await serve(stack, recorder)
    connections = [await server.connect() for _ in range(2)]
    for janus, name in zip(connections, ("a", "b"), strict=True):
        await janus.send_str(name)
    assert sorted(await recorder.wait_for(2)) == [b"a", b"b"]
    assert len(server.events) == 2


async def test_frames_that_arrive_together_are_processed_in_separate_iterations_of_the_event_loop(
    stack: AsyncExitStack,
) -> None:
    recorder = FrameRecorder()
    order: list[bytes] = []

    def receive(frame: bytes) -> None:
        order.append(frame)
        asyncio.get_running_loop().call_soon(order.append, b"other work")
        recorder(frame)

    server = await serve(stack, receive)
    janus = await server.connect()
    for frame in ("1", "2", "3"):
        await janus.send_str(frame)
    await recorder.wait_for(3)
    assert order[:5] == [b"1", b"other work", b"2", b"other work", b"3"]


# reference 2.1-j
async def test_event_connection_is_refused_without_an_sfu(stack: AsyncExitStack) -> None:
    server = await serve(stack, None)
    assert await server.refusal_code() == 1011


# reference 2.1-j
@pytest.mark.parametrize(
    "address", ["203.0.113.7", "100.64.0.1", "169.254.1.1", "172.32.0.1", "2001:db8::1", "fe80::1"]
)
async def test_remote_address_is_refused_also_behind_a_proxy(stack: AsyncExitStack, address: str) -> None:
    server = await serve(stack, FrameRecorder())
    assert await server.refusal_code([("X-Real-IP", address)]) == 1008
    assert await server.refusal_code([("X-Forwarded-For", address)]) == 1008


# reference 2.1-l
@pytest.mark.parametrize(
    "headers",
    [
        [("X-Real-IP", "10.0.0.1"), ("X-Forwarded-For", "203.0.113.7")],
        [("X-Real-IP", "203.0.113.7"), ("X-Real-IP", "127.0.0.1")],
        [("X-Forwarded-For", "203.0.113.7, 10.0.0.1")],
        [("X-Forwarded-For", "10.0.0.1, 203.0.113.7")],
        [("X-Forwarded-For", "unknown")],
        [("Forwarded", "for=203.0.113.7")],
    ],
)
@pytest.mark.parametrize("trusted", [LOOPBACK, ()])
async def test_forged_header_does_not_make_a_remote_client_local(
    stack: AsyncExitStack, headers: Headers, trusted: tuple[str, ...]
) -> None:
    server = await serve(stack, FrameRecorder(), trusted)
    assert await server.refusal_code(headers) == 1008
    assert len(server.events) == 0


@pytest.mark.parametrize("address", ["10.1.2.3", "172.16.0.1", "192.168.1.1", "fd00::1", "::1", "::ffff:10.0.0.1"])
async def test_janus_on_a_private_network_is_accepted(stack: AsyncExitStack, address: str) -> None:
    recorder = FrameRecorder()
    server = await serve(stack, recorder)
    janus = await server.connect([("X-Real-IP", address)])
    await janus.send_str("x")
    assert await recorder.wait_for(1) == [b"x"]


# reference 2.1-w
@pytest.mark.parametrize(
    "headers",
    [
        [("Origin", "https://evil.example")],
        [("Origin", "http://127.0.0.1:1")],
        [("Origin", "http://127.0.0.1")],  # a page of another server on this machine: the port differs
        [("Origin", "null")],
        [("Origin", "")],
        [("Origin", "{own}"), ("Origin", "https://evil.example")],
        [("Origin", "{own}/")],
        [("Origin", "{own}.evil.example")],
        [("Origin", "{own}"), ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0")],
    ],
)
async def test_web_page_is_refused(stack: AsyncExitStack, headers: Headers) -> None:
    server = await serve(stack, FrameRecorder())
    assert await server.refusal_code([(name, value.format(own=server.origin)) for name, value in headers]) == 1008
    assert len(server.events) == 0


# reference 2.1-w
@pytest.mark.parametrize("scheme", ["http", "https", "HTTP"])
async def test_origin_that_names_the_gateway_itself_is_accepted(stack: AsyncExitStack, scheme: str) -> None:
    recorder = FrameRecorder()
    server = await serve(stack, recorder)
    janus = await server.connect([("Origin", server.origin.replace("http", scheme, 1))])
    await janus.send_str("x")
    assert await recorder.wait_for(1) == [b"x"]


# reference 2.1-l
async def test_frame_beyond_the_limit_ends_only_its_connection(
    stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(janus_events, "MESSAGE_LIMIT", 1000)
    recorder = FrameRecorder()
    server = await serve(stack, recorder)
    janus, other = await server.connect(), await server.connect()
    await janus.send_str("x" * 1001)
    assert (await janus.receive(timeout=WAIT_TIMEOUT)).type is WSMsgType.CLOSE
    assert janus.close_code == 1009
    await other.send_str("y")
    assert await recorder.wait_for(1) == [b"y"]


async def test_binary_frame_ends_the_connection(stack: AsyncExitStack) -> None:
    recorder = FrameRecorder()
    janus = await (await serve(stack, recorder)).connect()
    await janus.send_bytes(b"{}")
    assert (await janus.receive(timeout=WAIT_TIMEOUT)).type is WSMsgType.CLOSE
    assert janus.close_code == 1003
    assert recorder.frames == []


# reference 2.1-l
async def test_number_of_event_connections_is_limited(stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(janus_events, "MAX_FEEDS", 1)
    server = await serve(stack, FrameRecorder())
    first = await server.connect()
    await first.ping()
    assert await server.refusal_code() == 1013


async def test_refusals_are_limited_in_number_and_in_the_log(
    stack: AsyncExitStack, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(janus_events, "MAX_REFUSALS", 2)
    monkeypatch.setattr(janus_events, "CLOSE_TIME", 0.5)
    server = await serve(stack, None)
    for _ in range(3):
        assert await server.refusal_code() == 1011
    _silent = [await server.connect() for _ in range(2)]  # neither reads the close frame
    with pytest.raises(aiohttp.WSServerHandshakeError) as refusal:
        await server.connect()
    assert refusal.value.status == 429
    assert [record.getMessage() for record in caplog.records].count(
        "an event connection of Janus was refused: no SFU is configured"
    ) == 1


async def test_close_does_not_wait_for_a_janus_that_does_not_read(
    stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(janus_events, "CLOSE_TIME", 0.1)
    recorder = FrameRecorder()
    server = await serve(stack, recorder)
    reading, _frozen = await server.connect(), await server.connect()  # the second never reads
    await reading.send_str("x")
    await recorder.wait_for(1)
    async with asyncio.timeout(WAIT_TIMEOUT):
        closing = asyncio.create_task(server.events.close())
        assert (await reading.receive()).type is WSMsgType.CLOSE
        await closing
    assert reading.close_code == 1001


@pytest.mark.parametrize("prefix", PATH_PREFIXES)
async def test_event_connection_does_not_count_as_a_client(stack: AsyncExitStack, prefix: str) -> None:
    gateway = Gateway(
        Config(
            sessions=SessionsSection(secret="6f1b0c7d9ae24835b6cf01d27e9a4488"),
            http=HttpSection(listen=("127.0.0.1:0",)),
            mcu=McuSection(type="inprocess", settings=InprocessSettings(address="127.0.0.1")),
            limits=Limits(connections_per_address=1, hellos_per_address=1),
        )
    )
    (url,) = await gateway.start()
    stack.push_async_callback(gateway.stop)
    http = await stack.enter_async_context(aiohttp.ClientSession())
    address = url.replace("http", "ws", 1) + prefix + "/spreed"
    feeds = [await http.ws_connect(address, protocols=[SUBPROTOCOL]) for _ in range(2)]
    await stack.enter_async_context(TalkClient(url, "https://cloud.invalid/"))  # feeds do not count
    for feed in feeds:
        assert feed._response.headers["Server"] == SERVER_HEADER
        await feed.send_str("[]")
        with pytest.raises(TimeoutError):
            await feed.receive(timeout=0.05)  # no welcome
    await gateway.stop()
    assert [(await feed.receive(timeout=WAIT_TIMEOUT)).data for feed in feeds] == [1001, 1001]


class EventSfu:
    """An SFU with an event feed."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []

    def receive_events(self, frame: bytes) -> None:
        self.frames.append(frame)


def test_frames_are_received_by_an_sfu_with_an_event_feed() -> None:
    sfu = EventSfu()
    receive = event_receiver(sfu)
    assert receive is not None
    receive(b"[]")
    assert sfu.frames == [b"[]"]


def test_frames_for_an_sfu_without_an_event_feed_are_dropped() -> None:
    receive = event_receiver(object())
    assert receive is not None
    receive(b"[]")


def test_there_is_no_receiver_of_frames_without_an_sfu() -> None:
    assert event_receiver(None) is None
