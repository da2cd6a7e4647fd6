"""Expiry times of transient values: the earliest first, without a scan of all values."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.hub import Hub
from gateway.core.room import RoomKey
from gateway.core.transient_deadlines import TransientDeadlines
from tests.gateway.core.members import EMPTY_OBJECT, join_room, open_session

ROOM = RoomKey("cloud", "r")
SECOND = 1_000_000_000

changes = st.tuples(st.sampled_from("abc"), st.one_of(st.none(), st.integers(0, 9).map(float)))


class ExpiryTimes:
    """The valid expiry times; counts their look-ups."""

    def __init__(self) -> None:
        self.at: dict[tuple[RoomKey, str], float] = {}
        self.lookups = 0
        self.deadlines = TransientDeadlines(self.find)

    def find(self, room: RoomKey, key: str) -> float | None:
        self.lookups += 1
        return self.at.get((room, key))

    def set(self, key: str, at: float | None) -> None:
        if at is None:
            self.at.pop((ROOM, key), None)
        else:
            self.at[ROOM, key] = at
            self.deadlines.add(at, ROOM, key)


@given(st.lists(changes, max_size=200), st.integers(0, 9))
def test_values_expire_in_the_order_of_their_latest_expiry_times(
    changes: list[tuple[str, float | None]], now: int
) -> None:
    times = ExpiryTimes()
    for key, at in changes:
        times.set(key, at)
        assert times.deadlines.next_expiry() == min(times.at.values(), default=None)
    due = sorted(at for at in times.at.values() if at <= now)
    taken = []
    while (expired := times.deadlines.take(float(now))) is not None:
        taken.append(times.at.pop(expired))
    assert taken == due
    assert times.deadlines.next_expiry() == min(times.at.values(), default=None)


def test_heap_does_not_grow_when_one_value_is_set_repeatedly() -> None:
    times = ExpiryTimes()
    times.set("a", 1.0)
    for number in range(10_000):
        times.set("b", 20_000.0 - number)
        assert len(times.deadlines) < 200
    assert times.deadlines.next_expiry() == 1.0
    assert times.lookups < 30_000


def test_setting_a_value_does_not_read_values_of_other_rooms() -> None:
    times = ExpiryTimes()
    for number in range(9_000):
        times.set(str(number), 1000.0 + number)
    times.lookups = 0
    for number in range(100):
        times.set("mine", 1.0 + number)
        assert times.deadlines.next_expiry() == 1.0 + number
    assert times.lookups < 500


def test_new_room_of_the_same_name_does_not_inherit_expiry_times() -> None:
    hub = Hub()
    alice = open_session(hub)
    hub.set_transient(join_room(hub, alice), "k", EMPTY_OBJECT, SECOND, 0.0)
    hub.leave(alice)
    room = join_room(hub, alice)
    hub.set_transient(room, "k", EMPTY_OBJECT, None, 0.5)
    assert hub.next_transient_deadline() is None
    assert hub.expire_transient(2.0) == []
    assert "k" in room.transient
