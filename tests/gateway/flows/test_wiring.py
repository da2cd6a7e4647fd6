"""The wiring: settings that are replaced as a whole, and the service that ends sessions for other flows."""

from __future__ import annotations

import dataclasses

import pytest

from gateway.core.backends import Backends
from gateway.core.limits import Backend, Limits
from gateway.flows.end_requests import EndCause, EndRequest
from tests.gateway.flows.harness import CLOUD, OTHER_CLOUD, FlowHarness
from tests.gateway.flows.virtual_time import settle


async def test_changed_settings_reach_open_sessions_and_leave_the_old_snapshot_as_it_was() -> None:
    async with FlowHarness() as harness:
        alice = await harness.hello("alice")
        before = harness.services.settings
        changed = Backend("cloud", CLOUD.urls, "another secret")
        harness.flows.apply(
            dataclasses.replace(before, backends=Backends([changed, OTHER_CLOUD]), limits=Limits(publishers=7))
        )
        assert alice.session.backend is changed
        assert harness.services.backends.by_id("cloud") is changed
        assert harness.services.settings.limits.publishers == 7
        assert (before.backends.by_id("cloud"), before.limits) == (CLOUD, Limits())
        with pytest.raises(dataclasses.FrozenInstanceError):
            before.limits = Limits()  # type: ignore[misc]  # frozen, as this test checks


async def test_session_that_cannot_be_ended_does_not_prevent_the_end_of_others(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with FlowHarness() as harness:
        alice, bob = await harness.hello("alice"), await harness.hello("bob")
        with monkeypatch.context() as patch:
            patch.setattr(harness.hub, "close", lambda session: 1 / 0)
            harness.services.end_requests.put_nowait(EndRequest(alice.session, EndCause.OUTBOX_FULL))
            await settle()
        harness.services.end_requests.put_nowait(EndRequest(bob.session, EndCause.OUTBOX_FULL))
        await settle()
        assert list(harness.hub.sessions) == [alice.sessionid]
        assert "a session was not ended" in caplog.text


async def test_each_sweep_of_the_flows_is_offered_to_the_housekeeper() -> None:
    async with FlowHarness() as harness:
        assert harness.flows.sweeps == (
            harness.dispatch.sweep,
            harness.pings.sweep,
            harness.services.throttling.sweep,
            harness.flows.outbox_totals.sweep,
        )
