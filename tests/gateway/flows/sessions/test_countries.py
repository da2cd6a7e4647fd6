"""The countries of clients: counted when sessions open, and passed to the SFU (reference 14.3)."""

from __future__ import annotations

from gateway.core.geolocation import LOOPBACK, UNKNOWN_COUNTRY, GeoLocation
from gateway.core.throttle import Address
from tests.gateway.flows.harness import FlowHarness
from tests.gateway.flows.virtual_time import settle

FIRST, SECOND = "192.0.2.1", "198.51.100.7"


def locate(address: Address) -> GeoLocation:
    known = {FIRST: GeoLocation("CH", "EU"), SECOND: GeoLocation("JP", "AS"), "127.0.0.1": LOOPBACK}
    return known.get(str(address), UNKNOWN_COUNTRY)


def locations(harness: FlowHarness) -> list[tuple[str, str]]:
    """Return the country and continent of the last publisher and of the last subscriber at the SFU."""
    published, subscribed = harness.mcu.published[-1].options, harness.mcu.subscribed[-1].options
    return [(published.country, published.continent), (subscribed.country, subscribed.continent)]


# reference 14.3-a
async def test_known_countries_are_counted_when_a_session_opens() -> None:
    async with FlowHarness() as harness:
        harness.services.locate = locate
        alice = await harness.hello("alice")
        await harness.internal_hello()
        await harness.resume(alice)
        for address in ("127.0.0.1", "203.0.113.1"):
            client = harness.connect(address)
            client.send_hello("bob")
            await settle()
        assert len(harness.hub.sessions) == 4
        assert harness.counters.client_countries == {"CH": 2}


async def test_sfu_receives_the_current_location_of_a_client() -> None:
    async with FlowHarness() as harness:
        harness.services.locate = locate
        alice, bob = await harness.callers("alice", "bob")
        alice.offer()
        bob.media(alice, "requestoffer")
        await settle()
        assert locations(harness) == [("CH", "EU")] * 2
        bob.disconnect()
        again = harness.connect(SECOND)
        again.send({"type": "hello", "hello": {"version": "1.0", "resumeid": bob.resumeid}})
        await settle()
        again.sessionid = bob.sessionid
        again.media(alice, "requestoffer")
        again.offer()
        await settle()
        assert locations(harness) == [("JP", "AS")] * 2
        assert again.session.location == GeoLocation("JP", "AS")


async def test_sfu_receives_no_location_of_an_unknown_address() -> None:
    async with FlowHarness() as harness:
        harness.services.locate = lambda address: LOOPBACK
        alice = await harness.hello("alice")
        alice.offer()
        await settle()
        options = harness.mcu.published[-1].options
        assert (options.country, options.continent) == ("", "")
