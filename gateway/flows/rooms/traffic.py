"""The budgets for messages relayed to a room or a session: a message beyond the budget waits.

Source: docs/protocol.md, "Limits"; ``gateway.core.relay_budget``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from gateway.core.relay_budget import FULL_OUTBOX_DIVISOR, SENDER_BURST, SENDER_RATE, RelayBudget
from gateway.core.session import Session
from gateway.flows.postponed import Postponed
from gateway.flows.services import Services


class RecipientsBusy(Postponed):
    """The budget of the recipients is spent, and the message was not sent; it may be retried after ``seconds``."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self._seconds = seconds

    async def wait(self) -> None:
        """See ``Postponed.wait``."""
        await asyncio.sleep(self._seconds)


class Traffic:
    """Postpones messages beyond a budget."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def refill(self, session: Session, budget: RelayBudget, size: int, recipients: Iterable[Session]) -> None:
        """Refill a budget that is negative after a message of ``size`` bytes was subtracted.

        Raises:
            RecipientsBusy: the message has to wait; its bytes were added again.
        """
        services = self._services
        now, limit = services.clock(), services.outbox_bytes // FULL_OUTBOX_DIVISOR
        outbox_fills = any(recipient.outbox.size > limit for recipient in recipients)
        wait = budget.refill(size, services.settings.limits, outbox_fills, now)
        if wait and not session.is_internal and not session.relay_share.take(size, SENDER_RATE, SENDER_BURST, now):
            services.count_excess("relayed_bytes_per_second")
            raise RecipientsBusy(wait)
