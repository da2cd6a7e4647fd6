"""The budgets for what clients relay to a room or a session: a sender that exceeds one has to wait.

Source: docs/protocol.md, "Limits"; ``gateway.core.relay_budget``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TypeAlias

from gateway.core.relay_budget import FAR_BEHIND, SHARE_BURST, SHARE_RATE, RelayBudget
from gateway.core.session import Session
from gateway.flows.services import Services
from gateway.flows.tasks import Work
from gateway.wire.client import ClientMessage

Handler: TypeAlias = Callable[[Session, ClientMessage], None]


class RecipientsBusy(Exception):
    """The budget of the recipients is spent; nothing was sent, and another try is worth it in ``seconds``."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class Traffic:
    """Asked when a budget is spent; the messages of the sender that come behind wait in its inbox meanwhile."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def draw(self, session: Session, budget: RelayBudget, size: int, recipients: Iterable[Session]) -> None:
        """Refill a budget from which ``size`` bytes more were taken than it had.

        Raises:
            RecipientsBusy: the bytes were given back.
        """
        services = self._services
        now, limit = services.clock(), services.outbox_bytes // FAR_BEHIND
        far_behind = any(recipient.outbox.size > limit for recipient in recipients)
        wait = budget.refill(size, services.settings.limits, far_behind, now)
        if wait and not session.is_internal and not session.relay_share.take(size, SHARE_RATE, SHARE_BURST, now):
            services.count_excess("relayed_bytes_per_second")
            raise RecipientsBusy(wait)

    async def later(self, handler: Handler, session: Session, message: ClientMessage, busy: RecipientsBusy) -> None:
        """Handle a message again until its recipients' budget suffices."""
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
        """Return a handler that waits where the given one raises ``RecipientsBusy``."""

        def handle(session: Session, message: ClientMessage) -> Work | None:
            try:
                handler(session, message)
            except RecipientsBusy as busy:
                return self.later(handler, session, message, busy)
            return None

        return handle
