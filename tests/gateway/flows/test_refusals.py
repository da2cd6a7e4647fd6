"""Each cause of refused clients is logged as one warning that names the settings to compare, and is counted."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from gateway.core.backends import Backends
from gateway.core.limits import Limits
from gateway.core.throttle import MAX_FAILURES, ThrottledAction
from gateway.flows.end_requests import EndCause, EndRequest
from gateway.flows.refusals import INVENTED_URL_LINES, Refusals
from gateway.metrics import Counters
from gateway.tools.fake_nextcloud import SigningKey
from tests.captured_log import captured_lines
from tests.gateway.flows.harness import CLOUD, OTHER_CLOUD, WALL_TIME, FlowHarness, Json, internal_params
from tests.gateway.flows.virtual_time import settle
from tests.gateway.manual_clock import ManualClock

URL = CLOUD.urls[0]
NOW = WALL_TIME + 1000  # the virtual loop begins at 1000 s
KEY, OTHER_KEY = SigningKey(), SigningKey()


def token(key: SigningKey, **claims: Any) -> Json:
    """Return the ``auth`` of a hello 2.0."""
    given = {"iat": NOW, "exp": NOW + 300, "sub": "alice", "userdata": {}, **claims}
    return {"url": URL, "params": {"token": key.sign(given)}}


async def log_of_refused_hellos(harness: FlowHarness, auth: Json) -> list[str]:
    """Send a hello on three connections, and return the lines of the log."""
    version = "2.0" if "token" in auth["params"] and "type" not in auth else "1.0"
    with captured_lines() as lines:
        for _ in range(3):
            client = harness.connect()
            client.send({"type": "hello", "hello": {"version": version, "auth": auth}})
            await settle()
            client.disconnect()
            await settle()
    return lines


@pytest.mark.parametrize(
    ("auth", "cause", "parts"),
    [
        (
            {"url": "http://cloud.example/", "params": {}},
            ("", "unknown_backend"),
            ["hellos of clients are refused", "http://cloud.example/;", URL, "backend cloud", "the scheme differs"],
        ),
        (
            token(OTHER_KEY),
            ("cloud", "token_invalid"),
            ["backend cloud", URL, "(hello-v2-token-key) has signed"],
        ),
        (
            token(OTHER_KEY, iss="https://lab.example/"),
            ("cloud", "token_invalid"),
            ["its issuer is https://lab.example/, which is no configured backend"],
        ),
        (token(OTHER_KEY, iss=OTHER_CLOUD.urls[0]), ("cloud", "token_invalid"), ["which is backend other"]),
        (token(KEY, iat=NOW - 900, exp=NOW - 600), ("cloud", "token_time"), ["expired 600 s ago", "clocks"]),
        (token(KEY, iat=NOW + 400, exp=NOW + 900), ("cloud", "token_time"), ["issued 400 s from now", "clocks"]),
        (token(KEY, exp=0), ("cloud", "token_time"), ["never was valid"]),
        (token(KEY, nbf=NOW + 400), ("cloud", "token_time"), ["is not valid yet"]),
    ],
)
async def test_refused_hello_is_one_warning_with_the_settings_to_compare(
    auth: Json, cause: tuple[str, str], parts: list[str]
) -> None:
    async with FlowHarness() as harness:
        harness.nextcloud.keys[URL] = KEY.published
        (line,) = await log_of_refused_hellos(harness, auth)
        assert [part for part in parts if part not in line] == []
        assert auth["params"].get("token", "eyJ")[:20] not in line
        assert harness.counters.authentication_failures == {cause: 3}


async def test_nextcloud_without_a_token_key_is_named() -> None:
    async with FlowHarness() as harness:
        (line,) = await log_of_refused_hellos(harness, token(KEY))
        assert f"backend cloud is refused: {URL} announces no hello-v2-token-key" in line
        assert harness.counters.authentication_failures == {("cloud", "no_token_key"): 3}


@pytest.mark.parametrize(
    ("secret", "params", "reason"),
    [
        ("another", internal_params(URL), "compare internal.secret"),
        ("", internal_params(URL), "internal.secret is not configured"),
        (None, internal_params("https://cloud.example.org/"), "the host differs"),
    ],
)
async def test_refused_internal_client_is_logged(secret: str | None, params: Json, reason: str) -> None:
    async with FlowHarness() as harness:
        if secret is not None:
            harness.change_settings(internal_secret=secret)
        (line,) = await log_of_refused_hellos(harness, {"type": "internal", "params": params})
        assert "internal clients are refused" in line
        assert reason in line
        assert params["token"] not in line


async def test_reached_limits_are_logged_with_their_names() -> None:
    async with FlowHarness(structs.replace(CLOUD, session_limit=1)) as harness:
        await harness.hello("alice")
        auth = {"url": URL, "params": harness.nextcloud.ticket("bob")}
        (line,) = await log_of_refused_hellos(harness, auth)
        assert "clients of backend cloud are refused: it has session_limit = 1 sessions" in line
        harness.change_settings(backends=Backends([CLOUD]), limits=Limits(sessions_per_address=1))
        (line,) = await log_of_refused_hellos(harness, auth)
        assert "limits.sessions_per_address is reached" in line
        harness.change_settings(limits=Limits(connections_per_address=1))
        with captured_lines() as lines:
            client = harness.connect()
            assert not harness.dispatch.admits(client.connection.address)
        assert ["limits.connections_per_address is reached" in line for line in lines] == [True]


async def test_blocked_address_is_logged_without_the_address_and_counted() -> None:
    async with FlowHarness() as harness:
        throttling, caller = harness.services.throttling, harness.connect("192.0.2.77").client_connection
        caller.set_gone()  # no delays
        for _ in range(MAX_FAILURES):
            await throttling.record_failure(caller, ThrottledAction.ROOM_AUTH)
        assert throttling.blocked_addresses()["BackendRoomAuth"] == 1
        assert throttling.blocked_addresses()["HelloResume"] == 0
        with captured_lines() as lines:
            for _ in range(3):
                await throttling.record_failure(caller, ThrottledAction.ROOM_AUTH)
        (line,) = lines
        assert "an address is blocked" in line
        assert "BackendRoomAuth" in line
        assert "192.0.2" not in line


@pytest.mark.parametrize("changes", [{"secret": "new"}, {"urls": ("https://new.example/",)}])
async def test_reload_with_another_secret_or_url_ends_the_blocks_that_the_old_one_caused(changes: Json) -> None:
    async with FlowHarness() as harness:
        throttling, settings = harness.services.throttling, harness.services.settings
        caller = harness.connect().client_connection
        caller.set_gone()
        for _ in range(MAX_FAILURES):
            await throttling.record_failure(caller, ThrottledAction.ROOM_AUTH)
        harness.flows.apply(replace(settings, limits=Limits()))
        assert throttling.blocks(caller.address, ThrottledAction.ROOM_AUTH)
        harness.flows.apply(replace(settings, backends=Backends([structs.replace(CLOUD, **changes), OTHER_CLOUD])))
        assert not throttling.blocks(caller.address, ThrottledAction.ROOM_AUTH)


async def test_mistake_that_is_still_there_after_a_reload_is_logged_at_once() -> None:
    async with FlowHarness() as harness:
        auth = {"url": "https://unknown.example/", "params": {}}
        assert len(await log_of_refused_hellos(harness, auth)) == 1
        assert await log_of_refused_hellos(harness, auth) == []
        harness.change_settings(limits=Limits())
        (line,) = await log_of_refused_hellos(harness, auth)
        assert "(5 more before)" in line


def test_invented_urls_do_not_hide_other_causes() -> None:
    refusals = Refusals(ManualClock(), Counters())
    backends = Backends([CLOUD])
    with captured_lines() as lines:
        for number in range(10 * INVENTED_URL_LINES):
            refusals.unknown_url("hellos of clients", f"https://h{number}.example/", backends)
        refusals.wrong_checksum(CLOUD, URL)
    assert len(lines) == INVENTED_URL_LINES + 1
    assert "their signature is wrong" in lines[-1]


async def test_client_that_reads_too_slowly_is_one_warning() -> None:
    async with FlowHarness() as harness:
        with captured_lines(logging.WARNING) as lines:
            for name in ("alice", "bob"):
                client = await harness.hello(name)
                harness.services.end_requests.put_nowait(EndRequest(client.session, EndCause.OUTBOX_FULL))
                await settle()
        (line,) = lines
        assert "a session of backend cloud ends: its outbox is full (sessions.outbox_bytes)" in line
        assert harness.services.refusals.recent[-1][1] in line


async def test_answer_of_another_type_is_one_warning_that_names_backend_and_url() -> None:
    async with FlowHarness() as harness:
        client = await harness.hello("alice")
        harness.nextcloud.answer = lambda request: {"type": "other"}
        with captured_lines() as lines:
            for number in range(3):
                client.join(f"r{number}")
                await settle()
        (line,) = lines
        assert f"a request of type room to backend cloud at {URL} has an answer of another type" in line
        assert client.error_codes() == ["room_join_failed"] * 3


async def test_join_with_the_session_of_another_user_is_one_warning() -> None:
    async with FlowHarness() as harness:
        first = await harness.hello("alice")
        first.join("r", "nc1")
        await settle()
        other = await harness.hello("bob")
        with captured_lines() as lines:
            for _ in range(2):
                other.join("r", "nc1")
                await settle()
        (line,) = lines
        assert "another client is in the room with the same Nextcloud session" in line
        assert "nc1" not in line


async def test_phone_call_without_a_bridge_is_one_warning() -> None:
    async with FlowHarness() as harness:
        with captured_lines() as lines:
            for _ in range(2):
                assert (await harness.dial_out("12", {"number": "+4930123"}))[0] == 404
        (line,) = lines
        assert "a phone call of backend cloud is not started: no_client_available; see whether the SIP bridge" in line
        assert "4930123" not in line
