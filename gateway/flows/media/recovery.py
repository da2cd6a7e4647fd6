"""How streams come back when the SFU, a publisher's connection, or the place of a stream was lost.

Source: docs/mcu.md, "When streams are lost". Who published is asked to offer again, if its client can be asked
(docs/protocol.md, "Offering again"); who received is offered the stream as soon as it is published again, unasked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mcu.base import CloseReason, StreamKey

if TYPE_CHECKING:
    from gateway.flows.media.subscription import Subscription

REPUBLISH = "republish"  # feature id of clients that can be asked to offer again
ASKED_FOR = frozenset({CloseReason.LOST, CloseReason.DRAINED})  # ends of a stream that are not its client's doing
CROSSING = 2.0  # seconds in which a request may have crossed an offer that nobody asked for


class Watchers:
    """The subscriptions by their stream, those that wait for it to come back included."""

    def __init__(self) -> None:
        self._slots: dict[StreamKey, dict[Subscription, None]] = {}  # in the order in which they came

    def add(self, slot: Subscription) -> None:
        """Know a subscription, until ``remove``."""
        self._slots.setdefault(slot.key, {})[slot] = None

    def remove(self, slot: Subscription) -> None:
        """Forget a subscription. Idempotent."""
        slots = self._slots.get(slot.key, {})
        if slots.pop(slot, slot) is None and not slots:
            del self._slots[slot.key]

    def wake(self, key: StreamKey) -> None:
        """Let those follow who lost the stream: it is there again."""
        for slot in list(self._slots.get(key, ())):
            slot.follow()

    def dismiss(self, key: StreamKey) -> None:
        """Let nobody wait for the stream: its owner ended it."""
        for slot in list(self._slots.get(key, ())):
            slot.dismissed()

    def __len__(self) -> int:
        return sum(len(slots) for slots in self._slots.values())
