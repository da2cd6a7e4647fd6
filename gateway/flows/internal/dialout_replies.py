"""Replies to dialout requests: a repeated request gets the reply to the first one, and does not dial again.

Nextcloud immediately repeats a request that failed or was not answered in time (reference 11.6); the phone must still
ring only once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple

REPLY_LIFETIME = 5.0  # seconds for which a reply is kept; a person needs longer to dial again


@dataclass(frozen=True, slots=True)
class DialoutReply:
    """The reply to Nextcloud: an HTTP status and a JSON body; ``may_ring``: a client may have dialled the number."""

    status: int
    body: bytes
    may_ring: bool = False


class DialoutKey(NamedTuple):
    """The backend, room, number and options of a dialout: requests that are equal in all of them are one call."""

    backend: str
    room: str
    number: str
    options: bytes


class DialoutReplies:
    """The replies that are pending, and for ``REPLY_LIFETIME`` seconds the replies after which a phone may ring."""

    def __init__(self) -> None:
        self._replies: dict[DialoutKey, asyncio.Future[DialoutReply]] = {}

    def __len__(self) -> int:
        return len(self._replies)

    async def get_or_dial(self, key: DialoutKey, dial: Callable[[], Awaitable[DialoutReply]]) -> DialoutReply:
        """Return the pending or kept reply of this key; if there is none, that of ``dial``."""
        known = self._replies.get(key)
        if known is not None:
            return await asyncio.shield(known)
        loop = asyncio.get_running_loop()
        pending = self._replies[key] = loop.create_future()
        try:
            reply = await dial()
        except BaseException:
            del self._replies[key]
            pending.cancel()
            raise
        pending.set_result(reply)
        if reply.may_ring:
            loop.call_later(REPLY_LIFETIME, self._replies.pop, key, None)
        else:
            del self._replies[key]
        return reply
