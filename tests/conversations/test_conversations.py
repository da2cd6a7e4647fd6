"""Every conversation is played at every one of its levels."""

from __future__ import annotations

import pytest

from gateway.core.participants import IN_CALL
from tests.conversations.local_only import ALL_IN_CALL, LOCAL_ONLY, NO_ROOM, TIME
from tests.conversations.player import Conversation, Json, load
from tests.conversations.playing import LEVELS, levels_of, play

CASES = [
    pytest.param(conversation, level, id=f"{conversation.name}-{level}")
    for conversation in load()
    for level in levels_of(conversation)
]


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


def requests(conversation: Conversation, type: str) -> list[tuple[str, Json]]:
    """Return the room and the body of each of Nextcloud's requests of a type in a conversation."""
    sent = [rest for _, (actor, action, *rest) in conversation.steps if (actor, action) == ("nextcloud", "sends")]
    return [(room, request[type]) for room, request in sent if request["type"] == type]


def sends_all_into_the_call(conversation: Conversation) -> bool:
    """Return whether Nextcloud lets all participants of a room enter the call at once."""
    return any(request.get("all") and request["incall"] & IN_CALL for _, request in requests(conversation, "incall"))


def names_another_room(conversation: Conversation) -> bool:
    """Return whether Nextcloud asks the participants of a room to join another one."""
    return any(request["roomid"] != room for room, request in requests(conversation, "switchto"))


def test_each_conversation_that_is_not_federated_has_its_reason() -> None:
    """A new conversation is played at this level or is in the list; the reasons of more than one are checked."""
    conversations = {conversation.name: conversation for conversation in load()}
    assert set(LOCAL_ONLY) <= set(conversations)
    timed = {name for name, it in conversations.items() if any(actor == "time" for _, (actor, *_) in it.steps)}
    assert timed == TIME
    assert {name for name in NO_ROOM if joins(conversations[name])} == set()
    assert {name for name, it in conversations.items() if not joins(it)} <= set(LOCAL_ONLY)
    all_in_call = {name for name, it in conversations.items() if sends_all_into_the_call(it)}
    assert all_in_call == ALL_IN_CALL | {"incall-all-federated"}
    assert {name for name, it in conversations.items() if names_another_room(it)} == {"switchto", "switchto-federated"}


def test_conversations_of_the_level_federated_alone_are_not_those_of_the_other_levels() -> None:
    """Play each at another level, where it fails: clients of another server receive something else."""
    alone = [conversation for conversation in load() if conversation.levels == ("federated",)]
    assert alone
    for conversation in alone:
        with pytest.raises(AssertionError):
            play(conversation, "flows")
