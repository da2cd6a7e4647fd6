"""The forms of messages and requests: independent of the gateway, and strict."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conversations.message_forms import check_message
from tests.conversations.player import Json
from tests.conversations.request_forms import check_request


@pytest.mark.parametrize("module", ["form_types", "message_forms", "event_forms", "request_forms"])
def test_forms_do_not_import_the_gateway(module: str) -> None:
    lines = (Path(__file__).parent / f"{module}.py").read_text().splitlines()
    assert not [line for line in lines if "import" in line and "gateway." in line]


@pytest.mark.parametrize(
    "message",
    [
        {"type": "surprise"},
        {"type": "bye", "bye": {"reason": "session_expired"}},
        {"type": "bye", "surprise": 1},
        {"type": "welcome", "welcome": {"version": "1", "features": ["b", "a"]}},
        {"type": "error", "error": {"code": "x", "message": "y", "surprise": 1}},
        {"type": "error", "error": {"code": "already_joined", "message": "y", "details": {"roomid": "r"}}},
        {"type": "event", "event": {"target": "room", "type": "change", "change": []}},
        {"type": "event", "event": {"target": "room", "type": "join", "join": [{"sessionid": "a"}]}},
        {"type": "event", "event": {"target": "participants", "type": "update", "update": {"roomid": "r"}}},
        {"type": "transient", "transient": {"type": "initial", "data": {}}},
    ],
)
def test_message_outside_of_the_protocol_is_refused(message: Json) -> None:
    with pytest.raises(AssertionError):
        check_message(message)


def test_candidate_of_the_sfu_has_its_own_form() -> None:
    data = {"type": "candidate", "to": "a", "from": "a", "roomType": "video", "sid": "", "payload": {"candidate": {}}}
    message = {"type": "message", "message": {"sender": {"type": "session", "sessionid": "a"}, "data": data}}
    check_message(message)  # relayed from a client
    with pytest.raises(AssertionError):
        check_message(message, mcu=True)


def test_join_has_no_action() -> None:
    with pytest.raises(AssertionError):
        check_request({"type": "room", "room": {"version": "1.0", "roomid": "r", "sessionid": "s", "action": "join"}})
