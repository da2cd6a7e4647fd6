"""Hellos 2.0: tokens, and the keys that verify them (reference 3.3)."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.flows.ports import NextcloudError
from gateway.tools.fake_nextcloud import SigningKey
from tests.gateway.flows.harness import CLOUD, WALL_TIME, FakeClient, FlowHarness, Json
from tests.gateway.flows.virtual_time import settle

URL = CLOUD.urls[0]


def send_token(client: FakeClient, token: str, client_type: str = "client") -> None:
    """Send a hello 2.0 with a token."""
    auth = {"type": client_type, "url": URL, "params": {"token": token}}
    client.send({"type": "hello", "hello": {"version": "2.0", "auth": auth}})


def token(key: SigningKey, **claims: Any) -> str:
    given = {
        "iat": WALL_TIME + 1000,
        "exp": WALL_TIME + 1300,
        "sub": "alice",
        "userdata": {"displayname": "A"},
        **claims,
    }
    return key.sign({name: value for name, value in given.items() if value is not None})


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "EdDSA"])
async def test_token_opens_a_session_without_asking_nextcloud(algorithm: str) -> None:
    key = SigningKey(algorithm)
    async with FlowHarness() as harness:
        harness.nextcloud.keys[URL] = key.published
        client = harness.connect()
        client.received()
        send_token(client, token(key))
        await settle()
        (reply,) = client.received()
        assert (reply["hello"]["userid"], reply["hello"]["version"]) == ("alice", "2.0")
        session = harness.hub.sessions[reply["hello"]["sessionid"]]
        assert bytes(session.user) == b'{"displayname":"A"}'
        assert harness.nextcloud.requests == []


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"exp": WALL_TIME + 1000 - 61}, "token_expired"),
        ({"exp": None}, "token_expired"),
        ({"iat": WALL_TIME + 1061 + 1}, "token_not_valid_yet"),
        ({"iat": None}, "token_not_valid_yet"),
        ({"nbf": WALL_TIME + 1062}, "token_not_valid_yet"),
    ],
)
async def test_token_that_is_expired_or_not_valid_yet_is_refused(claims: Json, code: str) -> None:
    key = SigningKey()
    async with FlowHarness() as harness:
        harness.nextcloud.keys[URL] = key.published
        client = harness.connect()
        client.received()
        send_token(client, token(key, **claims))
        await settle()
        assert client.error_codes() == [code]


# reference 3.3-d
async def test_token_that_fits_the_renewed_key_opens_a_session() -> None:
    old, new = SigningKey(), SigningKey("RS256")
    async with FlowHarness() as harness:
        harness.nextcloud.keys[URL] = old.published
        harness.nextcloud.renewed_keys[URL] = new.published
        client = harness.connect()
        client.received()
        send_token(client, token(new))
        await settle()
        assert client.received()[0]["hello"]["userid"] == "alice"
        assert harness.nextcloud.renewals == [URL]


# reference 3.3-d
@pytest.mark.parametrize(
    ("text", "renewals"),
    [
        ("junk", 0),
        ("e30.e30.e30", 0),
        (token(SigningKey(), exp=WALL_TIME + 1), 1),
        (token(SigningKey()), 1),
        (token(SigningKey("ES256")), 1),
    ],
)
async def test_key_is_fetched_again_only_for_a_well_formed_token(text: str, renewals: int) -> None:
    async with FlowHarness() as harness:
        harness.nextcloud.keys[URL] = harness.nextcloud.renewed_keys[URL] = SigningKey().published
        client = harness.connect()
        client.received()
        send_token(client, text)
        await settle()
        assert client.error_codes() == ["invalid_token"]
        assert len(harness.nextcloud.renewals) == renewals


# reference 3.3-d
async def test_key_is_not_fetched_again_for_a_valid_or_expired_token() -> None:
    key = SigningKey()
    async with FlowHarness() as harness:
        harness.nextcloud.keys[URL] = key.published
        for claims in ({}, {"exp": WALL_TIME + 1}):
            client = harness.connect()
            send_token(client, token(key, **claims))
            await settle()
        assert harness.nextcloud.renewals == []


async def test_token_without_a_key_or_signed_with_another_key_is_refused() -> None:
    async with FlowHarness() as harness:
        client = harness.connect()
        client.received()
        text = token(SigningKey())
        send_token(client, text)
        await settle()
        harness.nextcloud.keys[URL] = SigningKey().published
        send_token(client, text)
        await settle()
        assert client.error_codes() == ["invalid_token", "invalid_token"]


# reference 3.3-h
@pytest.mark.parametrize("client_type", ["client", "federation"])
@pytest.mark.parametrize("key", ["", SigningKey().published], ids=["no key known", "another key known"])
async def test_token_that_nextcloud_cannot_be_asked_about_is_not_called_invalid(client_type: str, key: str) -> None:
    async with FlowHarness() as harness:
        harness.nextcloud.capabilities_error = NextcloudError("the backend could not be reached")
        if key:
            harness.nextcloud.keys[URL] = key
            harness.nextcloud.features = {"federation-v2"}
        client = harness.connect()
        client.received()
        send_token(client, token(SigningKey()), client_type)
        await settle()
        (reply,) = client.received()
        assert reply["error"] == {"code": "internal_error", "message": "the backend could not be reached"}
        assert not harness.counters.authentication_failures
        assert not harness.counters.throttle_delayed
