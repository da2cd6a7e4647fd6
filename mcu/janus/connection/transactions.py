"""Transactions: the request that a message of Janus answers, and whether it is the final answer. Pure.

A request is answered in one of three ways (``Expect``). The table ``STEPS`` says which message of Janus ends a request
(-: not expected; the request waits on)::

    expected   ack     success  server_info  event    error
    ACK        done    done     -            -        failed
    SUCCESS    wait    done     done         done     failed
    EVENT      wait    done     -            done     failed

If a request that creates an object on Janus succeeds after it was abandoned, ``Transactions.settle`` returns it with
``undo``.
"""

from __future__ import annotations

import itertools
from enum import Enum

import msgspec

from mcu.janus.connection.messages import JanusMessage, error_of


class Expect(Enum):
    """The answer that a request gets."""

    ACK = "ack"  # trickle, keepalive
    SUCCESS = "success"  # core requests, and plugin requests that are carried out at once
    EVENT = "event"  # plugin requests that are acknowledged and answered later


class Step(Enum):
    """The meaning of a message for the request that it names."""

    WAIT = "wait"
    DONE = "done"
    FAILED = "failed"


class Route(Enum):
    """The receiver of a message."""

    REQUEST = "request"  # the request that it names
    HANDLE = "handle"  # the handle in ``sender``
    SESSION_ENDED = "session_ended"
    IGNORED = "ignored"


STEPS = {
    (Expect.ACK, "ack"): Step.DONE,
    (Expect.ACK, "success"): Step.DONE,
    (Expect.SUCCESS, "ack"): Step.WAIT,
    (Expect.SUCCESS, "success"): Step.DONE,
    (Expect.SUCCESS, "server_info"): Step.DONE,
    (Expect.SUCCESS, "event"): Step.DONE,
    (Expect.EVENT, "ack"): Step.WAIT,
    (Expect.EVENT, "success"): Step.DONE,
    (Expect.EVENT, "event"): Step.DONE,
    (Expect.ACK, "error"): Step.FAILED,
    (Expect.SUCCESS, "error"): Step.FAILED,
    (Expect.EVENT, "error"): Step.FAILED,
}

ROUTES = {
    "event": Route.HANDLE,
    "webrtcup": Route.HANDLE,
    "media": Route.HANDLE,
    "slowlink": Route.HANDLE,
    "trickle": Route.HANDLE,
    "hangup": Route.HANDLE,
    "ice-failed": Route.HANDLE,
    "detached": Route.HANDLE,
    "timeout": Route.SESSION_ENDED,
}


class PendingRequest(msgspec.Struct):
    """A request that is not answered yet."""

    expect: Expect
    creates: bool  # its success creates an object on Janus that has to be removed if the caller is gone
    handle: int  # id of the handle that it is about; 0 without one
    abandoned: bool = False


class SettledRequest(msgspec.Struct, frozen=True):
    """A request that is over; ``undo``: it was abandoned and succeeded, so its effect has to be undone.

    ``handle`` is the id of the handle that it is about, or 0: answers of Janus' core that are errors name no sender.
    """

    transaction: str
    step: Step
    handle: int
    undo: bool = False


class Transactions:
    """The pending requests by transaction, which Janus expects to be a string."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._pending: dict[str, PendingRequest] = {}

    def __len__(self) -> int:
        return len(self._pending)

    def begin(self, expect: Expect, creates: bool = False, handle: int = 0) -> str:
        """Start a request and return its transaction; ``handle``: id of the handle that it is about."""
        transaction = str(next(self._numbers))
        self._pending[transaction] = PendingRequest(expect, creates, handle)
        return transaction

    def abandon(self, transaction: str) -> None:
        """Mark a request whose caller is gone; it is forgotten unless its success would have to be undone."""
        pending = self._pending.get(transaction)
        if pending is None:
            return
        if pending.creates:
            pending.abandoned = True
        else:
            del self._pending[transaction]

    def forget(self, transaction: str) -> None:
        """Remove a request that was never sent."""
        self._pending.pop(transaction, None)

    def route(self, message: JanusMessage) -> Route:
        """Return the receiver of a message. A late answer to an abandoned plugin request is an event of its handle."""
        if message.transaction in self._pending:
            return Route.REQUEST
        return ROUTES.get(message.janus, Route.IGNORED)

    def settle(self, message: JanusMessage) -> SettledRequest | None:
        """Apply a message with the route ``REQUEST``; ``None``: the request goes on."""
        pending = self._pending[message.transaction]
        step = STEPS.get((pending.expect, message.janus), Step.WAIT)
        if step is Step.WAIT:
            return None
        del self._pending[message.transaction]
        undo = pending.abandoned and error_of(message) is None
        return SettledRequest(message.transaction, step, pending.handle, undo)
