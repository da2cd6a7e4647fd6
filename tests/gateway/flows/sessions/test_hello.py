"""Hello: sessions opened and refused, and the time limits before a session (reference 2.3-2.5, 3)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.core.backends import Backends
from gateway.core.limits import Backend
from gateway.flows.ports import NextcloudError
from gateway.tools.fake_nextcloud import SigningKey
from gateway.wire.backend import AuthRequest
from tests.gateway.flows.harness import CLOUD, OTHER_CLOUD, FakeClient, FlowHarness, Json
from tests.gateway.flows.virtual_time import settle

URL = CLOUD.urls[0]


def send_hello(client: FakeClient, version: Any = "1.0", **body: Any) -> None:
    client.send({"id": "hello", "type": "hello", "hello": {"version": version, **body}})


# reference 2.3-a
async def test_client_receives_the_welcome_message_at_once() -> None:
    async with FlowHarness() as harness:
        assert harness.connect().received() == [
            {"type": "welcome", "welcome": {"version": "test/1.0", "features": ["a", "b", "internal"]}}
        ]


# reference 3.5-b
async def test_hello_of_a_user_opens_a_session() -> None:
    async with FlowHarness() as harness:
        client = harness.connect()
        client.received()
        client.send_hello("alice", features=["x"])
        await settle()
        (reply,) = client.received()
        body = reply.pop("hello")
        assert reply == {"id": "hello", "type": "hello"}
        assert body["sessionid"] != body["resumeid"]
        assert (body["version"], body["userid"]) == ("1.0", "alice")
        assert body["server"] == {"version": "test/1.0", "features": ["a", "b"]}
        assert harness.hub.sessions[body["sessionid"]].features == ("x",)


# reference 3.2-b
async def test_params_reach_nextcloud_byte_for_byte() -> None:
    async with FlowHarness() as harness:
        client = harness.connect()
        client.send('{"type":"hello","hello":{"version":"1.0","auth":{"url":"' + URL + '","params":{ "a" : 1e2 }}}}')
        await settle()
        ((backend, url, request),) = harness.nextcloud.requests
        assert isinstance(request, AuthRequest)
        assert (backend, url, bytes(request.params)) == (CLOUD, URL, b'{ "a" : 1e2 }')


async def test_guest_has_an_empty_user_id() -> None:
    async with FlowHarness() as harness:
        client = harness.connect()
        client.received()
        client.send_hello()
        await settle()
        assert client.received()[0]["hello"]["userid"] == ""


# reference 3.1-c
@pytest.mark.parametrize("url", [URL, URL[:-1], "https://cloud.example:443", URL + "ocs/v2.php/apps/spreed/api/v1"])
async def test_backend_is_found_by_each_form_of_its_url(url: str) -> None:
    async with FlowHarness() as harness:
        client = harness.connect()
        client.send_hello("alice", url=url)
        await settle()
        assert client.received()[-1]["type"] == "hello"
        assert harness.nextcloud.requests[0][1] == URL


# reference 3.1-a
@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "invalid_hello_version"),
        ({"version": "3.0"}, "invalid_hello_version"),
        ({"version": None}, "invalid_hello_version"),
        ({"version": "3.0", "resumeid": "x"}, "invalid_hello_version"),
        ({"version": "1.0"}, "invalid_format"),
        ({"version": "1.0", "auth": {"url": URL}}, "invalid_format"),
        ({"version": "1.0", "auth": {"url": URL, "params": None}}, "invalid_format"),
        ({"version": "1.0", "auth": {"params": {}}}, "invalid_format"),
        ({"version": "1.0", "auth": {"url": "cloud.example", "params": {}}}, "invalid_format"),
        ({"version": "1.0", "auth": {"url": URL, "params": {}, "type": "robot"}}, "invalid_format"),
        ({"version": "1.0", "auth": {"url": URL, "params": {}, "type": "virtual"}}, "invalid_format"),
        ({"version": "1.0", "auth": {"url": URL, "params": {}, "type": "federation"}}, "invalid_ticket"),
        ({"version": "1.0", "auth": {"url": "https://nobody.example/", "params": {}}}, "invalid_backend"),
        ({"version": "1.0", "auth": {"url": "http://cloud.example/", "params": {}}}, "invalid_backend"),
        ({"version": "1.0", "auth": {"url": URL, "params": {"userid": "a", "ticket": "forged"}}}, "invalid_ticket"),
        ({"version": "2.0", "auth": {"url": URL, "params": {}}}, "invalid_format"),
        ({"version": "2.0", "auth": {"url": URL, "params": {"token": ""}}}, "invalid_format"),
        ({"version": "2.0", "auth": {"url": URL, "params": {"token": 5}}}, "invalid_format"),
        ({"version": "2.0", "auth": {"url": URL, "params": {"token": "junk"}}}, "invalid_token"),
        ({"version": "2.0", "auth": {"url": "https://nobody.example/", "params": {"token": "x"}}}, "invalid_backend"),
        ({"version": "2.0", "auth": {"url": "https://nobody.example/", "params": {}}}, "invalid_format"),
        ({"version": "2.0", "auth": {"url": URL, "params": {}, "type": "federation"}}, "invalid_format"),
        (
            {"version": "2.0", "auth": {"url": URL, "params": {"token": "x"}, "type": "federation"}},
            "federation_unsupported",
        ),
        ({"version": "1.0", "resumeid": "junk"}, "no_such_session"),
    ],
)
async def test_refused_hello_may_be_repeated(body: Json, code: str) -> None:
    async with FlowHarness() as harness:
        harness.nextcloud.keys[URL] = SigningKey().published
        client = harness.connect()
        client.received()
        client.send({"id": "hello", "type": "hello", "hello": body})
        await asyncio.sleep(0.15)  # a forged resume id is answered late
        (reply,) = client.received()
        assert (reply["id"], reply["type"], reply["error"]["code"]) == ("hello", "error", code)
        assert harness.hub.sessions == {}
        client.send_hello("alice")
        await settle()
        assert client.received()[0]["type"] == "hello"


# reference 3.2-c
@pytest.mark.parametrize(
    ("answer", "code", "message"),
    [
        ({"type": "error", "error": {"code": "x", "message": "y", "details": {"z": 1}}}, "x", "y"),
        ({"type": "error", "error": {"code": "x"}}, "x", ""),
        ({"type": "error"}, "auth_failed", "The user could not be authenticated."),
        ({"type": "auth"}, "auth_failed", "The user could not be authenticated."),
        ({"type": "room", "room": {}}, "auth_failed", "The user could not be authenticated."),
        (NextcloudError("incomplete OCS response"), "internal_error", "incomplete OCS response"),
    ],
)
async def test_hello_that_nextcloud_does_not_confirm_is_refused(
    answer: Json | NextcloudError, code: str, message: str
) -> None:
    async with FlowHarness() as harness:
        harness.nextcloud.answer = lambda request: answer
        client = harness.connect()
        client.received()
        client.send_hello("alice")
        await settle()
        (reply,) = client.received()
        assert (reply["error"]["code"], reply["error"]["message"]) == (code, message)
        if isinstance(answer, dict) and "details" in answer.get("error", {}):
            assert reply["error"]["details"] == {"z": 1}


# -- limits and order


# reference 3.5-a
async def test_session_limit_leaves_the_client_free_to_try_again() -> None:
    small = Backend("small", ("https://small.example/",), "secret", session_limit=1)
    async with FlowHarness(small) as harness:
        first = await harness.hello("a", small)
        client = harness.connect()
        client.received()
        client.send_hello("b", url=small.urls[0])
        await settle()
        assert client.error_codes() == ["session_limit_exceeded"]
        first.send({"type": "bye"})
        client.send_hello("b", url=small.urls[0])
        await settle()
        assert client.received()[0]["type"] == "hello"


# reference 2.4-c
async def test_other_message_before_the_hello_is_answered_with_hello_expected() -> None:
    async with FlowHarness() as harness:
        client = harness.connect()
        client.received()
        for type in ("room", "bye", "future"):
            client.send({"id": type, "type": type, type: {}})
        assert client.error_codes() == ["hello_expected"] * 3
        client.send({"id": "1"})
        client.send({"id": "1", "type": "message", "message": {}})
        client.send({"id": "1", "type": "hello"})
        client.send({"id": "1", "type": "hello", "hello": None})
        assert client.error_codes() == ["invalid_format"] * 4
        client.send("junk")
        client.send('{"id":1}')
        harness.dispatch.received_binary(client.client_connection)
        assert all("id" not in message for message in client.received())


async def test_messages_before_a_session_are_counted() -> None:
    async with FlowHarness() as harness:
        alice = await harness.hello("alice")
        alice.disconnect()
        await harness.resume(alice)
        stranger = harness.connect()
        stranger.send({"type": "future"})
        stranger.send({"type": "room"})
        assert harness.counters.messages == {"hello": 2, "unknown": 1, "room": 1}


# reference 2.4-d
async def test_second_hello_is_ignored() -> None:
    async with FlowHarness() as harness:
        client = await harness.hello("alice")
        client.send_hello("bob")
        send_hello(client, resumeid=client.resumeid)
        await settle()
        assert client.received() == []
        assert len(harness.hub.sessions) == 1


# reference 3.5-c
async def test_client_that_disconnects_before_the_answer_of_nextcloud_leaves_no_session() -> None:
    async with FlowHarness() as harness:
        harness.nextcloud.gate = asyncio.Event()
        client = harness.connect()
        client.send_hello("alice")
        await settle()
        client.disconnect()
        harness.nextcloud.gate.set()
        await settle()
        assert harness.hub.sessions == {}


# reference 2.1-i
async def test_messages_behind_a_slow_hello_wait_for_it() -> None:
    async with FlowHarness() as harness:
        harness.nextcloud.gate = asyncio.Event()
        client = harness.connect()
        client.received()
        client.send_hello("alice")
        client.join()
        client.leave()
        await settle()
        assert client.received() == []
        harness.nextcloud.gate.set()
        await settle()
        messages = client.received()
        assert [message.get("id") for message in messages if "id" in message] == ["hello", "join", "leave"]


# -- timers (2.5)


# reference 2.5-a
async def test_client_without_a_hello_receives_bye_after_two_seconds() -> None:
    async with FlowHarness() as harness:
        client = harness.connect()
        client.received()
        await harness.sweep(1.9)
        assert client.received() == []
        await harness.sweep(0.1)
        assert client.received() == [{"type": "bye", "bye": {"reason": "hello_timeout"}}]
        assert client.connection.finished


# reference 2.5-a
async def test_hello_timer_is_suspended_during_the_request_and_restarts_after_a_refusal() -> None:
    async with FlowHarness() as harness:
        harness.nextcloud.gate = asyncio.Event()
        client = harness.connect()
        client.received()
        send_hello(client, auth={"url": URL, "params": {"userid": "x"}})
        await harness.sweep(5.0)
        assert client.received() == []
        harness.nextcloud.gate.set()
        await settle()
        assert client.error_codes() == ["invalid_ticket"]
        await harness.sweep(1.9)
        assert client.received() == []
        await harness.sweep(0.1)
        assert client.received()[0]["bye"]["reason"] == "hello_timeout"


async def test_hello_after_the_hello_timeout_is_ignored() -> None:
    async with FlowHarness() as harness:
        victim = await harness.hello("victim")
        asked = len(harness.nextcloud.requests)
        client = harness.connect()
        client.received()
        await harness.sweep(1.95)
        send_hello(client, resumeid=victim.resumeid[:-4] + "junk")  # is answered after 0.1 s
        client.send_hello("alice")
        await asyncio.sleep(0.05)
        harness.dispatch.sweep(harness.services.clock())
        assert client.received() == [{"type": "bye", "bye": {"reason": "hello_timeout"}}]
        await asyncio.sleep(1)
        assert list(harness.hub.sessions) == [victim.sessionid]
        assert len(harness.nextcloud.requests) == asked


# reference 2.5-a
async def test_failed_resume_does_not_restart_the_hello_timer() -> None:
    async with FlowHarness() as harness:
        client = harness.connect()
        client.received()
        await harness.sweep(1.5)
        send_hello(client, resumeid="junk")
        await harness.sweep(0.4)
        assert client.error_codes() == ["no_such_session"]
        await harness.sweep(0.1)
        assert client.received()[0]["bye"]["reason"] == "hello_timeout"


# reference 2.5-b
async def test_anonymous_client_must_join_in_ten_seconds_also_while_disconnected() -> None:
    async with FlowHarness() as harness:
        connected, away, user = (
            await harness.hello(""),
            await harness.hello(""),
            await harness.hello("alice"),
        )
        away.disconnect()
        await harness.sweep(9.9)
        assert len(harness.hub.sessions) == 3
        await harness.sweep(0.1)
        assert connected.received() == [{"type": "bye", "bye": {"reason": "room_join_timeout"}}]
        assert connected.connection.finished
        assert list(harness.hub.sessions) == [user.sessionid]


async def test_hello_opens_a_session_of_the_backend_in_its_url() -> None:
    async with FlowHarness() as harness:
        alice, eve = await harness.hello("alice"), await harness.hello("alice", OTHER_CLOUD)
        assert alice.session.backend is CLOUD
        assert eve.session.backend is OTHER_CLOUD


# -- the URL for requests to Nextcloud (3.6)


APPENDED_PATHS = ["", "apps/files/uploaded.json", "index.php/s/x/", "ocs/v2.php/apps/spreed/api/v1/signaling/backend"]


# reference 3.6-e
@pytest.mark.parametrize("appended", APPENDED_PATHS)
async def test_only_the_configured_url_authenticates_a_client(appended: str) -> None:
    async with FlowHarness() as harness:
        for url in (f"https://cloud.example/{appended}", f"HTTPS://CLOUD.example:443/{appended}"):
            client = harness.connect()
            client.send_hello("alice", url=url)
            await settle()
            assert client.received()[-1]["type"] == "hello"
            client.join()
            await settle()
        assert {(backend.id, url) for backend, url, _ in harness.nextcloud.requests} == {("cloud", CLOUD.urls[0])}


# reference 3.6-e
@pytest.mark.parametrize("client_type", ["client", "federation"])
@pytest.mark.parametrize("appended", APPENDED_PATHS[1:3])
async def test_only_the_configured_url_has_the_key_of_tokens(appended: str, client_type: str) -> None:
    async with FlowHarness() as harness:
        harness.nextcloud.features = {"federation-v2"}
        harness.nextcloud.keys[f"https://cloud.example/{appended}"] = "the key of a user"
        asked: list[str] = []
        original = harness.nextcloud.token_key

        async def token_key(url: str) -> str:
            asked.append(url)
            return await original(url)

        harness.nextcloud.token_key = token_key  # type: ignore[method-assign]
        client = harness.connect()
        client.received()
        auth = {"type": client_type, "url": f"https://cloud.example/{appended}", "params": {"token": "x.y.z"}}
        client.send({"type": "hello", "hello": {"version": "2.0", "auth": auth}})
        await settle()
        assert client.error_codes() == ["invalid_token"]
        assert asked == [CLOUD.urls[0]]


# reference 3.1-d
@pytest.mark.parametrize(
    "url",
    [
        "https://cloud.example/a/..%2Fb/",
        "https://cloud.example/a/%2e%2e/b/",
        "https://cloud.example/%252e%252e/",
        "https://user@cloud.example/",
        "https://cloud.example@other.example/",
        "https://cloud.example/?x",
    ],
)
@pytest.mark.parametrize("version", ["1.0", "2.0"])
async def test_url_that_two_programs_may_read_differently_is_invalid(url: str, version: str) -> None:
    async with FlowHarness() as harness:
        client = harness.connect()
        client.received()
        auth = {"url": url, "params": {"token": "x.y.z"}}
        client.send({"type": "hello", "hello": {"version": version, "auth": auth}})
        await settle()
        assert client.error_codes() == ["invalid_format"]
        assert harness.nextcloud.requests == []


# reference 3.6-e
async def test_open_sessions_ask_at_the_url_of_a_reloaded_backend() -> None:
    async with FlowHarness() as harness:
        alice, internal = await harness.hello("alice"), await harness.internal_hello()
        moved = Backend("cloud", ("https://New.example/",), CLOUD.secret)
        harness.change_settings(backends=Backends([moved, OTHER_CLOUD]))
        harness.nextcloud.requests.clear()
        alice.join("r", "nc")
        await settle()
        assert [url for _, url, _ in harness.nextcloud.requests] == ["https://new.example/"]
        assert internal.session.url == "https://new.example/"
