"""Limit of the rate at which a host may send to one client: the rate at which a client may send.

Source: docs/threat-model.md, "Federation".
"""

from __future__ import annotations

import asyncio

from gateway.core.token_bucket import TokenBucket
from gateway.flows.services import Services

REFILL_INTERVAL = 0.05  # seconds between two checks whether the host may send again


class HostRate:
    """Limits the messages that a host sends for one client; the count goes on when the seat connects again."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._bucket = TokenBucket(services.settings.limits, services.clock())

    async def count(self, size: int) -> None:
        """Count a message of ``size`` bytes; wait while the host is too fast, so that TCP slows it down."""
        bucket, limits = self._bucket, self._services.settings.limits
        bucket.messages -= 1.0
        bucket.octets -= size
        spent = bucket.messages < 0.0 or bucket.octets < 0.0
        while spent and not bucket.refill(limits, self._services.clock()):  # noqa: ASYNC110 - tokens come with time
            await asyncio.sleep(REFILL_INTERVAL)
