"""TURN credentials (reference 1.3)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json

import pytest
from aiohttp import web

from gateway.config import TurnSection
from gateway.core.throttle import ThrottledAction
from gateway.edge.http.address import TrustedProxies
from gateway.edge.turn import LIFETIME, TurnCredentials
from gateway.flows import throttling
from gateway.flows.refusals import Refusals
from gateway.flows.throttling import Throttling
from gateway.metrics import Counters
from tests.captured_log import captured_lines
from tests.gateway.edge.serving import exchange, served_routes
from tests.gateway.flows.fakes import DisconnectedCaller

NOW = 1_700_000_000.9
SERVERS = ("turn:turn.example.com:3478?transport=udp", "turns:turn.example.com:5349")
SETTINGS = TurnSection(api_key="the key", secret="the secret", servers=SERVERS)


def turn_credentials(settings: TurnSection = SETTINGS, counters: Counters | None = None) -> TurnCredentials:
    throttling = Throttling(lambda: 0.0, counters or Counters())
    refusals = Refusals(lambda: 0.0, throttling._counters)
    return TurnCredentials(settings, lambda: NOW, TrustedProxies(("127.0.0.1",)), throttling, refusals)


async def request(
    query: str, settings: TurnSection = SETTINGS, credentials: TurnCredentials | None = None, address: str = "192.0.2.1"
) -> tuple[int, dict[str, str], bytes]:
    handler = (credentials or turn_credentials(settings)).handle
    head = f"GET /turn/credentials{query} HTTP/1.1\r\nHost: h\r\nX-Real-IP: {address}\r\n\r\n"
    async with served_routes([web.get("/turn/credentials", handler)]) as server:
        return await exchange(server, head.encode())


# reference 14.1-e
async def test_wrong_keys_are_answered_late_and_block_wrong_keys_of_their_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(throttling, "MAX_DELAY", 0.1)
    counters = Counters()
    credentials = turn_credentials(counters=counters)
    assert (await request("?service=turn&key=wrong", credentials=credentials))[0] == 403
    assert counters.throttle_delayed == {("TurnCredentials", 100): 1}
    for _ in range(9):
        await credentials._throttling.record_failure(DisconnectedCaller("192.0.2.1"), ThrottledAction.TURN_KEY)
    assert (await request("?service=turn&key=wrong", credentials=credentials))[::2] == (429, b"Too many requests\n")
    assert (await request("?service=turn&key=the%20key", credentials=credentials))[0] == 200
    assert (await request("?service=turn&key=wrong", credentials=credentials, address="192.0.2.2"))[0] == 403
    assert (await request("?service=turn", credentials=credentials))[0] == 400
    assert counters.throttle_bruteforce == {"TurnCredentials": 1}
    credentials.apply(TurnSection(api_key="new", secret="s", servers=SERVERS))
    assert (await request("?service=turn&key=wrong", credentials=credentials))[0] == 403


# reference 14.1-e
async def test_request_without_a_configured_key_is_not_throttled() -> None:
    counters = Counters()
    credentials = turn_credentials(TurnSection(), counters)
    for _ in range(12):
        assert (await request("?service=turn&key=x", credentials=credentials))[0] == 403
    assert not counters.throttle_delayed


@pytest.mark.parametrize(
    ("settings", "text"),
    [(SETTINGS, "compare turn.api_key with turn_rest_api_key"), (TurnSection(), "turn.api_key is not configured")],
)
async def test_refused_key_is_logged_once_a_minute_and_counted(settings: TurnSection, text: str) -> None:
    counters = Counters()
    credentials = turn_credentials(settings, counters)
    with captured_lines() as lines:
        for _ in range(2):
            assert (await request("?service=turn&key=a-wrong-key", credentials=credentials))[0] == 403
    assert counters.authentication_failures == {("", "turn_key"): 2}
    (line,) = lines
    assert f"requests for TURN credentials are refused: {text}" in line
    assert not [private for private in ("a-wrong-key", "the secret", "192.0.2.1") if private in line]


# reference 1.3-f
@pytest.mark.parametrize("name", ["key", "api"])
async def test_credentials_are_valid_for_a_day_and_signed(name: str) -> None:
    status, headers, body = await request(f"?service=turn&username=alice&{name}=the%20key")
    assert (status, headers["content-type"]) == (200, "application/json; charset=utf-8")
    assert body.endswith(b"\n")
    answer = json.loads(body)
    assert answer["username"] == f"{1_700_000_000 + LIFETIME}:alice"
    expected = hmac.new(b"the secret", answer["username"].encode(), hashlib.sha1).digest()
    assert base64.b64decode(answer["password"]) == expected
    assert (answer["ttl"], answer["uris"]) == (86400, list(SERVERS))


async def test_user_name_is_random_without_a_parameter() -> None:
    names = {json.loads((await request("?service=turn&key=the%20key"))[2])["username"].split(":")[1] for _ in range(2)}
    assert [len(name) for name in names] == [32, 32]


# reference 1.3-e
@pytest.mark.parametrize(
    ("query", "status", "text"),
    [
        ("", 400, "Invalid service and/or key sent."),
        ("?service=stun&key=the%20key", 400, "Invalid service and/or key sent."),
        ("?service=turn", 400, "Invalid service and/or key sent."),
        ("?service=turn&key=", 400, "Invalid service and/or key sent."),
        ("?service=turn&key=another", 403, "Not allowed to access this service."),
        ("?service=turn&key=%C3%BC", 403, "Not allowed to access this service."),
    ],
)
async def test_wrong_service_is_refused_before_a_wrong_key(query: str, status: int, text: str) -> None:
    assert (await request(query))[::2] == (status, text.encode() + b"\n")


async def test_missing_servers_are_reported_only_with_the_right_key() -> None:
    no_servers = TurnSection(api_key="k", secret="s")
    assert (await request("?service=turn&key=k", no_servers))[::2] == (404, b"No TURN servers available.\n")
    assert (await request("?service=turn&key=x", no_servers))[0] == 403
    assert (await request("?service=turn&key=x", TurnSection()))[0] == 403
