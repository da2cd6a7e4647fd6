"""Requests to end a session, made where the session must not be ended at once."""

from __future__ import annotations

from asyncio import Queue
from enum import Enum
from typing import NamedTuple, TypeAlias

from gateway.core.session import Session


class EndCause(Enum):
    """The reason for which a session has to end."""

    OUTBOX_FULL = "outbox full"  # a message did not fit into the outbox (invariant 6)
    STREAMS_LOST = "streams lost"  # the client cannot be asked to offer its streams again (docs/mcu.md)


class EndRequest(NamedTuple):
    """A session that has to end."""

    session: Session
    cause: EndCause
    total: str = ""  # the key of the limit on several outboxes together that was reached; empty: on its own


EndRequests: TypeAlias = Queue[EndRequest]  # filled without waiting, emptied by the session closer
