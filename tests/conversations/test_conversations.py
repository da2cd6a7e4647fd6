"""Every conversation is played at every level that it names."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest
import uvloop

from tests.conversations import levels
from tests.conversations.player import Conversation, ConversationPlayer, Level, load
from tests.conversations.polling import cut_polling_level, polling_level
from tests.gateway.flows.virtual_time import VirtualLoop

LEVELS: dict[str, tuple[Callable[..., AbstractAsyncContextManager[Level]], Callable[[], asyncio.AbstractEventLoop]]] = {
    "flows": (levels.flows_level, VirtualLoop),
    "socket": (levels.socket_level, uvloop.new_event_loop),
    "polling": (polling_level, uvloop.new_event_loop),
    "cut": (cut_polling_level, uvloop.new_event_loop),
}
CASES = [
    pytest.param(conversation, level, id=f"{conversation.name}-{level}")
    for conversation in load()
    for level in (*conversation.levels, *(("cut",) if "polling" in conversation.levels else ()))
]


def play(conversation: Conversation, level: str) -> ConversationPlayer:
    """Play a conversation at a level and return its player, which has the values of the names."""
    open_level, loop_factory = LEVELS[level]

    async def run() -> ConversationPlayer:
        async with open_level(conversation) as opened:
            player = ConversationPlayer(conversation, opened)
            await player.play()
        return player

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(run())


@pytest.mark.parametrize(("conversation", "level"), CASES)
def test_conversation(conversation: Conversation, level: str, caplog: pytest.LogCaptureFixture) -> None:
    play(conversation, level)
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")]


def test_each_level_is_used() -> None:
    assert {level for conversation in load() for level in conversation.levels} | {"cut"} == set(LEVELS)
