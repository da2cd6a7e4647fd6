"""Participant lists: ids are replaced, all other members stay byte for byte (reference 7.1-7.3)."""

from __future__ import annotations

import msgspec
import pytest
from msgspec import Raw

from gateway.core import participants
from gateway.core.hub import Hub
from gateway.core.ids import SessionId
from gateway.core.session import ClientType
from gateway.wire.backend import ParticipantEntry
from tests.gateway.core.members import joined, opened, session

KNOWN = {"nc1": SessionId("public1"), "nc2": SessionId("public2")}


def entry(text: str) -> ParticipantEntry:
    return msgspec.json.decode(text, type=dict[str, Raw])


def shown(entries: list[ParticipantEntry]) -> list[object]:
    decoded: list[object] = msgspec.json.decode(msgspec.json.encode(entries))
    return decoded


def resolve(*texts: str) -> list[participants.Participant]:
    return participants.resolve([entry(text) for text in texts], KNOWN.get)


# reference 7.2-a
def test_session_id_is_replaced_and_the_rest_stays_byte_for_byte() -> None:
    (found,) = resolve('{"sessionId":"nc1","inCall":7,"number":1.50e3,"x":{"a": [ 1 ]}}')
    assert found.session == "public1"
    assert found.in_call is True
    assert msgspec.json.encode(found.entry) == b'{"sessionId":"public1","inCall":7,"number":1.50e3,"x":{"a": [ 1 ]}}'


# reference 7.1-a
def test_lower_case_key_is_accepted() -> None:
    (found,) = resolve('{"sessionid":"nc2"}')
    assert shown([found.entry]) == [{"sessionid": "public2"}]


# reference 7.2-a
@pytest.mark.parametrize(
    "text", ['{"sessionId":"0"}', '{"sessionId":"unknown"}', '{"sessionId":5}', "{}", '{"sessionId":""}']
)
def test_entry_without_a_known_session_is_dropped(text: str) -> None:
    assert resolve(text) == []


# reference 7.2-a
@pytest.mark.parametrize(
    ("value", "permissions"),
    [('["a","b"]', ("a", "b")), ("[]", ()), ('"a"', None), ("[1]", None), ("null", None), ('{"0":"a"}', None)],
)
def test_permissions_are_removed_from_the_entry_and_read_if_a_list_of_strings(
    value: str, permissions: tuple[str, ...] | None
) -> None:
    (found,) = resolve(f'{{"sessionId":"nc1","permissions":{value}}}')
    assert found.permissions == permissions
    assert "permissions" not in found.entry


@pytest.mark.parametrize(
    ("value", "flags", "in_call"),
    [
        ("0", 0, False),
        ("1", 1, True),
        ("2", 2, False),
        ("7", 7, True),
        ("true", 1, True),
        ("false", 0, False),
        ("3.0", 3, True),
        ("3.5", None, None),
        ("-1", None, None),
        ("1e300", None, None),
        ("99999999999999999999999", None, None),
        ('"1"', None, None),
        ("null", None, None),
        ("[]", None, None),
    ],
)
def test_in_call_is_bit_one_or_a_boolean(value: str, flags: int | None, in_call: bool | None) -> None:
    assert participants.call_flags(Raw(value.encode())) == flags
    assert participants.in_call(Raw(value.encode())) is in_call


def test_absent_in_call_is_unknown() -> None:
    assert participants.in_call(None) is None


# reference 5.4-a
def test_changed_entries_are_appended_unless_they_are_among_the_users() -> None:
    users = resolve('{"sessionId":"nc1","a":1}')
    changed = resolve('{"sessionId":"nc1","a":2}', '{"sessionId":"nc2","a":3}')
    assert shown(participants.merge([user.entry for user in users], changed)) == [
        {"sessionId": "public1", "a": 1},
        {"sessionId": "public2", "a": 3},
    ]


def test_flags_are_set_in_every_entry() -> None:
    entries = [entry('{"sessionId":"a","inCall":7}'), entry('{"sessionId":"b"}')]
    assert shown(participants.with_flags(entries, 0)) == [
        {"sessionId": "a", "inCall": 0},
        {"sessionId": "b", "inCall": 0},
    ]


def test_changed_entries_replace_the_entries_of_their_sessions_and_new_entries_are_appended() -> None:
    listed = [entry('{"sessionId":"public1","inCall":0}'), entry('{"sessionId":"else"}')]
    changed = resolve('{"sessionId":"nc2","inCall":1}', '{"sessionId":"nc1","inCall":7}')
    assert shown(participants.updated(listed, changed)) == [
        {"sessionId": "public1", "inCall": 7},
        {"sessionId": "else"},
        {"sessionId": "public2", "inCall": 1},
    ]


def test_members_without_an_entry_are_added_and_internal_clients_are_not() -> None:
    hub = Hub()
    alice, bob, bridge = opened(hub, "alice"), opened(hub, ""), session(client_type=ClientType.INTERNAL)
    hub.open(bridge, 0.0)
    for member in (alice, bob, bridge):
        room = joined(hub, member)
    hub.mark_listed(room)
    hub.set_in_call(room, bob.id, True)
    own = {"sessionId": Raw(msgspec.json.encode(alice.id)), "inCall": Raw(b"0")}
    assert room.listed
    assert not participants.is_complete([own], room)
    listed = participants.with_members([own], room, 5, flags=7)
    assert participants.is_complete(listed, room)
    assert shown(listed) == [
        {"sessionId": alice.id, "inCall": 0},
        {"sessionId": bob.id, "inCall": 7, "lastPing": 5},
    ]
    assert shown(participants.with_members([], room, 5))[0] == {
        "sessionId": alice.id,
        "inCall": 0,
        "lastPing": 5,
        "userId": "alice",
    }


def test_changed_entries_of_sessions_elsewhere_are_left_out() -> None:
    hub = Hub()
    alice, bob = opened(hub, "alice"), opened(hub, "bob")
    room = joined(hub, alice)
    changed = [
        participants.Participant(member.id, {"sessionId": Raw(msgspec.json.encode(member.id))}, None, None)
        for member in (alice, bob)
    ]
    assert participants.present_in(room, changed) == changed[:1]
