"""The behaviour of the fake Nextcloud that other tests rely on."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from gateway.tools import fake_nextcloud
from gateway.tools.fake_nextcloud import LEFT_OUT, FakeNextcloud
from gateway.tools.talk_answers import NextcloudRoom
from gateway.wire.claims import TokenError
from gateway.wire.token import verify
from tests.gateway.tools.gateway_requests import ask


async def test_request_with_a_wrong_checksum_or_short_random_is_refused_and_recorded() -> None:
    async with FakeNextcloud() as cloud:
        assert (await ask(cloud, "room", {"roomid": "r"}, secret="wrong"))["error"]["code"] == "invalid_request"
        assert (await ask(cloud, "room", {"roomid": "r"}, random="short"))["error"]["code"] == "invalid_request"
        assert [request.type for request in cloud.requests] == ["", ""]


async def test_ticket_is_valid_for_its_user_only() -> None:
    async with FakeNextcloud() as cloud:
        ticket = cloud.ticket("alice")
        answer = await ask(cloud, "auth", {"version": "1.0", "params": ticket})
        assert answer["auth"] == {"version": "1.0", "userid": "alice", "user": {"displayname": "Alice"}}
        of_guest = cloud.ticket("")
        assert of_guest["userid"] is None
        guest = await ask(cloud, "auth", {"version": "1.0", "params": of_guest})
        assert guest["auth"] == {"version": "1.0"}
        wrong: list[Any] = [{**ticket, "userid": "bob"}, {**ticket, "ticket": "x"}, {}, None, []]
        for params in wrong:
            refused = await ask(cloud, "auth", {"version": "1.0", "params": params})
            assert refused["error"]["code"] == "invalid_ticket"


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256", "ES384", "ES512", "RS256", "RS512"])
async def test_token_verifies_with_the_published_key(algorithm: str) -> None:
    cloud = FakeNextcloud(algorithm=algorithm)
    key, now = cloud.signaling["hello-v2-token-key"], time.time()
    claims = verify(cloud.token("alice", {"displayname": "Alice"}), key, now)
    assert (claims.userid, claims.user) == ("alice", b'{"displayname":"Alice"}')
    assert verify(cloud.token(""), key, now).userid == ""
    with pytest.raises(TokenError, match="token_expired"):
        verify(cloud.token("alice", iat=now - 900, exp=now - 600), key, now)
    with pytest.raises(TokenError, match="token_not_valid_yet"):
        verify(cloud.token("alice", iat=LEFT_OUT), key, now)


@pytest.mark.parametrize("prefix", ["/", "/cloud/"])
async def test_federated_join_is_built_from_settings_whose_server_url_lacks_the_final_slash(prefix: str) -> None:
    async with FakeNextcloud(prefix=prefix) as cloud:
        settings = cloud.federation_settings("https://host.example/", "r", "alice")
        assert settings["nextcloudServer"] + "/" == cloud.url
        join = cloud.federation("https://host.example/", "r", "alice")
        claims = verify(join.pop("token"), cloud.signaling["hello-v2-token-key"], time.time())
        assert (claims.userid, claims.user) == ("alice", b'{"displayname":"Alice"}')
        url = f"{settings['nextcloudServer']}/ocs/v2.php/apps/spreed/api/v3/signaling/backend"
        assert join == {"signaling": "https://host.example/", "url": url, "roomid": "r"}


async def test_join_is_answered_with_the_permissions_and_properties_of_talk() -> None:
    async with FakeNextcloud() as cloud:
        join = {"version": "1.0", "roomid": "r", "sessionid": "s"}
        of_owner = await ask(cloud, "room", join | {"userid": "alice"})
        properties = {"name": "r", "type": 2, "lobby-state": 0, "lobby-timer": None, "read-only": 0, "listable": 0}
        assert of_owner["room"] == {
            "version": "1.0",
            "roomid": "r",
            "properties": {**properties, "active-since": None, "sip-enabled": 0, "description": ""},
            "permissions": ["publish-audio", "publish-video", "publish-screen", "control"],
        }
        others = [{"userid": "bob", "sessionid": "s2"}, {"userid": "", "sessionid": "s3"}]
        others.append({"userid": "", "sessionid": "s4", "actortype": "federated_users", "actorid": "c@example.com"})
        for other in others:
            answer = (await ask(cloud, "room", join | other))["room"]
            assert answer["permissions"] == ["publish-audio", "publish-video", "publish-screen"]
        assert [attendee.actor_type for attendee in cloud.talk.room("r").attendees] == [
            *("users", "users", "guests", "federated_users")
        ]


async def test_unusual_rooms_are_answered_as_configured() -> None:
    async with FakeNextcloud() as cloud:
        cloud.rooms["r1"] = NextcloudRoom({"name": "One"}, ["control"], {"userid": "guest"})
        cloud.rooms["r2"] = NextcloudRoom(error={"code": "duplicate_session", "message": "m"})
        cloud.rooms["old"] = NextcloudRoom(without_permissions=True)
        join = {"version": "1.0", "roomid": "r1", "sessionid": "s"}
        assert (await ask(cloud, "room", join))["room"] == {
            "version": "1.0",
            "roomid": "r1",
            "properties": {"name": "One"},
            "permissions": ["control"],
            "session": {"userid": "guest"},
        }
        assert (await ask(cloud, "room", join | {"roomid": "r2"}))["error"]["code"] == "duplicate_session"
        assert (await ask(cloud, "room", join | {"roomid": "r3"}))["room"]["properties"]["name"] == "r3"
        assert "permissions" not in (await ask(cloud, "room", join | {"roomid": "old"}))["room"]
        cloud.refuse_unknown_rooms = True
        assert (await ask(cloud, "room", join | {"roomid": "r4"}))["error"]["code"] == "no_such_room"
        assert (await ask(cloud, "room", join | {"roomid": "r3", "sessionid": "s2"}))["type"] == "room"


async def test_pings_and_virtual_sessions_are_answered_as_talk_does() -> None:
    async with FakeNextcloud() as cloud:
        opened = cloud.talk.open("r", "alice")
        cloud.talk.room("r").sessions[opened].last_ping = 0
        ping = {"roomid": "r", "entries": [{"userid": "alice", "sessionid": opened}, {"sessionid": "unknown"}]}
        assert await ask(cloud, "ping", ping) == {"type": "room", "room": {"version": "1.0"}}
        assert cloud.talk.room("r").sessions[opened].last_ping > 0
        session = {"version": "1.0", "roomid": "r", "action": "add", "sessionid": "s"}
        assert (await ask(cloud, "session", session))["error"]["code"] == "unknown_type"


async def test_hook_can_answer_a_request() -> None:
    async with FakeNextcloud() as cloud:
        cloud.hook = lambda request: {"type": "other"} if request.type == "ping" else None
        assert await ask(cloud, "ping", {"roomid": "r", "entries": []}) == {"type": "other"}
        assert (await ask(cloud, "room", {"roomid": "r"}))["type"] == "room"


async def test_answers_wait_for_the_gate() -> None:
    async with FakeNextcloud() as cloud:
        cloud.gate = asyncio.Event()
        task = asyncio.create_task(ask(cloud, "room", {"roomid": "r"}))
        recorded = await cloud.wait_for(lambda request: request.type == "room")
        assert recorded.body == {"roomid": "r"}
        assert not task.done()
        cloud.gate.set()
        assert (await task)["type"] == "room"


async def test_wait_times_out_without_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake_nextcloud, "WAIT_TIMEOUT", 0.05)
    async with FakeNextcloud() as cloud:
        with pytest.raises(TimeoutError):
            await cloud.wait_for(lambda request: True)


async def test_two_servers_can_run_with_different_prefixes() -> None:
    async with FakeNextcloud() as first, FakeNextcloud(prefix="/cloud/") as second:
        assert first.url != second.url
        assert second.url.endswith("/cloud/")
        assert (await ask(second, "room", {"roomid": "r"}))["type"] == "room"
        assert second.backend("b", session_limit=3).session_limit == 3


async def test_send_before_start_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="start"):
        await FakeNextcloud().send("http://127.0.0.1:1", "r", {})
