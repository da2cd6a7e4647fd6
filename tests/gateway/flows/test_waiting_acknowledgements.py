"""An acknowledgement does not wait behind earlier messages of its session.

Source: docs/protocol.md, "Acknowledged delivery".
"""

from __future__ import annotations

import asyncio

from gateway.core.acknowledged import AcknowledgedOutbox
from gateway.core.limits import Limits
from tests.gateway.flows.harness import FlowHarness

LONG = "x" * 25_000


async def test_acknowledgement_among_waiting_messages_counts_them_as_received() -> None:
    async with FlowHarness() as harness:
        harness.change_settings(limits=Limits(relayed_bytes_burst=20_000, relayed_bytes_per_second=1000))
        alice, bob = [await harness.member(name, features=("ack",)) for name in ("alice", "bob")]
        alice.received()
        for _ in range(3):
            alice.send_message(bob, LONG)
        alice.send('{"type": "ack"')
        alice.send({"type": "message", "x": "ack"})
        assert alice.received() == []
        outbox = alice.session.outbox
        assert isinstance(outbox, AcknowledgedOutbox)
        received = outbox._acknowledged + len(list(outbox))
        alice.send({"type": "ack", "ack": {"received": received}})
        (reply,) = alice.received()
        assert reply == {"type": "ack", "ack": {"received": alice.session.received}}
        assert alice.session.outbox.size == 0
        await asyncio.sleep(120)
        assert alice.error_codes() == ["invalid_format", "invalid_format"]
