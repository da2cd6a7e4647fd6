"""Each cause for which a client does not get into a room of another server is logged as one warning."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.core.limits import FederationRules
from tests.captured_log import captured_lines
from tests.gateway.flows.federation.fake_host import NO_ANSWER, FakeHost, error
from tests.gateway.flows.federation.seats import harness_with, request_join, seated_client
from tests.gateway.flows.virtual_time import settle


@pytest.mark.parametrize(
    ("attribute", "value", "part"),
    [
        ("unavailable", "network_error", "it could not be reached within federation.timeout"),
        ("unavailable", "certificate_verification_error", "its certificate could not be verified"),
        ("unavailable", "not_allowed", "scheme or port of its URL are not allowed; see federation.ports"),
        ("hello", error("invalid_backend"), "it refuses the hello (invalid_backend); compare the backends there"),
        ("welcome", {"type": "welcome", "welcome": {"features": []}}, "it does not support federation"),
        ("join", error("no_such_room"), "it refuses the join (no_such_room)"),
        ("join", NO_ANSWER, "it has not answered a join within federation.timeout"),
    ],
)
async def test_failed_join_is_one_warning_that_names_backend_and_server(attribute: str, value: Any, part: str) -> None:
    host = FakeHost()
    setattr(host, attribute, value)
    async with harness_with(host) as harness:
        client = await harness.hello("alice")
        with captured_lines() as lines:
            for _ in range(2):
                request_join(client)
                await asyncio.sleep(15.0)
        assert len(client.error_codes()) == 2
        (line,) = lines
        assert f"a room of the server https://host.example/ cannot be used by clients of backend cloud: {part}" in line
        assert harness.services.refusals.recent[-1][1] in line


async def test_disabled_federation_is_one_warning() -> None:
    async with harness_with(FakeHost()) as harness:
        harness.change_settings(federation=FederationRules(enabled=False))
        client = await harness.hello("alice")
        with captured_lines() as lines:
            request_join(client)
            await settle()
        assert ["federation.enabled is false here" in line for line in lines] == [True]


async def test_host_that_stays_away_is_one_warning_a_minute() -> None:
    host = FakeHost()
    async with harness_with(host) as harness:
        await seated_client(harness)
        with captured_lines() as lines:
            host.unavailable = True
            host.connection.lose()
            await asyncio.sleep(30.0)
        assert len(host.connects) > 2
        assert ["could not be reached" in line for line in lines if "area=refusals" in line] == [True]


async def test_withdrawn_join_is_no_refusal() -> None:
    host = FakeHost()
    host.join = NO_ANSWER
    async with harness_with(host) as harness:
        client = await harness.hello("alice")
        with captured_lines() as lines:
            request_join(client)
            await settle()
            client.leave()
            await settle()
        assert [line for line in lines if "area=refusals" in line] == []
