"""Cache of the backends' capabilities, over real HTTP and with a manual clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from gateway.edge.nextcloud import capabilities
from gateway.edge.nextcloud.backend_http import BackendHttp
from gateway.edge.nextcloud.capabilities import CapabilitiesCache
from gateway.edge.nextcloud.client import NextcloudClient
from gateway.flows.ports import NextcloudError
from gateway.tools.fake_nextcloud import FakeNextcloud, SigningKey
from gateway.wire.backend import PingRequest
from tests.captured_log import captured_lines
from tests.gateway.manual_clock import ManualClock


@pytest.fixture
async def client(clock: ManualClock) -> AsyncIterator[NextcloudClient]:
    async with NextcloudClient("test/1.0", [], clock=clock, timeout=5.0) as made:
        yield made


@pytest.fixture
async def cache(clock: ManualClock) -> AsyncIterator[CapabilitiesCache]:
    async with BackendHttp() as http:
        made = CapabilitiesCache(http, {}, clock)
        yield made
        await made.close()


def count_fetches(cloud: FakeNextcloud) -> int:
    return len(cloud.requests_of("capabilities"))


def port_of(cloud: FakeNextcloud) -> int:
    port = urlsplit(cloud.url).port
    assert port is not None
    return port


async def ping_limit(client: NextcloudClient, cloud: FakeNextcloud) -> int:
    return await client.session_ping_limit(cloud.url)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(100, 100), (2.0, 2), (0, 0), (-5, 0), ("7", 0), (None, 0), ([], 0)],
)
async def test_ping_limit_is_a_positive_number_or_none(
    client: NextcloudClient, cloud: FakeNextcloud, value: Any, expected: int
) -> None:
    cloud.signaling["session-ping-limit"] = value
    assert await ping_limit(client, cloud) == expected


# reference 3.8-a
@pytest.mark.parametrize(
    ("cache_control", "lifetime"),
    [
        ("max-age=3600", 3600),
        ("private, max-age=120", 120),
        ('Max-Age="90"', 90),
        ("max-age=10", 60),
        ("no-cache, max-age=3600", 60),
        ("s-max-age=3600", 60),
        ("max-age=-5", 60),
        ("max-age=x", 60),
        ("", 60),
    ],
)
async def test_capabilities_are_cached_for_max_age_but_at_least_a_minute(
    client: NextcloudClient, cloud: FakeNextcloud, clock: ManualClock, cache_control: str, lifetime: float
) -> None:
    cloud.cache_control = cache_control
    await ping_limit(client, cloud)
    clock.now += lifetime - 0.01
    await ping_limit(client, cloud)
    assert count_fetches(cloud) == 1
    clock.now += 0.01
    await ping_limit(client, cloud)
    assert count_fetches(cloud) == 2


# reference 3.8-a
async def test_unchanged_capabilities_are_revalidated_by_etag(
    client: NextcloudClient, cloud: FakeNextcloud, clock: ManualClock
) -> None:
    cloud.cache_control = "max-age=3600, must-revalidate"
    cloud.signaling["session-ping-limit"] = 5
    assert await ping_limit(client, cloud) == 5
    assert "If-None-Match" not in cloud.requests_of("capabilities")[0].headers
    clock.now += 3600
    assert await ping_limit(client, cloud) == 5
    assert "If-None-Match" in cloud.requests_of("capabilities")[1].headers
    clock.now += 3599
    assert await ping_limit(client, cloud) == 5
    assert count_fetches(cloud) == 2


async def test_changed_capabilities_replace_the_old_ones(
    client: NextcloudClient, cloud: FakeNextcloud, clock: ManualClock
) -> None:
    cloud.signaling["session-ping-limit"] = 5
    await ping_limit(client, cloud)
    cloud.signaling["session-ping-limit"] = 6
    assert await ping_limit(client, cloud) == 5
    clock.now += 3600
    assert await ping_limit(client, cloud) == 6


async def test_each_url_has_its_own_cache_entry(client: NextcloudClient, cloud: FakeNextcloud) -> None:
    async with FakeNextcloud() as other:
        cloud.signaling["session-ping-limit"], other.signaling["session-ping-limit"] = 1, 2
        assert await ping_limit(client, cloud) == 1
        assert await ping_limit(client, other) == 2


# reference 3.8-d
async def test_concurrent_lookups_share_one_fetch(client: NextcloudClient, cloud: FakeNextcloud) -> None:
    cloud.gate = asyncio.Event()
    tasks = [asyncio.create_task(client.token_key(cloud.url)) for _ in range(5)]
    await cloud.wait_for(lambda seen: True)
    tasks[0].cancel()  # the lookup that started the fetch; the others continue
    cloud.gate.set()
    keys = await asyncio.gather(*tasks, return_exceptions=True)
    assert keys[1:] == [cloud.key.published] * 4
    assert isinstance(keys[0], asyncio.CancelledError)
    assert count_fetches(cloud) == 1


FAILURES = {
    "maintenance": {"status": 503, "text": "{}", "content_type": "application/json"},
    "maintenance, not to be cached": {"status": 503, "headers": {"Cache-Control": "no-store, must-revalidate"}},
    "error that may be cached": {"status": 500, "headers": {"Cache-Control": "max-age=3600"}},
    "not found": {"status": 404, "text": "<html>", "content_type": "text/html"},
    "web page": {"status": 200, "text": "<html>", "content_type": "text/html"},
    "empty": {"status": 204},
    "broken JSON": {"status": 200, "text": "{", "content_type": "application/json"},
    "no OCS document": {"status": 200, "text": "{}", "content_type": "application/json"},
    "failure of OCS": {
        "status": 200,
        "text": '{"ocs":{"meta":{"status":"failure","statuscode":997},"data":[]}}',
        "content_type": "application/json",
    },
    "not modified, though none are cached": {"status": 304, "headers": {"Cache-Control": "max-age=3600"}},
}


# reference 3.8-c
@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
async def test_failure_is_not_cached_as_an_answer(
    client: NextcloudClient, cloud: FakeNextcloud, clock: ManualClock, failure: dict[str, Any]
) -> None:
    cloud.hook = lambda seen: web.Response(**failure) if seen.type == "capabilities" else None
    with pytest.raises(NextcloudError, match="not usable"):
        await client.token_key(cloud.url)
    with pytest.raises(NextcloudError, match="not usable"):
        await client.supports(cloud.url, "signaling-v3")
    cloud.hook = None
    clock.now += capabilities.RETRY_PAUSE
    assert await client.supports(cloud.url, "signaling-v3")
    assert await client.token_key(cloud.url) == cloud.key.published


# reference 3.8-c
@pytest.mark.parametrize("failure", list(FAILURES.values())[:-1], ids=list(FAILURES)[:-1])
async def test_cached_capabilities_outlast_a_failure(
    client: NextcloudClient, cloud: FakeNextcloud, clock: ManualClock, failure: dict[str, Any]
) -> None:
    cloud.signaling["session-ping-limit"] = 5
    await ping_limit(client, cloud)
    clock.now += 3600
    cloud.hook = lambda seen: web.Response(**failure)
    for _ in range(5):
        assert await ping_limit(client, cloud) == 5
    assert count_fetches(cloud) == 2
    cloud.hook = None
    cloud.signaling["session-ping-limit"] = 6
    clock.now += capabilities.RETRY_PAUSE
    assert await ping_limit(client, cloud) == 6


# reference 3.7-a
async def test_requests_use_the_current_path_while_the_capabilities_cannot_be_fetched(
    client: NextcloudClient, cloud: FakeNextcloud
) -> None:
    cloud.hook = lambda seen: web.Response(status=503) if seen.type == "capabilities" else None
    await client.ask(cloud.backend(), cloud.url, PingRequest("r", ()))
    assert [seen.path for seen in cloud.requests_of("ping")] == ["/ocs/v2.php/apps/spreed/api/v3/signaling/backend"]


@pytest.mark.parametrize("body", [b"{", b"[]", b"7", b"[" * 100_000, b"\xff"])
async def test_cached_capabilities_outlast_an_answer_that_is_no_json_object(
    client: NextcloudClient, cloud: FakeNextcloud, clock: ManualClock, body: bytes
) -> None:
    cloud.signaling["session-ping-limit"] = 5
    await ping_limit(client, cloud)
    clock.now += 3600
    cloud.hook = lambda seen: web.Response(body=body, content_type="application/json")
    assert await ping_limit(client, cloud) == 5


# reference 3.8-c
@pytest.mark.parametrize(
    "data",
    [
        {},
        [],
        {"capabilities": []},
        {"capabilities": {}},
        {"capabilities": {"spreed": []}},
        {"capabilities": {"spreed": {"features": {}, "config": []}}},
        {"capabilities": {"spreed": {"features": [7, None, []], "config": {"signaling": []}}}},
    ],
)
async def test_answer_without_talk_replaces_the_capabilities_by_none(
    client: NextcloudClient, cloud: FakeNextcloud, clock: ManualClock, data: Any
) -> None:
    cloud.signaling["session-ping-limit"] = 5
    await ping_limit(client, cloud)
    clock.now += 3600
    cloud.hook = lambda seen: data
    assert await ping_limit(client, cloud) == 0
    cloud.hook = None
    clock.now += capabilities.RETRY_PAUSE
    assert await ping_limit(client, cloud) == 5


# reference 3.8-b
async def test_unreachable_backend_keeps_its_cached_capabilities(cache: CapabilitiesCache, clock: ManualClock) -> None:
    async with FakeNextcloud() as cloud:
        port = port_of(cloud)
        assert "signaling-v3" in (await cache.get(cloud.url))[0].features
        await cloud.close()
        clock.now += 3600
        assert "signaling-v3" in (await cache.get(cloud.url))[0].features
        await cloud.start(port=port)
        await cache.get(cloud.url)
        assert count_fetches(cloud) == 1
        clock.now += capabilities.RETRY_PAUSE
        assert "signaling-v3" in (await cache.get(cloud.url))[0].features
        assert "If-None-Match" in cloud.requests_of("capabilities")[1].headers


# reference 3.8-b
async def test_capabilities_of_an_unreachable_backend_are_fetched_each_time_until_they_are_known(
    cache: CapabilitiesCache,
) -> None:
    async with FakeNextcloud() as cloud:
        port = port_of(cloud)
        await cloud.close()
        assert (await cache.get(cloud.url))[0].features == frozenset()
        await cloud.start(port=port)
        assert "signaling-v3" in (await cache.get(cloud.url))[0].features


async def test_timeout_counts_as_unreachable(clock: ManualClock, cloud: FakeNextcloud) -> None:
    cloud.gate = asyncio.Event()
    async with NextcloudClient("test/1.0", [], clock=clock, timeout=0.2) as client:
        with pytest.raises(NextcloudError, match="did not answer in time"):
            await client.token_key(cloud.url)
        cloud.gate.set()
        assert await client.token_key(cloud.url) == cloud.key.published


# --- the key of hello 2.0


# reference 3.3-d
async def test_missing_key_in_cached_capabilities_forces_a_refresh(
    client: NextcloudClient, cloud: FakeNextcloud
) -> None:
    cloud.signaling = {}
    await ping_limit(client, cloud)
    key = SigningKey()
    cloud.signaling = {"hello-v2-token-key": key.published}
    assert await client.token_key(cloud.url) == key.published
    assert count_fetches(cloud) == 2


async def test_missing_key_in_fresh_capabilities_forces_no_refresh(
    client: NextcloudClient, cloud: FakeNextcloud
) -> None:
    cloud.signaling = {}
    assert await client.token_key(cloud.url) == ""
    assert count_fetches(cloud) == 1


# reference 3.3-d
async def test_refresh_is_forced_once_a_minute_at_most(
    client: NextcloudClient, cloud: FakeNextcloud, clock: ManualClock
) -> None:
    cloud.signaling = {"hello-v2-token-key": ["not a text"]}
    await ping_limit(client, cloud)
    for _ in range(3):
        assert await client.token_key(cloud.url) == ""
    assert count_fetches(cloud) == 2
    clock.now += 59.9
    await client.token_key(cloud.url)
    assert count_fetches(cloud) == 2
    clock.now += 0.1
    await client.token_key(cloud.url)
    assert count_fetches(cloud) == 3


async def test_cached_key_forces_no_refresh(client: NextcloudClient, cloud: FakeNextcloud) -> None:
    for _ in range(3):
        assert await client.token_key(cloud.url) == cloud.key.published
    assert count_fetches(cloud) == 1


# reference 3.3-d
async def test_key_that_may_be_old_is_fetched_again_once_in_an_interval(
    client: NextcloudClient, cloud: FakeNextcloud, clock: ManualClock
) -> None:
    old = await client.token_key(cloud.url)
    assert await client.renewed_token_key(cloud.url, old) == ""
    assert count_fetches(cloud) == 2
    new = SigningKey().published
    cloud.signaling["hello-v2-token-key"] = new
    for _ in range(20):
        assert await client.renewed_token_key(cloud.url, old) == ""
    assert count_fetches(cloud) == 2
    clock.now += capabilities.RENEW_INTERVAL
    assert await client.renewed_token_key(cloud.url, old) == new
    assert await client.renewed_token_key(cloud.url, old) == new
    assert await client.token_key(cloud.url) == new
    assert count_fetches(cloud) == 3


async def test_concurrent_renewals_share_one_fetch(client: NextcloudClient, cloud: FakeNextcloud) -> None:
    old = await client.token_key(cloud.url)
    cloud.signaling["hello-v2-token-key"] = new = SigningKey().published
    renewals = [client.renewed_token_key(cloud.url, old) for _ in range(20)]
    assert await asyncio.gather(*renewals) == [new] * 20
    assert count_fetches(cloud) == 2


async def test_key_outlasts_a_renewal_that_fails(client: NextcloudClient, cloud: FakeNextcloud) -> None:
    key = await client.token_key(cloud.url)
    cloud.hook = lambda seen: web.Response(status=503)
    with pytest.raises(NextcloudError, match="capabilities of the backend are not usable"):
        await client.renewed_token_key(cloud.url, key)
    assert await client.token_key(cloud.url) == key


# reference 3.3-h
async def test_key_and_features_that_could_not_be_fetched_are_an_error_and_not_missing(
    client: NextcloudClient, cloud: FakeNextcloud, clock: ManualClock
) -> None:
    cloud.hook = lambda seen: web.Response(status=503)
    for _ in range(2):  # the second lookup falls into the pause after the failed fetch
        with pytest.raises(NextcloudError):
            await client.token_key(cloud.url)
        with pytest.raises(NextcloudError):
            await client.supports(cloud.url, "federation-v2")
    assert await ping_limit(client, cloud) == 0
    cloud.hook = None
    clock.now += capabilities.RETRY_PAUSE
    assert await client.token_key(cloud.url) == cloud.key.published
    cloud.signaling = {}
    clock.now += 86_400
    assert await client.token_key(cloud.url) == ""  # Nextcloud has answered that there is none
    assert not await client.supports(cloud.url, "something else")


# --- bounds


async def test_cache_drops_the_least_recently_used_url(
    cache: CapabilitiesCache, cloud: FakeNextcloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capabilities, "MAX_ENTRIES", 3)
    urls = [cloud.url + "./" * number for number in range(4)]  # all lead to the fake
    for url in [*urls[:3], urls[0], urls[3]]:
        await cache.get(url)
    assert (await cache.get(urls[0]))[1]
    assert (await cache.get(urls[2]))[1]
    assert not (await cache.get(urls[1]))[1]


async def test_failures_are_logged_once_a_minute_each(
    client: NextcloudClient, cloud: FakeNextcloud, clock: ManualClock
) -> None:
    cloud.hook = lambda seen: web.Response(status=503)
    with captured_lines() as lines:
        for _ in range(3):
            await ping_limit(client, cloud)
            clock.now += capabilities.RETRY_PAUSE
        await cloud.close()
        await ping_limit(client, cloud)
        clock.now += 60
        await ping_limit(client, cloud)
    assert [cloud.url in line for line in lines] == [True] * 3
    assert ["status 503" in line for line in lines] == [True, False, False]
