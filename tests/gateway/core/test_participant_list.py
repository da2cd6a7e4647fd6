"""The stored list of participants: whole lists replace it, changed entries update it (reference 7.3)."""

from __future__ import annotations

import msgspec
from msgspec import Raw

from gateway.core.ids import SessionId
from gateway.core.participant_list import ParticipantList
from gateway.core.participants import Participant, in_call
from gateway.wire.backend import ParticipantEntry


def participant(session: str, flags: object = ..., **others: object) -> Participant:
    values = {"sessionId": session, **({} if flags is ... else {"inCall": flags}), **others}
    entry: ParticipantEntry = {name: Raw(msgspec.json.encode(value)) for name, value in values.items()}
    return Participant(SessionId(session), entry, None, in_call(entry.get("inCall")))


def decoded_entries(entries: list[ParticipantEntry]) -> list[object]:
    listed: list[object] = msgspec.json.decode(msgspec.json.encode(entries))
    return listed


def flags(entries: list[ParticipantEntry]) -> dict[str, object]:
    return {str(entry["sessionId"]): entry["inCall"] for entry in decoded_entries(entries)}  # type: ignore[index]  # objects


def filled_list(**sessions: object) -> ParticipantList:
    listed = ParticipantList()
    listed.update([participant(session, value) for session, value in sessions.items()])
    return listed


# reference 7.3-f
def test_changed_entries_replace_the_entries_of_their_sessions_and_others_stay() -> None:
    listed = filled_list(a=7, b=3)
    listed.update([participant("a", 1, x=1), participant("c", 3), participant("c", 7)])
    assert decoded_entries(listed.shown_entries()) == [
        {"sessionId": "a", "inCall": 1, "x": 1},
        {"sessionId": "b", "inCall": 3},
        {"sessionId": "c", "inCall": 7},
    ]
    assert listed.reported


# reference 7.3-h
def test_session_that_left_the_call_is_not_shown_until_it_is_back() -> None:
    listed = filled_list(a=7, b=3)
    listed.update([participant("a", 0)])
    assert flags(listed.shown_entries()) == {"b": 3}
    assert flags(listed.every_entry()) == {"a": 0, "b": 3}
    listed.update([participant("a", 3)])
    assert flags(listed.shown_entries()) == {"a": 3, "b": 3}


# reference 7.3-a
def test_whole_list_replaces_the_stored_list_and_the_call_membership() -> None:
    listed = filled_list(a=7, b=3)
    listed.replace([participant("a", 0), participant("c", 7)], [participant("a", 0), participant("b", 0)])
    assert flags(listed.shown_entries()) == {"a": 0, "c": 7}
    assert SessionId("b") in listed.left_call
    listed.replace([], [participant("c", 0)])
    assert listed.shown_entries() == []


def test_session_that_entered_the_call_is_stored_even_if_the_whole_list_lacks_it() -> None:
    listed = ParticipantList()
    listed.replace([], [participant("a", 7)])
    assert flags(listed.shown_entries()) == {"a": 7}


# reference 7.1-a
def test_entry_without_flags_changes_nothing_about_the_call() -> None:
    listed = filled_list(a=7, b=0)
    for value in (..., "text", None):
        listed.update([participant("a", value, x=1), participant("b", value), participant("c", value)])
        assert decoded_entries(listed.shown_entries()) == [{"sessionId": "a", "inCall": 7, "x": 1}]
        assert decoded_entries(listed.every_entry())[1:] == [{"sessionId": "b", "inCall": 0}]


# reference 7.3-g
def test_entries_shown_with_changes_are_not_stored() -> None:
    listed = filled_list(a=7, b=3, c=0)
    changed = [participant("a", x=1), participant("b", 1), participant("c", 0), participant("d", 7)]
    assert decoded_entries(listed.shown_with(changed)) == [
        {"sessionId": "a", "x": 1, "inCall": 7},
        {"sessionId": "b", "inCall": 1},
    ]
    assert decoded_entries(listed.shown_entries()) == [{"sessionId": "a", "inCall": 7}, {"sessionId": "b", "inCall": 3}]


# reference 7.4-c
def test_flags_are_set_in_every_entry_and_in_those_of_other_sessions() -> None:
    listed = filled_list(a=7, b=0)
    assert SessionId("c") not in listed
    listed.set_flags(3, {SessionId("c"): participant("c", 3).entry})
    assert flags(listed.every_entry()) == {"a": 3, "b": 3, "c": 3}
    assert SessionId("c") in listed


# reference 7.3-d
def test_session_that_left_the_room_is_forgotten() -> None:
    listed = filled_list(a=7, b=0)
    for session in ("a", "b", "unknown"):
        listed.remove(SessionId(session))
    assert listed.every_entry() == []
    assert listed.left_call == set()
