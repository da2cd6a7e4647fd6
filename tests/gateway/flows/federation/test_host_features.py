"""Features that the host of a federated room has to announce.

Source: reference 12.1.
"""

from __future__ import annotations

import pytest

from tests.gateway.flows.federation.fake_host import FakeHost
from tests.gateway.flows.federation.seats import harness_with, request_join
from tests.gateway.flows.harness import Json
from tests.gateway.flows.virtual_time import settle

UPGRADE, WELCOME = "upgrade response", "welcome"


def host_without_federation(*omitted: str) -> FakeHost:
    """Return a host that leaves ``federation`` out of some of its announcements, and would accept hello and join."""
    host = FakeHost("ack", "chat-relay")
    others = [feature for feature in host.features if feature != "federation"]
    if WELCOME in omitted:
        host.welcome["welcome"]["features"] = others
    if UPGRADE in omitted:
        host.features = tuple(others)
    return host


# reference 12.1-e
@pytest.mark.parametrize("omitted", [(UPGRADE,), (WELCOME,), (UPGRADE, WELCOME)], ids=" and ".join)
async def test_host_that_does_not_announce_federation_is_refused_before_the_hello(omitted: tuple[str, ...]) -> None:
    host = host_without_federation(*omitted)
    async with harness_with(host) as harness:
        client = await harness.member("alice")
        request_join(client)
        await settle()
        (refusal,) = client.received()
        assert (refusal["id"], refusal["error"]["code"]) == ("j", "federation_unsupported")
        assert harness.hub.room_of(client.session) is not None
        assert (host.connection.sent, host.connection.aborted) == ([], True)  # no token for such a host


# reference 12.1-e
@pytest.mark.parametrize("welcome", [{"version": "old"}, {"version": "old", "features": None}], ids=["none", "null"])
async def test_welcome_without_a_list_of_features_announces_none(welcome: Json) -> None:
    host = FakeHost()
    host.welcome["welcome"] = welcome
    async with harness_with(host) as harness:
        client = await harness.hello("alice")
        request_join(client)
        await settle()
        assert client.error_codes() == ["federation_unsupported"]
        assert host.connection.sent == []
