"""The replies that are kept for repeated dialout requests, in virtual time."""

from __future__ import annotations

import asyncio

import pytest

from gateway.flows.internal.dialout_replies import REPLY_LIFETIME, DialoutKey, DialoutReplies, DialoutReply
from tests.gateway.flows.virtual_time import settle

KEY = DialoutKey("cloud", "12", "+49", b"")


async def test_repeated_dialout_gets_the_kept_reply_until_its_lifetime_ends() -> None:
    replies = DialoutReplies()
    dialled = []

    async def dial() -> DialoutReply:
        dialled.append(1)
        return DialoutReply(200, b"{}", may_ring=True)

    for _ in range(3):
        await replies.get_or_dial(KEY, dial)
    assert (len(dialled), len(replies)) == (1, 1)
    await asyncio.sleep(REPLY_LIFETIME)
    await settle()
    assert len(replies) == 0
    await replies.get_or_dial(KEY, dial)
    assert len(dialled) == 2


async def test_failure_of_a_dialout_is_not_kept_and_cancels_the_requests_that_wait_for_it() -> None:
    replies = DialoutReplies()
    gate = asyncio.Event()

    async def fail() -> DialoutReply:
        await gate.wait()
        raise RuntimeError("broken")

    first = asyncio.create_task(replies.get_or_dial(KEY, fail))
    second = asyncio.create_task(replies.get_or_dial(KEY, fail))
    await settle()
    gate.set()
    with pytest.raises(RuntimeError):
        await first
    with pytest.raises(asyncio.CancelledError):
        await second
    assert len(replies) == 0
