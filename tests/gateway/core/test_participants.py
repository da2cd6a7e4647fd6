"""Participant lists: ids are replaced, all other members stay byte for byte (reference 7.1-7.3)."""

from __future__ import annotations

import msgspec
import pytest
from msgspec import Raw

from gateway.core import call_membership, participants
from gateway.core.actor import Actor
from gateway.core.hub import Hub
from gateway.core.ids import SessionId
from gateway.core.room import Room
from gateway.core.session import ClientType, Session
from gateway.wire.backend import ParticipantEntry
from tests.gateway.core.members import join_room, open_session, session

KNOWN_SESSIONS = {"nc1": SessionId("public1"), "nc2": SessionId("public2")}


def entry(text: str) -> ParticipantEntry:
    return msgspec.json.decode(text, type=dict[str, Raw])


def decoded_entries(entries: list[ParticipantEntry]) -> list[object]:
    decoded: list[object] = msgspec.json.decode(msgspec.json.encode(entries))
    return decoded


def resolve(*texts: str) -> list[participants.Participant]:
    return participants.resolve([entry(text) for text in texts], KNOWN_SESSIONS.get)


# reference 7.2-a
def test_session_id_is_replaced_and_the_rest_stays_byte_for_byte() -> None:
    (found,) = resolve('{"sessionId":"nc1","inCall":7,"number":1.50e3,"x":{"a": [ 1 ]}}')
    assert found.session == "public1"
    assert found.in_call is True
    assert msgspec.json.encode(found.entry) == b'{"sessionId":"public1","inCall":7,"number":1.50e3,"x":{"a": [ 1 ]}}'


# reference 7.1-a
def test_lower_case_key_is_accepted() -> None:
    (found,) = resolve('{"sessionid":"nc2"}')
    assert decoded_entries([found.entry]) == [{"sessionid": "public2"}]


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
    assert decoded_entries(participants.merge([user.entry for user in users], changed)) == [
        {"sessionId": "public1", "a": 1},
        {"sessionId": "public2", "a": 3},
    ]


def test_list_has_the_last_of_several_changed_entries_of_a_session() -> None:
    changed = resolve('{"sessionId":"nc1","a":1}', '{"sessionId":"nc1","a":2}')
    assert decoded_entries(participants.merge([], changed)) == [{"sessionId": "public1", "a": 2}]


# reference 7.2-d
def test_several_entries_of_a_session_become_one() -> None:
    listed = resolve('{"sessionId":"nc1","a":1}', '{"sessionId":"nc2","a":3}', '{"sessionId":"nc1","a":2}')
    assert decoded_entries([one.entry for one in participants.once(listed)]) == [
        {"sessionId": "public1", "a": 2},
        {"sessionId": "public2", "a": 3},
    ]


def test_flags_are_set_in_every_entry() -> None:
    entries = [entry('{"sessionId":"a","inCall":7}'), entry('{"sessionId":"b"}')]
    assert decoded_entries(participants.with_flags(entries, 0)) == [
        {"sessionId": "a", "inCall": 0},
        {"sessionId": "b", "inCall": 0},
    ]


def reported_participant(member: Session, flags: bytes) -> participants.Participant:
    own: ParticipantEntry = {"sessionId": Raw(msgspec.json.encode(member.id)), "inCall": Raw(flags)}
    return participants.Participant(member.id, own, None, participants.in_call(own["inCall"]))


def call_of(*userids: str) -> tuple[Hub, Room, list[Session]]:
    """Return a room with an internal client and members with these user ids, empty ones for guests."""
    hub, bridge = Hub(), session(client_type=ClientType.INTERNAL)
    hub.open(bridge, 0.0)
    members = [bridge, *(open_session(hub, userid) for userid in userids)]
    for member in members:
        room = join_room(hub, member)
    return hub, room, members


def flags_of(entries: list[ParticipantEntry]) -> dict[str, int]:
    decoded = msgspec.json.decode(msgspec.json.encode(entries), type=list[dict[str, object]])
    listed = {str(one["sessionId"]): one["inCall"] for one in decoded}
    assert len(listed) == len(decoded)
    return listed  # type: ignore[return-value]  # in-call flags are integers in these tests


def test_members_without_an_entry_get_one_and_internal_clients_do_not() -> None:
    _, room, (_, alice, bob, guest) = call_of("alice", "bob", "")
    call_membership.update_participants(room, [reported_participant(bob, b"7")])
    call_membership.set_in_call(room, guest.id, True)
    assert decoded_entries(list(participants.unlisted_entries(room, 5, flags=3).values())) == [
        {"sessionId": alice.id, "inCall": 0, "lastPing": 5, "userId": "alice"},
        {"sessionId": guest.id, "inCall": 3, "lastPing": 5},
    ]


def test_entry_of_a_federated_member_names_its_actor() -> None:
    hub, room, _ = call_of("alice")
    zoe = session("zoe", client_type=ClientType.FEDERATION)
    zoe.actor = Actor("zoe@there.example", "federated_users")
    hub.open(zoe, 0.0)
    join_room(hub, zoe)
    assert decoded_entries(list(participants.unlisted_entries(room, 5).values()))[1:] == [
        {
            "sessionId": zoe.id,
            "inCall": 0,
            "lastPing": 5,
            "actorType": "federated_users",
            "actorId": "zoe@there.example",
        }
    ]


# reference 7.3-m
def test_list_is_known_once_nextcloud_has_reported_on_the_call() -> None:
    _, room, (bridge, alice, bob) = call_of("alice", "bob")
    assert participants.known_entries(room, 5) == []
    call_membership.update_participants(room, [reported_participant(alice, b"7")])
    assert flags_of(participants.known_entries(room, 5)) == {alice.id: 7, bob.id: 0, bridge.id: 3}


# reference 7.3-h
def test_known_list_has_no_member_that_left_the_call_unless_all_did() -> None:
    _, room, (bridge, alice, bob) = call_of("alice", "bob")
    call_membership.update_participants(room, [reported_participant(alice, b"7"), reported_participant(bob, b"3")])
    call_membership.update_participants(room, [reported_participant(alice, b"0")])
    assert flags_of(participants.known_entries(room, 5)) == {bob.id: 3, bridge.id: 3}
    call_membership.update_participants(room, [reported_participant(bob, b"0")])
    assert flags_of(participants.known_entries(room, 5)) == {alice.id: 0, bob.id: 0, bridge.id: 3}


# reference 7.3-d
@pytest.mark.parametrize("whole", [True, False])
def test_sessions_elsewhere_are_not_stored_and_leaving_sessions_are_removed(whole: bool) -> None:
    hub, room, (_, alice, bob) = call_of("alice", "bob")
    carol = open_session(hub, "carol")
    join_room(hub, carol, "elsewhere")
    entries = [reported_participant(member, flags) for member, flags in ((alice, b"7"), (bob, b"0"), (carol, b"7"))]
    if whole:
        call_membership.replace_participants(room, entries, entries)
    else:
        call_membership.update_participants(room, entries)
    assert flags_of(room.participants.every_entry()) == {alice.id: 7, bob.id: 0}
    hub.leave(bob)
    hub.leave(alice)
    assert room.participants.every_entry() == []
    assert room.participants.left_call == set()
