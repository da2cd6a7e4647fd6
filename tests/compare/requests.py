"""HTTP answers of both servers: the rooms API with valid and invalid requests, and the read-only endpoints."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import aiohttp

from gateway.tools.fake_nextcloud import FakeNextcloud
from gateway.wire import checksum
from tests.compare.player import Difference
from tests.conversations.levels import SocketLevel
from tests.conversations.player import Conversation

HTTP_ONLY = Conversation("http", "", mcu=False, server={}, levels=(), steps=())
ROOM = "/api/v1/room/r"
RANDOM = "r" * 64
OK = b'{"type":"delete","delete":{"userids":[]}}'
BODIES = (
    OK,
    b"",
    b"x",
    b"[]",
    b"{}",
    b'{"type":"mute"}',
    b'{"type":"transient","transient":{}}',
    b'{"type":"invite"}',
    b'{"type":"invite","invite":{"userids":5}}',
    b'{"type":"message","message":{}}',
    b'{"type":"incall","incall":{"incall":"x","all":true}}',
    b'{"type":"switchto","switchto":{"roomid":"x"}}',
    b'{"type":"switchto","switchto":{"roomid":"x","sessions":5}}',
    b" " * 262_145,
)
HEADERS = (
    {"Content-Type": "text/plain"},
    {"Spreed-Signaling-Random": ""},
    {"Spreed-Signaling-Checksum": ""},
    {"Spreed-Signaling-Backend": ""},
    {"Spreed-Signaling-Checksum": "00"},
    {"Spreed-Signaling-Backend": "https://unknown.example/"},
)
PATHS = (
    "/api/v1/welcome",
    "/api/v1/stats",
    "/api/v1/serverinfo",
    "/api/v1/unheard-of",
    "/turn/credentials",
    "/turn/credentials?service=turn&key=x",
    "/spreed",
    ROOM,
)


class Request(NamedTuple):
    label: str  # for the table
    method: str
    path: str
    body: Any = None
    headers: Mapping[str, str] = MappingProxyType({})


def requests(cloud: FakeNextcloud) -> list[Request]:
    """Return the requests to send to both servers."""
    signed = [Request(body[:70].decode().strip(), "POST", ROOM, body, _headers(cloud, body)) for body in BODIES]
    wrong = [Request(f"{changed}", "POST", ROOM, OK, _headers(cloud, OK) | changed) for changed in HEADERS]
    chunked = Request("no length", "POST", ROOM, _chunks, _headers(cloud, OK))
    return [*signed, *wrong, chunked, *(Request(path, "GET", path) for path in PATHS)]


async def compare(go: SocketLevel, portunus: SocketLevel) -> list[Difference]:
    """Send the same requests to both servers and return the differences in status or in the text of a refusal."""
    found = []
    pairs = zip(requests(go.cloud), requests(portunus.cloud), strict=True)
    for number, (to_go, to_portunus) in enumerate(pairs, 1):
        answers = await _send(go.gateway, to_go), await _send(portunus.gateway, to_portunus)
        if answers[0] != answers[1]:
            found.append(Difference("http", number, f"{to_go.label}: {answers[0]} for {answers[1]}"))
    return found


def _headers(cloud: FakeNextcloud, body: bytes) -> dict[str, str]:
    return {
        "Content-Type": "application/json",
        "Spreed-Signaling-Random": RANDOM,
        "Spreed-Signaling-Checksum": checksum.sign(cloud.secret, RANDOM, body),
        "Spreed-Signaling-Backend": cloud.url,
    }


async def _chunks() -> AsyncIterator[bytes]:
    yield OK


async def _send(gateway: str, request: Request) -> str:
    headers = {name: value for name, value in request.headers.items() if value}
    body = request.body() if callable(request.body) else request.body
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as client:
        try:
            async with client.request(request.method, gateway + request.path, data=body, headers=headers) as answer:
                text = await answer.text() if request.path == ROOM and request.method == "POST" else ""
                return f"{answer.status} {text.strip()}".strip()
        except aiohttp.ClientError:
            return "the connection breaks"
