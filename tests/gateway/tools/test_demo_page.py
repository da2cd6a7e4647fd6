"""The call page's files and the demo backend over real HTTP; the test acts as the gateway."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import jwt
import pytest
from aiohttp import web
from msgspec import Raw

from gateway.core.limits import Backend
from gateway.edge.nextcloud.client import NextcloudClient
from gateway.tools import demo_backend
from gateway.tools.demo_backend import EXPIRY, DemoBackend
from gateway.tools.demo_page import MAX_BODY, page_routes
from gateway.tools.talk_check import FEATURES_HEADER, REQUIRED_FEATURES
from gateway.wire import checksum
from gateway.wire.backend import AuthRequest, BackendAnswer, PingEntry, PingRequest, RoomRequest

PERSON = "0123456789abcdef0123456789abcdef"
JOIN = b'{"name":"Ada","room":"r","person":"%s"}' % PERSON.encode()


class PageHost:
    """Server of the page, in place of a gateway; its rooms API records the requests of the demo backend."""

    def __init__(self) -> None:
        self.now = time.time()
        self.backend = DemoBackend(lambda: self.now)
        self.sent: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue()
        self.cloud = NextcloudClient("test", [], clock=time.monotonic)
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
        self.sent.put_nowait((request.match_info["room"], json.loads(body)))
        announced = {FEATURES_HEADER: ", ".join(sorted(REQUIRED_FEATURES))}
        return web.json_response({}, status=self.status, headers=announced)

    @property
    def configured(self) -> Backend:
        return self.backend.backend

    async def join(self, name: str = "Ada", **more: str) -> dict[str, Any]:
        participant = {"name": name, "room": "kitchen", "person": PERSON, **more}
        async with self.client.post("/demo/api/join", json=participant) as response:
            assert response.status == 200
            answer: dict[str, Any] = await response.json()
            return answer

    async def call(self, session: str, flags: int) -> int:
        async with self.client.post("/demo/api/call", json={"session": session, "flags": flags}) as response:
            return response.status

    async def request(self, request: AuthRequest | RoomRequest | PingRequest) -> BackendAnswer:
        return await self.cloud.ask(self.configured, self.configured.urls[0], request)

    async def next_request(self) -> tuple[str, dict[str, Any]]:
        async with asyncio.timeout(5):
            return await self.sent.get()


@pytest.fixture
async def host() -> AsyncIterator[PageHost]:
    running = PageHost()
    await running.start()
    yield running
    await running.stop()


def room_request(ticket: dict[str, Any], action: str = "") -> RoomRequest:
    return RoomRequest(ticket["roomid"], ticket["userid"], ticket["session"], action, version="1.0")


async def test_files_of_the_page_have_a_content_security_policy(host: PageHost) -> None:
    for path, content_type in (
        ("/", "text/html"),
        ("/demo/main.js", "text/javascript"),
        ("/demo/style.css", "text/css"),
    ):
        async with host.client.get(path) as response:
            assert response.status == 200
            assert response.content_type == content_type
            assert "default-src 'none'" in response.headers["Content-Security-Policy"]
            assert response.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("path", ["/demo/none.js", "/demo/..%2fapp.py", "/demo/__init__.py", "/demo/api/join"])
async def test_only_files_of_the_page_are_served(host: PageHost, path: str) -> None:
    async with host.client.get(path) as response:
        assert response.status in (404, 405)


async def test_ticket_and_token_name_the_participant(host: PageHost) -> None:
    ticket = await host.join(" Ada ")
    answer = await host.request(AuthRequest(Raw(json.dumps({"ticket": ticket["ticket"]}))))
    assert answer.auth is not None
    assert answer.auth.userid == ticket["userid"]
    assert json.loads(bytes(answer.auth.user or b"")) == {"displayname": "Ada"}
    key = await host.cloud.token_key(ticket["url"])
    assert len(key) == 44
    claims = jwt.decode(ticket["token"], options={"verify_signature": False})
    assert claims["sub"] == ticket["userid"]
    assert claims["userdata"] == {"displayname": "Ada"}


async def test_each_user_of_a_room_has_a_name_of_its_own(host: PageHost) -> None:
    people = [f"{number:032}" for number in range(3)]
    first, second = await host.join("Ada", person=people[0]), await host.join(" ADA", person=people[1])
    assert [first["name"], second["name"]] == ["Ada", "ADA (2)"]
    assert (await host.join("Ada", person=people[2], room="hall"))["name"] == "Ada"
    assert jwt.decode(second["token"], options={"verify_signature": False})["userdata"] == {"displayname": "ADA (2)"}
    third = await host.join("Ada", person=people[2])
    assert third["name"] == "Ada (3)"
    await host.request(room_request(second, "leave"))
    again = await host.join("Ada", person=people[2], previous=third["session"])
    assert again["name"] == "Ada (3)"  # the number stays while the first one is there
    await host.request(room_request(first, "leave"))
    await host.request(room_request(again, "leave"))
    assert (await host.join("Ada", person=people[1]))["name"] == "Ada"


@pytest.mark.parametrize("params", ['{"ticket":"made up"}', "{}", '"text"', "null", '{"ticket":{}}'])
async def test_unknown_ticket_is_refused(host: PageHost, params: str) -> None:
    answer = await host.request(AuthRequest(Raw(params)))
    assert answer.error is not None
    assert answer.error.code == "invalid_ticket"


async def test_join_of_a_room_that_is_not_in_the_credentials_is_refused(host: PageHost) -> None:
    answer = await host.request(room_request({**await host.join(), "roomid": "another"}))
    assert answer.error is not None
    assert answer.error.code == "no_such_room"


async def test_call_change_is_sent_to_the_gateway_with_all_participants(host: PageHost) -> None:
    ada, bob = await host.join("Ada"), await host.join("Bob")
    answer = await host.request(room_request(ada))
    assert answer.room is not None
    assert answer.room.permissions == ["publish-audio", "publish-video", "publish-screen", "control"]
    assert await host.call(ada["session"], 7) == 200
    room, sent = await host.next_request()
    assert room == ada["roomid"]
    assert [entry["sessionId"] for entry in sent["incall"]["changed"]] == [ada["session"]]
    flags = {entry["sessionId"]: entry["inCall"] for entry in sent["incall"]["users"]}
    assert flags == {ada["session"]: 7}
    assert await host.call(bob["session"], 3) == 200
    room, sent = await host.next_request()
    assert {entry["sessionId"]: entry["inCall"] for entry in sent["incall"]["users"]} == {
        ada["session"]: 7,
        bob["session"]: 3,
    }


async def test_session_that_leaves_the_room_leaves_the_call(host: PageHost) -> None:
    ada, bob = await host.join("Ada"), await host.join("Bob")
    await host.call(ada["session"], 7)
    await host.next_request()
    await host.request(room_request(ada, action="leave"))
    _, sent = await host.next_request()
    assert sent["incall"] == {"incall": 0, "changed": [], "users": []}
    assert await host.call(ada["session"], 7) == 404
    assert await host.call(bob["session"], 7) == 200


async def test_second_join_replaces_the_first(host: PageHost) -> None:
    first = await host.join("Ada")
    second = await host.join("Ada", previous=first["session"])
    _, sent = await host.next_request()
    assert sent["disinvite"]["sessionids"] == [first["session"]]
    assert second["userid"] == first["userid"]
    assert second["session"] != first["session"]
    assert PERSON not in first["userid"]
    assert await host.call(first["session"], 7) == 404
    assert await host.call(second["session"], 7) == 200


async def test_room_names_are_case_insensitive(host: PageHost) -> None:
    assert (await host.join(room="Kitchen"))["roomid"] == (await host.join(room="kitchen"))["roomid"]


async def test_participant_without_pings_is_removed(host: PageHost) -> None:
    ada, bob, cleo = await host.join("Ada"), await host.join("Bob"), await host.join("Cleo", room="hall")
    host.now += EXPIRY - 10
    ping = PingRequest("", (PingEntry(ada["userid"], ada["session"]),))
    assert (await host.request(ping)).type == "room"
    host.now += 20
    await host.join("Dora")
    assert await host.call(bob["session"], 7) == 404
    assert await host.call(cleo["session"], 7) == 404
    assert await host.call(ada["session"], 7) == 200


async def test_number_of_participants_is_limited(host: PageHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_backend, "MAX_PARTICIPANTS", 2)
    first = await host.join("Ada")
    await host.join("Bob")
    body = {"name": "Cleo", "room": "hall", "person": PERSON}
    async with host.client.post("/demo/api/join", json=body) as response:
        assert response.status == 503
    await host.join("Ada", previous=first["session"])


async def test_call_change_succeeds_if_the_gateway_is_unavailable_or_refuses(host: PageHost) -> None:
    ada = await host.join("Ada")
    host.status = 403
    assert await host.call(ada["session"], 7) == 200
    host.backend.attach("http://127.0.0.1:1/")
    assert await host.call(ada["session"], 7) == 200


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (JOIN, "text/plain", 415),
        (b"{", "application/json", 400),
        (b"[" * 3000, "application/json", 400),
        (b'{"name":"Ada","room":"r","person":"short"}', "application/json", 400),
        (b'{"name":"  ","room":"r","person":"%s"}' % PERSON.encode(), "application/json", 400),
        (b'{"name":"%s","room":"r","person":"%s"}' % (b"x" * 61, PERSON.encode()), "application/json", 400),
        (b'{"name":1,"room":"r","person":"%s"}' % PERSON.encode(), "application/json", 400),
        (b" " * (MAX_BODY + 1), "application/json", 413),
    ],
)
async def test_invalid_request_is_refused(host: PageHost, body: bytes, content_type: str, status: int) -> None:
    async with host.client.post("/demo/api/join", data=body, headers={"Content-Type": content_type}) as response:
        assert response.status == status


async def post_in_chunks(host: PageHost, framing: bytes, *chunks: bytes) -> int:
    """Send a join with its body in chunks and return the status."""
    reader, writer = await asyncio.open_connection("127.0.0.1", host.port)
    head = b"POST /demo/api/join HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n%s\r\n\r\n" % framing
    try:
        async with asyncio.timeout(5):
            for piece in (head, *chunks):
                writer.write(piece)
                await writer.drain()
                async with host.client.get("/demo/icon.svg") as response:  # a round trip: the chunk was read before it
                    assert response.status == 200
            return int((await reader.readline()).split()[1])
    finally:
        writer.close()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


async def test_body_in_chunks_is_read_to_its_end(host: PageHost) -> None:
    assert await post_in_chunks(host, b"Content-Length: %d" % len(JOIN), JOIN[:20], JOIN[20:]) == 200


async def test_body_without_a_content_length_is_read_to_its_end(host: PageHost) -> None:
    chunks = (chunk(JOIN[:20]), chunk(JOIN[20:]), chunk(b""))
    assert await post_in_chunks(host, b"Transfer-Encoding: chunked", *chunks) == 200


@pytest.mark.parametrize(("spaces", "status"), [(MAX_BODY - len(JOIN), 200), (MAX_BODY - len(JOIN) + 1, 413)])
async def test_body_without_a_content_length_is_limited(host: PageHost, spaces: int, status: int) -> None:
    chunks = (chunk(JOIN), chunk(b" " * spaces), chunk(b""))
    assert await post_in_chunks(host, b"Transfer-Encoding: chunked", *chunks) == status
