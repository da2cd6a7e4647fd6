"""Values that the sessions of a room share while it lasts.

Source: reference 10. Values are opaque and go out byte for byte; two of them are equal when they are the same
JSON value, however written. A deadline is a number; it dies with the value it was set for.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from gateway.core.ids import SessionId

NANOSECONDS = 1_000_000_000  # in a second
SESSION_DATA = "sd:"  # begins the key of what belongs to one session, whose public id follows


class TransientChange(Struct, frozen=True):
    """A key has a new value, or none any more."""

    key: str
    value: Raw | None  # None: removed
    old: Raw | None  # None: the key is new


class _Entry(Struct):
    value: Raw
    expires_at: float | None  # None: never


def session_key(session: SessionId) -> str:
    """Return the key that only this session (and internal clients) may change, and that leaves with it."""
    return SESSION_DATA + session


class TransientData:
    """The keys and values of one room; changed by the hub only."""

    __slots__ = ("_entries", "size")

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self.size = 0  # bytes of all keys and values

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def values(self) -> dict[str, Raw]:
        """Return all values by key."""
        return {key: entry.value for key, entry in self._entries.items()}

    def size_with(self, key: str, value: Raw) -> int:
        """Return the bytes of all keys and values once this one is stored."""
        entry = self._entries.get(key)
        return self.size + _size(key, value) - (0 if entry is None else _size(key, entry.value))

    def set(self, key: str, value: Raw, expires_at: float | None) -> TransientChange | None:
        """Store a value; ``None`` when an equal one is there: only the deadline is new then."""
        entry = self._entries.get(key)
        if entry is not None and same(entry.value, value):
            entry.expires_at = expires_at
            return None
        kept = Raw(bytes(value))
        self._entries[key] = _Entry(kept, expires_at)
        self.size += _size(key, kept) - (0 if entry is None else _size(key, entry.value))
        return TransientChange(key, kept, None if entry is None else entry.value)

    def remove(self, key: str) -> TransientChange | None:
        """Forget a value; ``None`` when there is none."""
        entry = self._entries.pop(key, None)
        if entry is None:
            return None
        self.size -= _size(key, entry.value)
        return TransientChange(key, None, entry.value)

    def expires_at(self, key: str) -> float | None:
        """When a value is over; ``None``: never, or there is none."""
        entry = self._entries.get(key)
        return None if entry is None else entry.expires_at


def deadline(now: float, ttl: int | None) -> float | None:
    """Return when a value that lives ``ttl`` nanoseconds is over; none, zero or less: never (10)."""
    return now + ttl / NANOSECONDS if ttl is not None and ttl > 0 else None


def same(one: Raw, other: Raw) -> bool:
    """Whether two JSON texts stand for the same value; numbers count by value, and a boolean is no number."""
    if bytes(one) == bytes(other):
        return True
    try:
        return _equal(msgspec.json.decode(one), msgspec.json.decode(other))
    except (msgspec.DecodeError, RecursionError):  # half a surrogate pair, or deeper than anybody writes
        return False


def _equal(one: object, other: object) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def _size(key: str, value: Raw) -> int:
    return len(key.encode()) + memoryview(value).nbytes
