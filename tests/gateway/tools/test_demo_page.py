"""The page's files and the demo backend behind it, over real HTTP; the gateway's side is played by the test."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import jwt
import pytest
from aiohttp import web
from msgspec import Raw

from gateway.core.limits import Backend
from gateway.edge.nextcloud.client import NextcloudClient
from gateway.tools.demo_backend import DemoBackend
from gateway.tools.demo_page import MAX_BODY, page_routes
from gateway.wire import checksum
from gateway.wire.backend import AuthRequest, BackendAnswer, PingEntry, PingRequest, RoomRequest

PERSON = "0123456789abcdef0123456789abcdef"
WISH = b'{"name":"Ada","room":"r","person":"%s"}' % PERSON.encode()


class Side:
    """The page's host, with a rooms API that records what the backend sends."""

    def __init__(self) -> None:
        self.backend = DemoBackend()
        self.told: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue()
        self.cloud = NextcloudClient("test", [])
        self.status = 200
        self.url = ""

    async def start(self) -> None:
        await self.backend.start()
        app = web.Application()
        app.add_routes([*page_routes(self.backend), web.post("/api/v1/room/{room}", self._rooms)])
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = int(self._runner.addresses[0][1])
        self.url = f"http://127.0.0.1:{self.port}/"
        self.backend.attach(self.url)
        self.client = aiohttp.ClientSession(self.url)

    async def stop(self) -> None:
        await self.client.close()
        await self.cloud.close()
        await self._runner.cleanup()
        await self.backend.stop()

    async def _rooms(self, request: web.Request) -> web.Response:
        body, headers = await request.read(), request.headers
        random, given = headers["Spreed-Signaling-Random"], headers["Spreed-Signaling-Checksum"]
        assert checksum.verify(self.configured.secret, random, given, body)
        assert headers["Spreed-Signaling-Backend"] in self.configured.urls
        self.told.put_nowait((request.match_info["room"], json.loads(body)))
        return web.json_response({}, status=self.status)

    @property
    def configured(self) -> Backend:
        return self.backend.backend

    async def join(self, name: str = "Ada", **more: str) -> dict[str, Any]:
        who = {"name": name, "room": "kitchen", "person": PERSON, **more}
        async with self.client.post("/demo/api/join", json=who) as response:
            assert response.status == 200
            answer: dict[str, Any] = await response.json()
            return answer

    async def call(self, session: str, flags: int) -> int:
        async with self.client.post("/demo/api/call", json={"session": session, "flags": flags}) as response:
            return response.status

    async def ask(self, request: AuthRequest | RoomRequest | PingRequest) -> BackendAnswer:
        return await self.cloud.ask(self.configured, self.configured.urls[0], request)

    async def heard(self) -> tuple[str, dict[str, Any]]:
        async with asyncio.timeout(5):
            return await self.told.get()


@pytest.fixture
async def side() -> AsyncIterator[Side]:
    running = Side()
    await running.start()
    yield running
    await running.stop()


def room_request(ticket: dict[str, Any], action: str = "") -> RoomRequest:
    return RoomRequest(ticket["roomid"], ticket["userid"], ticket["session"], action, version="1.0")


async def test_the_page_is_served_with_a_policy_that_lets_nothing_foreign_in(side: Side) -> None:
    for path, kind in (("/", "text/html"), ("/demo/main.js", "text/javascript"), ("/demo/style.css", "text/css")):
        async with side.client.get(path) as response:
            assert response.status == 200
            assert response.content_type == kind
            assert "default-src 'none'" in response.headers["Content-Security-Policy"]
            assert response.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("path", ["/demo/none.js", "/demo/..%2fapp.py", "/demo/__init__.py", "/demo/api/join"])
async def test_only_the_pages_own_files_are_served(side: Side, path: str) -> None:
    async with side.client.get(path) as response:
        assert response.status in (404, 405)


async def test_a_ticket_is_accepted_by_both_kinds_of_hello(side: Side) -> None:
    ticket = await side.join(" Ada ")
    answer = await side.ask(AuthRequest(Raw(json.dumps({"ticket": ticket["ticket"]}))))
    assert answer.auth is not None
    assert answer.auth.userid == ticket["userid"]
    assert json.loads(bytes(answer.auth.user or b"")) == {"displayname": "Ada"}
    key = await side.cloud.token_key(ticket["url"])
    assert len(key) == 44
    claims = jwt.decode(ticket["token"], options={"verify_signature": False})
    assert claims["sub"] == ticket["userid"]
    assert claims["userdata"] == {"displayname": "Ada"}


@pytest.mark.parametrize("params", ['{"ticket":"made up"}', "{}", '"text"', "null", '{"ticket":{}}'])
async def test_an_unknown_ticket_is_refused(side: Side, params: str) -> None:
    answer = await side.ask(AuthRequest(Raw(params)))
    assert answer.error is not None
    assert answer.error.code == "invalid_ticket"


