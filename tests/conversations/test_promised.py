"""The forms of the protocol document: they stand alone, and they refuse what it does not have."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conversations.player import Json
from tests.conversations.promised import check_message
from tests.conversations.promised_requests import check_request


def test_forms_are_written_without_the_gateway() -> None:
    for file in Path(__file__).parent.glob("promised*.py"):
        assert "gateway." not in "".join(line for line in file.open() if "import" in line), file


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
def test_what_the_document_does_not_have_is_refused(message: Json) -> None:
    with pytest.raises(AssertionError):
        check_message(message)


def test_a_candidate_of_the_forwarder_has_the_form_of_the_document() -> None:
    data = {"type": "candidate", "to": "a", "from": "a", "roomType": "video", "sid": "", "payload": {"candidate": {}}}
    message = {"type": "message", "message": {"sender": {"type": "session", "sessionid": "a"}, "data": data}}
    check_message(message)  # a client's own
    with pytest.raises(AssertionError):
        check_message(message, mcu=True)


def test_a_join_has_no_action() -> None:
    with pytest.raises(AssertionError):
        check_request({"type": "room", "room": {"version": "1.0", "roomid": "r", "sessionid": "s", "action": "join"}})
