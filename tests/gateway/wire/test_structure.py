"""The members that each type of message requires (reference 2.4)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.wire.client import decode
from gateway.wire.structure import is_complete

ROOM = {"type": "room"}


@pytest.mark.parametrize(
    "message",
    [
        {"type": "surprise"},
        {"type": "bye"},
        {"type": "ack"},
        {"type": "hello", "hello": {}},
        {"type": "room", "room": {}},
        {"type": "message", "message": {"recipient": ROOM, "data": 0}},
        {"type": "message", "message": {"recipient": {"type": "call"}, "data": ""}},
        {"type": "control", "control": {"recipient": {"type": "session", "sessionid": "s"}, "data": False}},
        {"type": "control", "control": {"recipient": {"type": "user", "userid": "u"}, "data": {}}},
        {"type": "transient", "transient": {"type": "set", "key": "k"}},
        {"type": "transient", "transient": {"type": "remove", "key": "k"}},
        {"type": "transient", "transient": {"type": "surprise"}},
        {"type": "internal", "internal": {"type": "surprise"}},
    ],
)
def test_message_with_all_required_members_is_complete(message: dict[str, Any]) -> None:
    assert is_complete(decode(json.dumps(message)))


# reference 2.4-b
@pytest.mark.parametrize(
    "message",
    [
        {},
        {"type": ""},
        {"type": "hello"},
        {"type": "room", "room": None},
        {"type": "message"},
        {"type": "message", "control": {"recipient": ROOM, "data": 1}},
        {"type": "message", "message": {"recipient": ROOM}},
        {"type": "message", "message": {"recipient": ROOM, "data": None}},
        {"type": "message", "message": {"data": 1}},
        {"type": "control", "control": {"recipient": {}, "data": 1}},
        {"type": "control", "control": {"recipient": {"type": "session", "userid": "u"}, "data": 1}},
        {"type": "control", "control": {"recipient": {"type": "user", "sessionid": "s"}, "data": 1}},
        {"type": "control", "control": {"recipient": {"type": "everybody"}, "data": 1}},
        {"type": "transient"},
        {"type": "transient", "transient": {"key": "k"}},
        {"type": "transient", "transient": {"type": "set"}},
        {"type": "transient", "transient": {"type": "remove", "key": ""}},
        {"type": "internal"},
        {"type": "internal", "internal": {"type": "incall"}},
    ],
)
def test_message_without_a_required_member_is_incomplete(message: dict[str, Any]) -> None:
    assert not is_complete(decode(json.dumps(message)))
