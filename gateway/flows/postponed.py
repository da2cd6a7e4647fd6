"""Messages that cannot be handled yet, and are handled again later.

The sender's later messages wait in its inbox meanwhile (invariant 5).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from gateway.core.session import Session
from gateway.flows.tasks import Work
from gateway.wire.client import ClientMessage

Handler: TypeAlias = Callable[[Session, ClientMessage], None]


class Postponed(Exception):
    """The message has changed nothing; call its handler again after ``wait``."""

    async def wait(self) -> None:
        """Wait until the handler may be called again."""
        raise NotImplementedError


def postponing(handler: Handler) -> Callable[[Session, ClientMessage], Work | None]:
    """Return a handler that repeats the given handler later if it raises ``Postponed``."""

    def handle(session: Session, message: ClientMessage) -> Work | None:
        try:
            handler(session, message)
        except Postponed as postponed:
            return _repeat(handler, session, message, postponed)
        return None

    return handle


async def _repeat(handler: Handler, session: Session, message: ClientMessage, postponed: Postponed) -> None:
    while True:
        await postponed.wait()
        if not session.open:
            return
        try:
            handler(session, message)
            return
        except Postponed as error:
            postponed = error
