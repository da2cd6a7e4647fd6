"""Keep-alive pings to Nextcloud (reference 4.5), in virtual time."""

from __future__ import annotations

import pytest

from gateway.core.backends import Backends
from gateway.flows.ports import NextcloudError
from gateway.wire.backend import encode_request
from tests.gateway.flows.harness import CLOUD, OTHER_CLOUD, FlowHarness
from tests.gateway.flows.virtual_time import settle


# reference 4.5-a
async def test_rooms_are_pinged_every_ten_seconds_with_the_sessions_that_nextcloud_knows() -> None:
    async with FlowHarness() as harness:
        alice, guest = await harness.member("alice"), await harness.member("")
        bob = await harness.hello("bob")
        bob.join()
        await settle()
        alice.disconnect()
        guest.received()
        harness.nextcloud.requests.clear()
        harness.pings.sweep(harness.services.clock() + 9.0)
        await settle()
        assert harness.nextcloud.requests == []
        harness.pings.sweep(harness.services.clock() + 10.0)
        await settle()
        ((backend, url, request),) = harness.nextcloud.requests
        assert (backend, url) == (CLOUD, CLOUD.urls[0])
        assert encode_request(request) == (
            b'{"type":"ping","ping":{"roomid":"r","entries":[{"userid":"alice","sessionid":"nc-alice"},'
            b'{"sessionid":"nc-"}],"version":"1.0"}}'
        )


# reference 4.5-c
async def test_ping_limit_puts_several_rooms_into_requests_of_that_size() -> None:
    async with FlowHarness() as harness:
        harness.nextcloud.ping_limit = 2
        for number in range(3):
            await harness.member(f"u{number}", f"r{number}")
        gone = await harness.member("gone", "gone")
        harness.nextcloud.requests.clear()
        now = harness.services.clock()
        harness.pings.sweep(now)
        harness.pings.sweep(now + 10.0)
        await settle()
        gone.leave()
        await settle()
        harness.nextcloud.requests.clear()
        harness.pings.sweep(now + 20.0)
        await settle()
        sent = [encode_request(request) for _, _, request in harness.nextcloud.requests]
        assert [request.count(b"userid") for request in sent] == [2, 1]
        assert all(b'"roomid":""' in request for request in sent)
        assert not [request for request in sent if b"gone" in request]


async def test_ping_limit_that_cannot_be_read_counts_as_none(caplog: pytest.LogCaptureFixture) -> None:
    async with FlowHarness() as harness:
        await harness.member("alice")
        harness.nextcloud.capabilities_error = NextcloudError("down")
        harness.nextcloud.answer = lambda request: NextcloudError("down too")
        harness.nextcloud.requests.clear()
        harness.pings.sweep(harness.services.clock() + 10.0)
        await settle()
        assert len(harness.nextcloud.requests) == 1
        assert "down too" in caplog.text


@pytest.mark.parametrize("limit", [0, 10])
async def test_sessions_of_a_removed_backend_are_still_pinged(limit: int) -> None:
    async with FlowHarness() as harness:
        harness.nextcloud.ping_limit = limit
        await harness.member("alice")
        internal = await harness.internal_hello()
        internal.join("phones")
        await settle()
        internal.send_internal("addsession", sessionid="caller", roomid="phones", userid="caller")
        await settle()
        internal.leave()
        await settle()
        harness.change_settings(backends=Backends([OTHER_CLOUD]))
        harness.nextcloud.requests.clear()
        now = harness.services.clock()
        harness.pings.sweep(now + 10.0)
        await settle()
        harness.pings.sweep(now + 20.0)
        await settle()
        sent = b"".join(encode_request(request) for _, _, request in harness.nextcloud.requests)
        assert b'"nc-alice"' in sent
        assert b'"userid":"caller"' in sent
        assert {backend for backend, _, _ in harness.nextcloud.requests} == {CLOUD}
