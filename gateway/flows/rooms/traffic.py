"""The budgets for messages relayed to a room or a session: a message beyond the budget waits.

Source: docs/protocol.md, "Limits"; ``gateway.core.relay_budget``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TypeAlias

from gateway.core.relay_budget import FULL_OUTBOX_DIVISOR, SENDER_BURST, SENDER_RATE, RelayBudget
from gateway.core.session import Session
from gateway.flows.services import Services
from gateway.flows.tasks import Work
from gateway.wire.client import ClientMessage

Handler: TypeAlias = Callable[[Session, ClientMessage], None]


class RecipientsBusy(Exception):
    """The budget of the recipients is spent, and the message was not sent; it may be retried after ``seconds``."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class Traffic:
    """Delays messages beyond a budget; the sender's later messages wait in its inbox meanwhile."""

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

    async def retry(self, handler: Handler, session: Session, message: ClientMessage, busy: RecipientsBusy) -> None:
        """Repeat the handling of a message until its recipients' budget suffices."""
        seconds = busy.seconds
        while seconds:
            await asyncio.sleep(seconds)
            if not session.open:
                return
            try:
                handler(session, message)
                seconds = 0.0
            except RecipientsBusy as error:
                seconds = error.seconds

    def waiting(self, handler: Handler) -> Callable[[Session, ClientMessage], Work | None]:
        """Return a handler that repeats the given handler later if it raises ``RecipientsBusy``."""

        def handle(session: Session, message: ClientMessage) -> Work | None:
            try:
                handler(session, message)
            except RecipientsBusy as busy:
                return self.retry(handler, session, message, busy)
            return None

        return handle
