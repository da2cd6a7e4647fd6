"""Every conversation is played at every one of its levels."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest
import uvloop

from tests.conversations import levels
from tests.conversations.federated_level import FederatedLevel, federated_level
from tests.conversations.local_only import LOCAL_ONLY, NO_ROOM, TIME
from tests.conversations.player import Conversation, ConversationPlayer, Level, load
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
    """Return the levels at which a conversation is played: those it names, ``cut`` and ``federated``."""
    cut = ("cut",) if "polling" in conversation.levels else ()
    federated = () if conversation.name in LOCAL_ONLY else ("federated",)
    return (*conversation.levels, *cut, *federated)


CASES = [
    pytest.param(conversation, level, id=f"{conversation.name}-{level}")
    for conversation in load()
    for level in levels_of(conversation)
]


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


@pytest.mark.parametrize(("conversation", "level"), CASES)
def test_conversation_is_played_as_written(
    conversation: Conversation, level: str, caplog: pytest.LogCaptureFixture
) -> None:
    play(conversation, level)
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")]


def test_each_level_is_used() -> None:
    assert {level for conversation in load() for level in levels_of(conversation)} == set(LEVELS)


def joins(conversation: Conversation) -> bool:
    """Return whether a client that is not an internal one joins a room in a conversation."""
    internal = {actor for _, (actor, action, *_) in conversation.steps if action == "enters as internal client"}
    messages = [(actor, rest[0]) for _, (actor, action, *rest) in conversation.steps if action == "sends"]
    rooms = [message.get("room") for actor, message in messages if actor not in internal and isinstance(message, dict)]
    return any(isinstance(room, dict) and room.get("roomid") for room in rooms)


def test_each_conversation_that_is_not_federated_has_its_reason() -> None:
    """A new conversation is played at this level or is in the list; the two most common reasons are checked."""
    conversations = {conversation.name: conversation for conversation in load()}
    assert set(LOCAL_ONLY) <= set(conversations)
    timed = {name for name, it in conversations.items() if any(actor == "time" for _, (actor, *_) in it.steps)}
    assert timed >= TIME
    assert {name for name in NO_ROOM if joins(conversations[name])} == set()
    assert {name for name, it in conversations.items() if not joins(it)} <= set(LOCAL_ONLY)