async def test_a_foreign_room_is_refused(side: Side) -> None:
    answer = await side.ask(room_request({**await side.join(), "roomid": "another"}))
    assert answer.error is not None
    assert answer.error.code == "no_such_room"


async def test_entering_the_call_is_told_to_the_gateway_with_everybody_in_the_room(side: Side) -> None:
    ada, bob = await side.join("Ada"), await side.join("Bob")
    answer = await side.ask(room_request(ada))
    assert answer.room is not None
    assert "publish-media" in (answer.room.permissions or [])
    assert await side.call(ada["session"], 7) == 200
    room, told = await side.heard()
    assert room == ada["roomid"]
    assert [entry["sessionId"] for entry in told["incall"]["changed"]] == [ada["session"]]
    flags = {entry["sessionId"]: entry["inCall"] for entry in told["incall"]["users"]}
    assert flags == {ada["session"]: 7, bob["session"]: 0}


async def test_a_session_that_left_the_room_left_the_call(side: Side) -> None:
    ada, bob = await side.join("Ada"), await side.join("Bob")
    await side.call(ada["session"], 7)
    await side.heard()
    await side.ask(room_request(ada, action="leave"))
    _, told = await side.heard()
    assert told["incall"]["changed"][0]["inCall"] == 0
    assert [entry["sessionId"] for entry in told["incall"]["users"]] == [bob["session"]]
    assert await side.call(ada["session"], 7) == 404


async def test_a_second_join_takes_the_place_of_the_first(side: Side) -> None:
    first = await side.join("Ada")
    second = await side.join("Ada", previous=first["session"])
    assert second["userid"] == first["userid"]
    assert await side.call(first["session"], 7) == 404
    assert await side.call(second["session"], 7) == 200


async def test_a_ping_keeps_a_session(side: Side) -> None:
    ada = await side.join("Ada")
    ping = PingRequest(ada["roomid"], (PingEntry(ada["userid"], ada["session"]),))
    assert (await side.ask(ping)).type == "room"


async def test_a_gateway_that_is_away_or_refuses_does_not_keep_one_from_the_call(side: Side) -> None:
    ada = await side.join("Ada")
    side.status = 403
    assert await side.call(ada["session"], 7) == 200
    side.backend.attach("http://127.0.0.1:1/")
    assert await side.call(ada["session"], 7) == 200


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (WISH, "text/plain", 415),
        (b"{", "application/json", 400),
        (b"[" * 3000, "application/json", 400),
        (b'{"name":"Ada","room":"r","person":"short"}', "application/json", 400),
        (b'{"name":"  ","room":"r","person":"%s"}' % PERSON.encode(), "application/json", 400),
        (b'{"name":"%s","room":"r","person":"%s"}' % (b"x" * 61, PERSON.encode()), "application/json", 400),
        (b'{"name":1,"room":"r","person":"%s"}' % PERSON.encode(), "application/json", 400),
        (b" " * (MAX_BODY + 1), "application/json", 413),
    ],
)
async def test_what_the_page_never_sends_is_refused(side: Side, body: bytes, kind: str, status: int) -> None:
    async with side.client.post("/demo/api/join", data=body, headers={"Content-Type": kind}) as response:
        assert response.status == status


async def post_in_pieces(side: Side, framing: bytes, *pieces: bytes) -> int:
    """Send a join whose body comes piece by piece, and return the status."""
    reader, writer = await asyncio.open_connection("127.0.0.1", side.port)
    head = b"POST /demo/api/join HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n%s\r\n\r\n" % framing
    try:
        async with asyncio.timeout(5):
            for piece in (head, *pieces):
                writer.write(piece)
                await writer.drain()
                async with side.client.get("/demo/icon.svg") as asked:  # a round trip: the piece was read before it
                    assert asked.status == 200
            return int((await reader.readline()).split()[1])
    finally:
        writer.close()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


async def test_a_body_that_comes_in_pieces_is_read_to_its_end(side: Side) -> None:
    assert await post_in_pieces(side, b"Content-Length: %d" % len(WISH), WISH[:20], WISH[20:]) == 200


async def test_a_body_without_a_length_is_read_to_its_end(side: Side) -> None:
    pieces = (chunk(WISH[:20]), chunk(WISH[20:]), chunk(b""))
    assert await post_in_pieces(side, b"Transfer-Encoding: chunked", *pieces) == 200


@pytest.mark.parametrize(("spaces", "status"), [(MAX_BODY - len(WISH), 200), (MAX_BODY - len(WISH) + 1, 413)])
async def test_a_body_without_a_length_has_a_limit_too(side: Side, spaces: int, status: int) -> None:
    pieces = (chunk(WISH), chunk(b" " * spaces), chunk(b""))
    assert await post_in_pieces(side, b"Transfer-Encoding: chunked", *pieces) == status
