"""Rate limit of the messages that a host sends to one client: the same limit as for messages that a client sends.

Source: docs/threat-model.md, "Federation".
"""

from __future__ import annotations

import asyncio

from gateway.core.token_bucket import TokenBucket
from gateway.flows.services import Services

RETRY_INTERVAL = 0.05  # seconds between two attempts to refill the token bucket


class HostRateLimiter:
    """Limits the messages that a host sends to one client; a reconnect of the seat does not refill the bucket."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._bucket = TokenBucket(services.settings.limits, services.clock())

    async def throttle(self, size: int) -> None:
        """Take the tokens of a message of ``size`` bytes; wait for them if need be, so that TCP slows the host."""
        bucket, limits = self._bucket, self._services.settings.limits
        bucket.messages -= 1.0
        bucket.octets -= size
        exhausted = bucket.messages < 0.0 or bucket.octets < 0.0
        while exhausted and not bucket.refill(limits, self._services.clock()):  # noqa: ASYNC110 - tokens accrue with time
            await asyncio.sleep(RETRY_INTERVAL)
