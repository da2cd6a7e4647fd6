"""Handlers of messages, and repeated calls of a handler that cannot handle a message yet.

Meanwhile the sender's later messages wait in its inbox (invariant 5).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from gateway.core.session import Session
from gateway.flows.tasks import Work
from gateway.wire.client import ClientMessage

# Handles a message of an open session, at once, or in the returned coroutine if it has to wait. The handler and the
# coroutine raise ProtocolError for a request that cannot be carried out; only the handler may raise Postponed.
Handler: TypeAlias = Callable[[Session, ClientMessage], Work | None]


class Postponed(Exception):
    """The message has changed nothing; call its handler again after ``wait``."""

    async def wait(self) -> None:
        """Wait until the handler may be called again."""
        raise NotImplementedError


async def repeat(handler: Handler, session: Session, message: ClientMessage, postponed: Postponed) -> None:
    """Call a handler that raised ``Postponed`` again, until it handles the message or the session has ended.

    Raises:
        ProtocolError: the request cannot be carried out.
    """
    while True:
        await postponed.wait()
        if not session.accepts_messages:
            return
        try:
            work = handler(session, message)
        except Postponed as error:
            postponed = error
            continue
        if work is not None:
            await work
        return
