"""Transient data of a room (reference 10): equality, expiry, sizes."""

from __future__ import annotations

import pytest
from msgspec import Raw

from gateway.core.hub import Hub
from gateway.core.transient import TransientChange, TransientData, deadline, is_same_value, session_key
from tests.gateway.core.members import OTHER_BACKEND, join_room, open_session

ONE, TWO = Raw(b"1"), Raw(b"2")


# reference 10-e
@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (b"1", b"1", True),
        (b"1", b"1.0", True),
        (b"1", b"true", False),
        (b"0", b"false", False),
        (b"[1,true]", b"[1.0, true]", True),
        (b"[1]", b"[true]", False),
        (b"[1]", b"[1,2]", False),
        (b"[]", b"{}", False),
        (b'{"a":1,"b":[{"c":null}]}', b'{ "b" : [ {"c":null} ], "a":1e0}', True),
        (b'{"a":1}', b'{"a":true}', False),
        (b'{"a":1}', b'{"b":1}', False),
        (b'"\\u0041"', b'"A"', True),
        (b'"\\ud83d"', b'"\\ud83d"', True),
        (b'"\\ud83d"', b'"A"', False),
        (b"[" * 5000 + b"]" * 5000, b"[" * 5000 + b" ]" + b"]" * 4999, False),
        (b"null", b"0", False),
    ],
)
def test_values_are_compared_as_json_values(one: bytes, other: bytes, equal: bool) -> None:
    assert is_same_value(Raw(one), Raw(other)) is equal
    assert is_same_value(Raw(other), Raw(one)) is equal


def test_change_has_the_new_and_the_old_value_and_an_equal_value_is_no_change() -> None:
    data = TransientData()
    assert data.set("k", ONE, None) == TransientChange("k", ONE, None)
    assert data.set("k", Raw(b"1.0"), None) is None
    assert data.set("k", TWO, None) == TransientChange("k", TWO, ONE)
    assert data.values() == {"k": TWO}
    assert data.remove("k") == TransientChange("k", None, TWO)
    assert data.remove("k") is None
    assert len(data) == 0


def test_size_counts_keys_and_values_in_bytes() -> None:
    data = TransientData()
    data.set("ä", Raw(b'"12"'), None)
    assert data.size == 2 + 4
    data.set("ä", ONE, None)
    assert data.size == 2 + 1
    data.set("b", ONE, 5.0)
    data.remove("b")
    data.remove("ä")
    assert data.size == 0


def test_value_outlives_the_buffer_of_its_message() -> None:
    data, buffer = TransientData(), bytearray(b"12")
    data.set("k", Raw(memoryview(buffer)), None)
    buffer[:] = b"99"
    assert bytes(data.values()["k"]) == b"12"


@pytest.mark.parametrize(
    ("ttl", "at"), [(None, None), (0, None), (-1, None), (1_500_000_000, 101.5), (2**63 - 1, 100 + (2**63 - 1) / 1e9)]
)
def test_time_to_live_is_in_nanoseconds(ttl: int | None, at: float | None) -> None:
    assert deadline(100.0, ttl) == at


def test_value_expires_at_its_time_and_not_before() -> None:
    hub = Hub()
    room = join_room(hub, open_session(hub))
    hub.set_transient(room, "l", ONE, 3_000_000_000, 0.0)
    hub.set_transient(room, "k", ONE, 2_000_000_000, 0.0)
    hub.set_transient(room, "for ever", ONE, None, 0.0)
    assert hub.next_transient_deadline() == 2.0
    assert hub.expire_transient(1.9) == []
    assert hub.expire_transient(2.0) == [(room, TransientChange("k", None, ONE))]
    assert hub.next_transient_deadline() == 3.0
    assert set(room.transient.values()) == {"l", "for ever"}


@pytest.mark.parametrize("value", [ONE, TWO])
def test_new_value_and_equal_value_replace_the_expiry_time(value: Raw) -> None:
    data = TransientData()
    data.set("k", ONE, 2.0)
    data.set("k", value, 4.0)
    assert data.expires_at("k") == 4.0
    data.set("k", value, None)
    assert data.expires_at("k") is None
    assert data.expires_at("no such key") is None
    assert "k" in data


def test_session_entry_is_removed_with_its_session_and_others_with_the_room() -> None:
    hub = Hub()
    alice, bob = open_session(hub, "alice"), open_session(hub, "bob")
    room = join_room(hub, alice)
    join_room(hub, bob)
    hub.set_transient(room, session_key(alice.id), ONE, None, 0.0)
    hub.set_transient(room, "k", ONE, 10, 0.0)
    left = hub.leave(alice)
    assert left is not None
    assert left.data == TransientChange(session_key(alice.id), None, ONE)
    assert hub.next_transient_deadline() == 1e-8
    hub.leave(bob)
    assert hub.next_transient_deadline() is None
    assert len(join_room(hub, bob).transient) == 0


def test_expired_values_are_returned_with_their_rooms() -> None:
    hub = Hub()
    one, other = join_room(hub, open_session(hub)), join_room(hub, open_session(hub, backend=OTHER_BACKEND))
    hub.set_transient(one, "k", ONE, 1_000_000_000, 0.0)
    hub.set_transient(other, "k", TWO, 2_000_000_000, 0.0)
    assert hub.next_transient_deadline() == 1.0
    assert hub.expire_transient(0.5) == []
    assert hub.expire_transient(1.0) == [(one, TransientChange("k", None, ONE))]
    assert hub.next_transient_deadline() == 2.0
    assert hub.remove_transient(other, "k") == TransientChange("k", None, TWO)
    assert hub.expire_transient(2.0) == []
    assert hub.next_transient_deadline() is None


def test_size_with_a_value_subtracts_the_replaced_value() -> None:
    data = TransientData()
    data.set("key", Raw(b'"12345"'), None)
    assert data.size_with("key", ONE) == len("key") + 1
    assert data.size_with("other", ONE) == data.size + len("other") + 1
