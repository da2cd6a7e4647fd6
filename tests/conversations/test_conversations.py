"""Every conversation at every level that it names."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest
import uvloop

from tests.conversations import stages
from tests.conversations.language import Conversation, Player, Stage, load
from tests.conversations.polling import cut_polling, polling
from tests.gateway.flows.virtual_time import VirtualLoop

LEVELS: dict[str, tuple[Callable[..., AbstractAsyncContextManager[Stage]], Callable[[], asyncio.AbstractEventLoop]]] = {
    "flows": (stages.flows, VirtualLoop),
    "socket": (stages.socket, uvloop.new_event_loop),
    "polling": (polling, uvloop.new_event_loop),
    "cut": (cut_polling, uvloop.new_event_loop),
}
CASES = [
    pytest.param(conversation, level, id=f"{conversation.name}-{level}")
    for conversation in load()
    for level in (*conversation.levels, *(("cut",) if "polling" in conversation.levels else ()))
]


def play(conversation: Conversation, level: str) -> Player:
    """Play a conversation and return its player, who knows all names."""
    stage, loop_factory = LEVELS[level]

    async def run() -> Player:
        async with stage(conversation) as made:
            player = Player(conversation, made)
            await player.play()
        return player

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(run())


@pytest.mark.parametrize(("conversation", "level"), CASES)
def test_conversation(conversation: Conversation, level: str, caplog: pytest.LogCaptureFixture) -> None:
    play(conversation, level)
    assert not [it for it in caplog.records if it.levelname in ("ERROR", "CRITICAL")]


def test_each_level_is_used() -> None:
    assert {level for conversation in load() for level in conversation.levels} | {"cut"} == set(LEVELS)
