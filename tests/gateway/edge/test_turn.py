"""TURN credentials (reference 1.3)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

import pytest
from aiohttp import web

from gateway.config import TurnSection
from gateway.edge.turn import LIFETIME, TurnCredentials
from tests.gateway.edge.serving import exchange, served

NOW = 1_700_000_000.9
SERVERS = ("turn:turn.example.com:3478?transport=udp", "turns:turn.example.com:5349")
SETTINGS = TurnSection(api_key="the key", secret="the secret", servers=SERVERS)


async def ask(query: str, settings: TurnSection = SETTINGS) -> tuple[int, dict[str, str], bytes]:
    handler = TurnCredentials(settings, lambda: NOW).handle
    async with served([web.get("/turn/credentials", handler)]) as address:
        return await exchange(address, f"GET /turn/credentials{query} HTTP/1.1\r\nHost: h\r\n\r\n".encode())


# reference 1.3-f
@pytest.mark.parametrize("name", ["key", "api"])
async def test_credentials_are_valid_for_a_day_and_signed(name: str) -> None:
    code, headers, body = await ask(f"?service=turn&username=alice&{name}=the%20key")
    assert (code, headers["content-type"]) == (200, "application/json; charset=utf-8")
    assert body.endswith(b"\n")
    answer = json.loads(body)
    assert answer["username"] == f"{1_700_000_000 + LIFETIME}:alice"
    expected = hmac.new(b"the secret", answer["username"].encode(), hashlib.sha1).digest()
    assert base64.b64decode(answer["password"]) == expected
    assert (answer["ttl"], answer["uris"]) == (86400, list(SERVERS))


async def test_user_name_is_random_without_a_parameter() -> None:
    names = {json.loads((await ask("?service=turn&key=the%20key"))[2])["username"].split(":")[1] for _ in range(2)}
    assert [len(name) for name in names] == [32, 32]


# reference 1.3-e
@pytest.mark.parametrize(
    ("query", "code", "text"),
    [
        ("", 400, "Invalid service and/or key sent."),
        ("?service=stun&key=the%20key", 400, "Invalid service and/or key sent."),
        ("?service=turn", 400, "Invalid service and/or key sent."),
        ("?service=turn&key=", 400, "Invalid service and/or key sent."),
        ("?service=turn&key=another", 403, "Not allowed to access this service."),
        ("?service=turn&key=%C3%BC", 403, "Not allowed to access this service."),
    ],
)
async def test_wrong_service_is_refused_before_a_wrong_key(query: str, code: int, text: str) -> None:
    assert await ask(query) == (code, (await ask(query))[1], text.encode() + b"\n")


async def test_missing_servers_are_reported_only_with_the_right_key() -> None:
    no_servers = TurnSection(api_key="k", secret="s")
    assert (await ask("?service=turn&key=k", no_servers))[::2] == (404, b"No TURN servers available.\n")
    assert (await ask("?service=turn&key=x", no_servers))[0] == 403
    assert (await ask("?service=turn&key=x", TurnSection()))[0] == 403
