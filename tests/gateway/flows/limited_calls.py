"""Limits that one client reaches beside a call in another room."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.core.limits import Limits
from tests.gateway.flows.harness import FlowHarness
from tests.gateway.flows.virtual_time import settle


@asynccontextmanager
async def beside_a_call(limits: Limits) -> AsyncIterator[FlowHarness]:
    """Run a harness with these limits, and check at the end that a call in another room was not disturbed."""
    async with FlowHarness(without_permissions=True) as harness:
        harness.change_settings(limits=limits)
        caller, other = [await harness.member(name, "elsewhere", in_call=True) for name in ("caller", "other")]
        caller.received()
        yield harness
        caller.offer()
        other.send_message({"type": "call"}, {"type": "still here"})
        await settle()
        messages = caller.received()
        assert {"type": "still here"} in [message["message"]["data"] for message in messages]
        assert "answer" in [message["message"]["data"].get("type") for message in messages]


def limits_met(harness: FlowHarness) -> dict[str, int]:
    return dict(harness.counters.limits_met)
