"""The participants of the demo's rooms, with time as an argument."""

from __future__ import annotations

import itertools

import pytest

from gateway.tools.demo_rooms import EXPIRY, MAX_PARTICIPANTS, DemoRooms, TooManyParticipants

SECRET = "the secret of a person"


def rooms() -> DemoRooms:
    numbers = itertools.count(1)
    return DemoRooms(lambda: f"session-{next(numbers)}")


def test_room_names_are_case_insensitive() -> None:
    demo_rooms = rooms()
    ada = demo_rooms.join("Ada", "Kitchen", SECRET, now=0.0)
    bob = demo_rooms.join("Bob", "kitchen", "another secret", now=0.0)
    assert ada.room == bob.room
    assert demo_rooms.members(ada.room) == [ada, bob]


def test_person_that_joins_again_is_the_same_user_with_another_session() -> None:
    demo_rooms = rooms()
    first = demo_rooms.join("Ada", "kitchen", SECRET, now=0.0)
    second = demo_rooms.join("Ada", "kitchen", SECRET, now=1.0)
    assert first.user == second.user
    assert first.session != second.session
    assert SECRET not in first.user


def test_participant_that_leaves_is_not_in_the_call() -> None:
    demo_rooms = rooms()
    ada = demo_rooms.join("Ada", "kitchen", SECRET, now=0.0)
    ada.in_call = 7
    assert demo_rooms.leave(ada.session) is ada
    assert ada.entry()["inCall"] == 0
    assert demo_rooms.find(ada.session) is None
    assert demo_rooms.leave(ada.session) is None


def test_participant_without_pings_expires() -> None:
    demo_rooms = rooms()
    silent = demo_rooms.join("Ada", "kitchen", SECRET, now=0.0)
    pinged = demo_rooms.join("Bob", "kitchen", "another secret", now=0.0)
    demo_rooms.refresh([pinged.session, "unknown"], now=EXPIRY)
    demo_rooms.join("Cleo", "hall", "a third secret", now=EXPIRY + 1)
    assert demo_rooms.members(pinged.room) == [pinged]
    assert demo_rooms.find(silent.session) is None


def test_number_of_participants_is_limited() -> None:
    demo_rooms = rooms()
    for _ in range(MAX_PARTICIPANTS):
        demo_rooms.join("Ada", "kitchen", SECRET, now=0.0)
    with pytest.raises(TooManyParticipants):
        demo_rooms.join("Bob", "kitchen", SECRET, now=0.0)
