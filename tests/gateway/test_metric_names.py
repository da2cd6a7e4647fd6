"""The exposed metrics have the names, types and labels of deployed servers (reference 14.5).

``SERVED_METRICS`` is exposed with any SFU; the in-process SFU exposes a part of ``JANUS``; the comments of the other
groups say why these metrics are not exposed in the test.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.app import Gateway
from gateway.config import Config, GeoIpSection, HttpSection, InternalSection, McuSection, SessionsSection
from gateway.core.limits import Backend, Limits
from gateway.tools.fake_nextcloud import FakeNextcloud
from gateway.tools.talk_answers import NextcloudRoom
from gateway.tools.talk_client import RequestRefused, TalkClient
from mcu.inprocess import InprocessSettings
from tests.interop.bridge import SipBridge
from tests.interop.member import ROOM, Member
from tests.media.loopback import loopback

__all__ = ["loopback"]

SECRET = "6f1b0c7d9ae24835b6cf01d27e9a4488"
INTERNAL_SECRET = "c2b1e7a95f4d4f0f8d9e"

Row = tuple[str, str, frozenset[str]]


def rows(metric_type: str, *labels: str, of: str) -> set[Row]:
    return {(f"signaling_{name}", metric_type, frozenset(labels)) for name in of.split()}


SERVED_METRICS = (
    rows("gauge", "backend", of="hub_rooms backend_session_limit")
    | rows("gauge", "backend", "clienttype", of="hub_sessions")
    | rows("counter", "backend", "clienttype", of="hub_sessions_total hub_sessions_resume_total call_sessions_total")
    | rows("counter", of="hub_sessions_resume_failed_total")
    | rows("gauge", "backend", "room", "clienttype", of="room_sessions call_sessions")
    | rows("counter", "backend", of="call_rooms_total backend_session_limit_exceeded_total")
    | rows("counter", "backend", of="backend_client_requests_total")
    | rows("counter", "type", of="server_messages_total")
    | rows("counter", "country", of="client_countries_total")
    | rows("histogram", of="client_rtt")
    | rows("counter", "direction", of="client_bytes_total client_messages_total")
    | rows("gauge", of="backend_current")
    | rows("histogram", "backend", of="backend_client_requests_duration")
    | rows("counter", "backend", "error", of="backend_client_requests_errors_total")
    | rows("gauge", "host", of="http_client_pool_connections")
    | rows("counter", "action", "delay", of="throttle_delayed_total")
    | rows("counter", "action", of="throttle_bruteforce_total")
    | rows("gauge", "type", of="mcu_publishers mcu_subscribers")
    | rows("counter", "type", of="mcu_publishers_total mcu_subscribers_total mcu_nopublisher_total mcu_messages_total")
)

# Metrics of an SFU; most are from Janus' events (tests/mcu/janus), which the in-process SFU does not have.
JANUS = (
    rows("gauge", "type", of="mcu_publisher_streams mcu_subscriber_streams")
    | rows("gauge", "direction", of="mcu_bandwidth")
    | rows("counter", "origin", "type", "transport", "family", of="mcu_selected_candidate_total")
    | rows("counter", "state", "reason", of="mcu_peerconnection_state_total")
    | rows("counter", "state", of="mcu_ice_state_total mcu_dtls_state_total")
    | rows("counter", "media", "direction", of="mcu_slow_link_total mcu_media_nacks_total mcu_media_bytes_total")
    | rows("histogram", "media", of="mcu_media_rtt")
    | rows("histogram", "media", "origin", of="mcu_media_jitter")
    | rows("counter", "media", "codec", of="mcu_media_codecs_total")
    | rows("counter", "media", of="mcu_media_retransmissions_total")
    | rows("counter", "media", "origin", of="mcu_media_lost_total")
)

# Metrics of proxies before several Janus; here one gateway uses all (tests/mcu/janus/placement/test_several.py).
SHARED_METRICS = (
    rows("gauge", "country", of="mcu_backend_connections")
    | rows("gauge", "url", of="mcu_backend_load")
    | rows("gauge", "url", "direction", of="mcu_backend_bandwidth")
)
PROXY = rows("gauge", "url", "direction", of="mcu_backend_usage") | rows(
    "counter", "type", of="mcu_no_backend_available_total"
)

# Metrics of clusters, which do not exist here.
GRPC = rows("gauge", of="grpc_clients") | rows(
    "counter", "method", of="grpc_client_calls_total grpc_server_calls_total"
)

EXTENSIONS = rows("counter", "limit", of="limits_met_total")


def parsed(text: str) -> set[Row]:
    """Parse the metrics with the prefix ``signaling_`` that have samples."""
    found = set()
    for family in text_string_to_metric_families(text):
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        if name.startswith("signaling_") and family.samples:
            found.add((name, family.type, frozenset(labels)))
    return found


@pytest.fixture
async def nextcloud() -> AsyncIterator[FakeNextcloud]:
    async with FakeNextcloud() as fake:
        fake.rooms[ROOM] = NextcloudRoom(without_permissions=True)  # members set transient data
        yield fake


@pytest.fixture
async def small_nextcloud() -> AsyncIterator[FakeNextcloud]:
    """Yield the Nextcloud whose session limit is 1."""
    async with FakeNextcloud() as fake:
        yield fake


def config(nextcloud: FakeNextcloud, small_nextcloud: FakeNextcloud) -> Config:
    full = Backend("full", (small_nextcloud.url,), small_nextcloud.secret, session_limit=1)
    gone = Backend("gone", ("http://127.0.0.1:9/",), nextcloud.secret)
    return Config(
        sessions=SessionsSection(secret=SECRET),
        http=HttpSection(listen=("127.0.0.1:0",)),
        internal=InternalSection(secret=INTERNAL_SECRET),
        backends=(full, gone, nextcloud.backend()),
        mcu=McuSection(type="inprocess", settings=InprocessSettings(address=("127.0.0.1",)), timeout=1.0),
        geoip=GeoIpSection(overrides={"127.0.0.1": "CH"}),
        limits=Limits(transient_key_length=10),
    )


async def run_call(url: str, nextcloud: FakeNextcloud, stack: AsyncExitStack) -> None:
    """Run a call of two clients and a phone with a subscription, a missing publisher and a limit that is exceeded."""
    anna = await stack.enter_async_context(Member(url, nextcloud, "anna", 1))
    ben = await stack.enter_async_context(Member(url, nextcloud, "ben", 2))
    await stack.enter_async_context(SipBridge(url, nextcloud, INTERNAL_SECRET))
    await anna.set_in_call()
    await ben.set_in_call()
    await anna.publish()
    await ben.request_offer(anna)
    await ben.wait_for_stream(anna)
    start = len(anna.client.messages)
    await anna.request_offer(ben)
    await anna.client.wait_for(lambda message: message["type"] == "error", since=start)
    transient = {"type": "set", "key": "longer than ten", "value": 1}
    with pytest.raises(RequestRefused, match="limit_exceeded"):
        await ben.client.request("transient", transient)


async def cause_failures(url: str, small_nextcloud: FakeNextcloud, stack: AsyncExitStack) -> None:
    """Resume a session, fail to resume, exceed the session limit, and use an unreachable backend."""
    carl = await stack.enter_async_context(TalkClient(url, small_nextcloud.url))
    await carl.hello(small_nextcloud.ticket("carl"))
    await carl.connect()
    await carl.resume()
    dora = await stack.enter_async_context(TalkClient(url, small_nextcloud.url))
    with pytest.raises(RequestRefused, match="session_limit_exceeded"):
        await dora.hello(small_nextcloud.ticket("dora"))
    with pytest.raises(RequestRefused, match="no_such_session"):
        await dora.request("hello", {"version": "1.0", "resumeid": "none"})
    lost = await stack.enter_async_context(TalkClient(url, "http://127.0.0.1:9/"))
    with pytest.raises(RequestRefused, match="internal_error"):
        await lost.hello({"ticket": "x"})


async def send_wrong_checksums(url: str, nextcloud: FakeNextcloud) -> None:
    """Send wrong checksums until the address is blocked, without waiting for the delayed answers."""
    wrong = {"Spreed-Signaling-Checksum": "0" * 64}
    tasks = [asyncio.create_task(nextcloud.send(url, ROOM, {}, wrong)) for _ in range(30)]
    try:
        async with asyncio.timeout(30):  # failures of a blocked address are answered after 25 s, and counted at once
            while "signaling_throttle_bruteforce_total{" not in await scraped(url):  # noqa: ASYNC110 - metrics have no event
                await asyncio.sleep(0.1)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def scraped(url: str) -> str:
    async with aiohttp.ClientSession() as http, http.get(f"{url}/metrics") as response:
        return await response.text()


# reference 2.1-h, 14.5-a
@pytest.mark.usefixtures("loopback")
async def test_metrics_of_a_busy_gateway_have_the_names_of_the_reference(
    nextcloud: FakeNextcloud, small_nextcloud: FakeNextcloud
) -> None:
    gateway = Gateway(config(nextcloud, small_nextcloud))
    (url,) = await gateway.start()
    nextcloud.gateway = url
    try:
        async with AsyncExitStack() as stack:
            await run_call(url, nextcloud, stack)
            await cause_failures(url, small_nextcloud, stack)
            await send_wrong_checksums(url, nextcloud)
            found = parsed(await scraped(url))
    finally:
        await gateway.stop()
    assert found >= SERVED_METRICS | EXTENSIONS
    assert found <= SERVED_METRICS | EXTENSIONS | JANUS  # no other name, type or label


def test_each_metric_is_listed_once() -> None:
    lists = (SERVED_METRICS, JANUS, SHARED_METRICS, PROXY, GRPC, EXTENSIONS)
    names = [name for rows in lists for name, _, _ in rows]
    assert len(names) == len(set(names))
    assert len(names) == 52 + len(EXTENSIONS)  # deployed servers have 52
