"""The budgets for messages and offers that others cause a room or a session to be sent: what exceeds them waits.

Source: docs/protocol.md, "Limits"; ``gateway.core.relay_budget``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from gateway.core.join_budget import events_size, joining_party
from gateway.core.relay_budget import (
    FULL_OUTBOX_DIVISOR,
    LONGEST_WAIT,
    OFFER_COST,
    SENDER_BURST,
    SENDER_RATE,
    RelayBudget,
)
from gateway.core.room import Room, RoomKey
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

    def require_update_budget(self, room: Room) -> None:
        """Postpone a request of an internal client while the events of earlier ones exceed the room's budget.

        Raises:
            RecipientsBusy: the request has to wait.
        """
        budget = room.update_budget
        if budget.left <= 0.0 and (wait := self._refill(budget, 0, room.members.values())):
            self._services.count_excess("relayed_bytes_per_second")
            raise RecipientsBusy(wait)

    def refill(self, session: Session, budget: RelayBudget, size: int, recipients: Iterable[Session]) -> None:
        """Refill the budget of a room, which is negative after a message of ``size`` bytes was subtracted.

        The message need not wait if it is of an internal client or within the sender's own share.

        Raises:
            RecipientsBusy: the message has to wait; its bytes were added again.
        """
        wait = self._refill(budget, size, recipients)
        if wait:
            self._require_share(session, size, wait, "relayed_bytes_per_second")

    def refill_of(self, recipient: Session, session: Session, size: int) -> None:
        """Refill the budget of a recipient after a message of ``session``; see ``refill``."""
        wait, limit = self._refill_session(recipient, size)
        if wait:
            self._require_share(session, size, wait, limit)
            self._services.relayed_backlog.add(recipient, size)

    def take_offer(self, recipient: Session) -> float:
        """Subtract an offer from the budget of a session that did not request it.

        Return 0 if it may be sent; otherwise the seconds until the next attempt, and nothing was subtracted.
        """
        budget = recipient.relay_budget
        budget.left -= OFFER_COST
        if budget.left >= 0.0:
            return 0.0
        wait, limit = self._refill_session(recipient, OFFER_COST)
        if wait:
            self._services.count_excess(limit)
        return wait

    @staticmethod
    def count_long_offer(recipient: Session, size: int) -> None:
        """Subtract the bytes of an offer that exceed ``OFFER_COST``, for which later messages wait."""
        recipient.relay_budget.left -= max(0, size - OFFER_COST)

    async def wait_to_join(self, session: Session, room: RoomKey, room_session: str) -> None:
        """Wait until the members of a room may be sent the join event of a session, and take it from their budget.

        Check afterwards whether the session may still join.
        """
        services = self._services
        size, party = events_size(session, room_session), joining_party(session)
        while session.open and (found := services.hub.rooms.get(room)) is not None:
            wait = found.join_budgets.take(party, size, services.settings.limits, services.clock())
            if not wait:
                return
            services.count_excess("join_bytes_per_second")
            await asyncio.sleep(wait)

    def _require_share(self, session: Session, size: int, wait: float, limit: str) -> None:
        """Require that a message beyond a budget is of an internal client or within the sender's own share."""
        services = self._services
        if not session.is_internal and not session.relay_share.take(size, SENDER_RATE, SENDER_BURST, services.clock()):
            services.count_excess(limit)
            raise RecipientsBusy(wait)

    def _refill_session(self, recipient: Session, size: int) -> tuple[float, str]:
        """Refill the budget of a session; return the seconds as ``_refill`` does, and the limit that was reached."""
        backlog, budget = self._services.relayed_backlog, recipient.relay_budget
        limit = backlog.full_limit(recipient, self._services.settings.limits)
        if limit:
            if backlog.is_spent(recipient, self._services.settings.limits):
                budget.left += size
                return LONGEST_WAIT, limit
            wait = budget.refill_slowly(size, self._services.clock())
            if not wait:
                backlog.add(recipient, size)
            return wait, limit
        wait = self._refill(budget, size, (recipient,))
        if not wait:
            backlog.add(recipient, size, max(0, int(budget.left)))
        return wait, "relayed_bytes_per_second"

    def _refill(self, budget: RelayBudget, size: int, recipients: Iterable[Session]) -> float:
        """Refill a budget; return the seconds until the next attempt, 0 if the message may be sent."""
        services = self._services
        limit = services.outbox_bytes // FULL_OUTBOX_DIVISOR
        outbox_fills = any(recipient.outbox.size > limit for recipient in recipients)
        return budget.refill(size, services.settings.limits, outbox_fills, services.clock())
