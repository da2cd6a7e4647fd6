"""Transient data: key-value pairs that the sessions of a room share as long as it exists.

Source: reference 10. Values are opaque and sent byte for byte; two values are equal if they are the same JSON
value in any notation. An expiry time belongs to the value that it was set with.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from gateway.core.ids import SessionId

NANOSECONDS = 1_000_000_000  # in a second
SESSION_DATA = "sd:"  # prefix of a session's own key; its public id follows


class TransientChange(Struct, frozen=True):
    """The change of one key: its new value, or its removal."""

    key: str
    value: Raw | None  # None: removed
    old: Raw | None  # None: the key is new


class _Entry(Struct):
    value: Raw
    expires_at: float | None  # None: never


def session_key(session: SessionId) -> str:
    """Return the session's own key: only the session and internal clients may change it; it ends with the session."""
    return SESSION_DATA + session


class TransientData:
    """The transient data of one room; only the hub changes the values."""

    __slots__ = ("_entries", "encoded", "encoded_parts", "size")

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self.size = 0  # bytes of all keys and values
        self.encoded: bytes | None = None  # the message with all values, until the next change
        self.encoded_parts: list[bytes] | None = None  # several messages with all values, until the next change

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: str) -> bool:
        return key in self._entries

    def values(self) -> dict[str, Raw]:
        """Return all values by key."""
        return {key: entry.value for key, entry in self._entries.items()}

    def size_with(self, key: str, value: Raw) -> int:
        """Return the size of all keys and values in bytes as it would be with this value stored."""
        entry = self._entries.get(key)
        return self.size + _size(key, value) - (0 if entry is None else _size(key, entry.value))

    def set(self, key: str, value: Raw, expires_at: float | None) -> TransientChange | None:
        """Store a value; return ``None`` when an equal one is stored: then only its expiry time changes."""
        entry = self._entries.get(key)
        if entry is not None and is_same_value(entry.value, value):
            entry.expires_at = expires_at
            return None
        kept = Raw(bytes(value))
        self._forget_encoded()
        self._entries[key] = _Entry(kept, expires_at)
        self.size += _size(key, kept) - (0 if entry is None else _size(key, entry.value))
        return TransientChange(key, kept, None if entry is None else entry.value)

    def remove(self, key: str) -> TransientChange | None:
        """Remove a value; return ``None`` when there is none."""
        entry = self._entries.pop(key, None)
        if entry is None:
            return None
        self.size -= _size(key, entry.value)
        self._forget_encoded()
        return TransientChange(key, None, entry.value)

    def _forget_encoded(self) -> None:
        self.encoded = self.encoded_parts = None

    def expires_at(self, key: str) -> float | None:
        """Return the expiry time of a value; ``None``: it does not expire, or there is none."""
        entry = self._entries.get(key)
        return None if entry is None else entry.expires_at


def deadline(now: float, ttl: int | None) -> float | None:
    """Return the expiry time for a ``ttl`` in nanoseconds; ``None`` for a missing, zero or negative one (10)."""
    return now + ttl / NANOSECONDS if ttl is not None and ttl > 0 else None


def is_same_value(first: Raw, second: Raw) -> bool:
    """Return whether two JSON texts have the same value; numbers compare by value, a boolean equals no number."""
    if bytes(first) == bytes(second):
        return True
    try:
        return _equal(msgspec.json.decode(first), msgspec.json.decode(second))
    except (msgspec.DecodeError, RecursionError):  # a lone surrogate, or nested too deeply
        return False


def _equal(first: object, second: object) -> bool:
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(_equal(value, second[key]) for key, value in first.items())
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(_equal, first, second))
    return isinstance(first, bool) == isinstance(second, bool) and first == second


def _size(key: str, value: Raw) -> int:
    return len(key.encode()) + memoryview(value).nbytes
