"""Joins that Nextcloud has not answered yet, and its requests that arrive before the answer (reference 4.1)."""

from __future__ import annotations

import msgspec
from msgspec import Raw

from gateway.core.pending import PendingJoin, PendingJoins
from gateway.core.room import RoomKey
from gateway.core.session import ClientType
from gateway.wire.backend import ParticipantEntry
from tests.gateway.core.members import CLOUD, session

ROOM = RoomKey(CLOUD.id, "r")


def entries(*texts: str) -> list[ParticipantEntry]:
    return [msgspec.json.decode(text, type=dict[str, Raw]) for text in texts]


def pending_join(client_type: ClientType = ClientType.CLIENT) -> PendingJoin:
    return PendingJoins().add(session("alice", client_type=client_type), ROOM, "nc1")


def test_call_membership_and_entry_of_the_joining_session_are_kept() -> None:
    join = pending_join()
    join.note_in_call(entries('{"sessionId":"nc2","inCall":7}'), None)
    assert (join.in_call, join.entry) == (None, None)
    join.note_in_call(entries('{"sessionId":"nc1","inCall":7}', '{"sessionId":"nc2","inCall":0}'), None)
    assert join.in_call is True
    assert join.entry is not None
    assert bytes(join.entry["inCall"]) == b"7"
    join.note_in_call(entries('{"sessionId":"nc1"}'), entries('{"sessionId":"nc1","inCall":1}'))
    assert join.in_call is True
    assert bytes(join.entry["inCall"]) == b"1"


def test_flags_for_all_participants_count_for_clients_only() -> None:
    client, internal = pending_join(), pending_join(ClientType.INTERNAL)
    client.note_in_call(None, entries('{"sessionId":"nc1","inCall":0}'))
    for join in (client, internal):
        join.note_all_in_call(7)
    assert (client.in_call, internal.in_call) == (True, False)
    assert client.entry is not None
    assert bytes(client.entry["inCall"]) == b"7"
    assert internal.entry is None
    client.note_all_in_call(0)
    assert client.in_call is False


def test_latest_permissions_are_kept() -> None:
    join = pending_join()
    join.note_permissions(entries('{"sessionId":"nc1","permissions":["control"]}'))
    join.note_permissions(entries('{"sessionId":"nc1"}', '{"sessionId":"nc2","permissions":[]}'))
    join.note_permissions(None)
    assert join.permissions == ("control",)


def test_pending_joins_are_found_by_room_and_nextcloud_session_id() -> None:
    joins = PendingJoins()
    one, other = (joins.add(session(), ROOM, "nc1") for _ in range(2))
    third = joins.add(session(), ROOM, "nc3")
    assert list(joins.find(ROOM, "nc1")) == [one, other]
    assert joins.of_room(ROOM) == (one, other, third)
    assert joins.of_room(RoomKey("other", "r")) == ()
    for join in (one, third, other):
        joins.remove(join)
    assert len(joins) == 0
    assert list(joins.find(ROOM, "nc1")) == []
