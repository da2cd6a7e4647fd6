"""A room on this server; it exists as long as it has a member or a virtual session.

Source: reference 4 and 7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from msgspec import Raw

from gateway.core.ids import SessionId
from gateway.core.join_budget import JoinBudgets
from gateway.core.participant_list import ParticipantList
from gateway.core.relay_budget import RelayBudget
from gateway.core.transient import TransientData

if TYPE_CHECKING:
    from gateway.core.session import Session
    from gateway.core.virtual import VirtualSession

PING_INTERVAL = 10.0  # seconds between keep-alive pings to Nextcloud (4.5)


class RoomKey(NamedTuple):
    """The identity of a room: ids are unique within one backend only (invariant 9)."""

    backend: str
    id: str


class Room:
    """The state of a room; only the hub and ``call_membership`` change it, but for the budgets and ``join_parts``."""

    __slots__ = (
        "in_call",
        "join_budgets",
        "join_parts",
        "key",
        "members",
        "participants",
        "ping_at",
        "properties",
        "relay_budget",
        "transient",
        "update_budget",
        "virtuals",
    )

    def __init__(self, key: RoomKey, properties: Raw, now: float) -> None:
        self.key = key
        self.properties = properties  # opaque; empty when Nextcloud gave none
        self.members: dict[SessionId, Session] = {}
        self.in_call: set[SessionId] = set()  # members in the call (7.1)
        self.participants = ParticipantList()  # as Nextcloud has reported them
        self.virtuals: dict[SessionId, VirtualSession] = {}
        self.transient = TransientData()
        self.join_parts: dict[tuple[bytes, ...], bytes] = {}  # events of full parts of the join list, by entries
        self.relay_budget = RelayBudget()  # for messages to its members
        self.join_budgets = JoinBudgets()  # for the join events that its members get
        self.update_budget = RelayBudget()  # for events that internal clients cause
        self.ping_at = now + PING_INTERVAL
