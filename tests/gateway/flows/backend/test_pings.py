"""Keep-alive pings to Nextcloud (reference 4.5), in virtual time."""

from __future__ import annotations

import pytest

from gateway.core.backends import Backends
from gateway.flows.ports import NextcloudError
from gateway.wire.backend import encode_request
from tests.gateway.flows.house import CLOUD, OTHER, House, Talker
from tests.gateway.flows.virtual_time import settle


def join(talker: Talker, room: str = "r") -> None:
    talker.say({"id": "j", "type": "room", "room": {"roomid": room}})


async def test_rooms_are_pinged_every_ten_seconds_with_those_that_nextcloud_knows() -> None:
    async with House() as house:
        alice, guest = await house.member("alice"), await house.member("")
        bob = await house.open("bob")
        join(bob)
        await settle()
        alice.lose()
        guest.heard()
        house.nextcloud.asked.clear()
        house.pings.sweep(house.services.clock() + 9.0)
        await settle()
        assert house.nextcloud.asked == []
        house.pings.sweep(house.services.clock() + 10.0)
        await settle()
        ((backend, url, request),) = house.nextcloud.asked
        assert (backend, url) == (CLOUD, CLOUD.urls[0])
        assert encode_request(request) == (
            b'{"type":"ping","ping":{"roomid":"r","entries":[{"userid":"alice","sessionid":"nc-alice"},'
            b'{"sessionid":"nc-"}],"version":"1.0"}}'
        )


async def test_limit_of_entries_gathers_rooms_into_requests_of_that_size() -> None:
    async with House() as house:
        house.nextcloud.ping_limit = 2
        for number in range(3):
            await house.member(f"u{number}", f"r{number}")
        gone = await house.member("gone", "gone")
        house.nextcloud.asked.clear()
        now = house.services.clock()
        house.pings.sweep(now)
        house.pings.sweep(now + 10.0)
        await settle()
        join(gone, "")
        await settle()
        house.nextcloud.asked.clear()
        house.pings.sweep(now + 20.0)
        await settle()
        sent = [encode_request(request) for _, _, request in house.nextcloud.asked]
        assert [it.count(b"userid") for it in sent] == [2, 1]
        assert all(b'"roomid":""' in it for it in sent)
        assert not [it for it in sent if b"gone" in it]


async def test_ping_limit_that_cannot_be_asked_for_means_none(caplog: pytest.LogCaptureFixture) -> None:
    async with House() as house:
        await house.member("alice")
        house.nextcloud.capabilities_error = NextcloudError("down")
        house.nextcloud.answer = lambda request: NextcloudError("down too")
        house.nextcloud.asked.clear()
        house.pings.sweep(house.services.clock() + 10.0)
        await settle()
        assert len(house.nextcloud.asked) == 1
        assert "down too" in caplog.text


@pytest.mark.parametrize("limit", [0, 10])
async def test_sessions_of_a_backend_that_is_configured_no_more_are_still_pinged_for(limit: int) -> None:
    async with House() as house:
        house.nextcloud.ping_limit = limit
        await house.member("alice")
        internal = await house.open_internal()
        join(internal, "phones")
        await settle()
        add = {"sessionid": "caller", "roomid": "phones", "userid": "caller"}
        internal.say({"type": "internal", "internal": {"type": "addsession", "addsession": add}})
        await settle()
        join(internal, "")
        await settle()
        house.services.backends.become(Backends([OTHER]))
        house.nextcloud.asked.clear()
        now = house.services.clock()
        house.pings.sweep(now + 10.0)
        await settle()
        house.pings.sweep(now + 20.0)
        await settle()
        sent = b"".join(encode_request(request) for _, _, request in house.nextcloud.asked)
        assert b'"nc-alice"' in sent
        assert b'"userid":"caller"' in sent
        assert {backend for backend, _, _ in house.nextcloud.asked} == {CLOUD}
