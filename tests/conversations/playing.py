"""Levels of conversations, and the playing of one conversation at one of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import uvloop

from tests.conversations import levels
from tests.conversations.federated_level import FederatedLevel, federated_level
from tests.conversations.local_only import LOCAL_ONLY
from tests.conversations.player import Conversation, ConversationPlayer, Level
from tests.conversations.polling import cut_polling_level, polling_level
from tests.gateway.flows.virtual_time import VirtualLoop

LEVELS: dict[str, tuple[Callable[..., AbstractAsyncContextManager[Level]], Callable[[], asyncio.AbstractEventLoop]]] = {
    "flows": (levels.flows_level, VirtualLoop),
    "socket": (levels.socket_level, uvloop.new_event_loop),
    "polling": (polling_level, uvloop.new_event_loop),
    "cut": (cut_polling_level, uvloop.new_event_loop),
    "federated": (federated_level, uvloop.new_event_loop),
}


def levels_of(conversation: Conversation) -> tuple[str, ...]:
    """Return the levels at which a conversation is played: its own levels, ``cut`` and ``federated``."""
    cut = ("cut",) if "polling" in conversation.levels else ()
    federated = () if conversation.name in LOCAL_ONLY else ("federated",)
    return tuple(dict.fromkeys((*conversation.levels, *cut, *federated)))


def play(conversation: Conversation, level: str) -> ConversationPlayer:
    """Play a conversation at a level and return its player, which has the values of the names."""
    open_level, loop_factory = LEVELS[level]

    async def run() -> ConversationPlayer:
        async with open_level(conversation) as opened:
            player = ConversationPlayer(conversation, opened)
            await player.play()
            if isinstance(opened, FederatedLevel):
                assert opened.local, "no client joined a room of the host"
        return player

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(run())
