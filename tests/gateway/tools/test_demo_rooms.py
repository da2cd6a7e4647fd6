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
    people = rooms()
    ada = people.join("Ada", "Kitchen", SECRET, now=0.0)
    bob = people.join("Bob", "kitchen", "another secret", now=0.0)
    assert ada.room == bob.room
    assert people.members(ada.room) == [ada, bob]


def test_person_that_joins_again_is_the_same_user_with_another_session() -> None:
    people = rooms()
    first = people.join("Ada", "kitchen", SECRET, now=0.0)
    second = people.join("Ada", "kitchen", SECRET, now=1.0)
    assert first.user == second.user
    assert first.session != second.session
    assert SECRET not in first.user


def test_participant_that_leaves_is_not_in_the_call() -> None:
    people = rooms()
    ada = people.join("Ada", "kitchen", SECRET, now=0.0)
    ada.in_call = 7
    assert people.leave(ada.session) is ada
    assert ada.entry()["inCall"] == 0
    assert people.find(ada.session) is None
    assert people.leave(ada.session) is None


def test_participant_without_pings_expires() -> None:
    people = rooms()
    silent = people.join("Ada", "kitchen", SECRET, now=0.0)
    heard = people.join("Bob", "kitchen", "another secret", now=0.0)
    people.refresh([heard.session, "unknown"], now=EXPIRY)
    people.join("Cleo", "hall", "a third secret", now=EXPIRY + 1)
    assert people.members(heard.room) == [heard]
    assert people.find(silent.session) is None


def test_number_of_participants_is_limited() -> None:
    people = rooms()
    for _ in range(MAX_PARTICIPANTS):
        people.join("Ada", "kitchen", SECRET, now=0.0)
    with pytest.raises(TooManyParticipants):
        people.join("Bob", "kitchen", SECRET, now=0.0)
