"""The last list of participants that a host has sent to a client; after a resume the client gets it again.

Source: reference 2.8, 7.3, 12.3-l.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from gateway.flows.federation.remote_session import SharedBytes
from gateway.wire import remote_messages
from gateway.wire.client import ABSENT, is_given
from gateway.wire.media import read_string
from gateway.wire.remote_messages import RemoteEvent, RemoteEventBody, RemoteParticipantsBody

# Limits of the kept lists. While all lists together exceed the total, none beyond the guaranteed size is stored.
MAX_LIST_BYTES = 1_048_576
MAX_LIST_BYTES_TOTAL = 67_108_864
GUARANTEED_LIST_BYTES = 16_384


class _Update(Struct, frozen=True):
    users: Raw = ABSENT
    changed: Raw = ABSENT
    incall: Raw = ABSENT
    all: bool = False


_updates = msgspec.json.Decoder(_Update)
_lists = msgspec.json.Decoder(list[dict[str, Raw]])
_encoder = msgspec.json.Encoder()


class ListedParticipants:
    """The last list of participants for one client, with local ids; ``list_bytes`` counts the memory of all lists."""

    def __init__(self, list_bytes: SharedBytes) -> None:
        self._list_bytes = list_bytes
        self._users = b""  # the encoded list; empty: none is known
        self._left: set[str] = set()  # sessions that have left the room since
        self._call_ended = False  # whether all have left the call since
        self._size = 0  # bytes of the list and of the ids in ``_left``

    def note(self, event: RemoteEventBody) -> None:
        """Store the list of participants in an event, or apply the changes in the event to the stored list."""
        if event.leave is not None and self._users:
            self._left.update(event.leave)
            self._resize(self._size + sum(map(len, event.leave)))
        elif event.target == "participants" and is_given(event.update):
            self._note_update(_updates.decode(event.update))

    def message(self, room: str) -> bytes | None:
        """Return the update of the participants of a room, or ``None`` if no list is known or the list is empty."""
        users = self._current_entries()
        if not users:
            return None
        body = Raw(_encoder.encode(RemoteParticipantsBody(room, users=users)))
        return remote_messages.encode(RemoteEvent(RemoteEventBody("participants", "update", update=body)))

    def forget(self) -> None:
        """Drop the list. Idempotent."""
        self._users, self._call_ended = b"", False
        self._left.clear()
        self._list_bytes.total -= self._size
        self._size = 0

    def _note_update(self, update: _Update) -> None:
        if is_given(update.users):
            self._keep(bytes(update.users))
        elif update.all and bytes(update.incall) == b"0":
            self._call_ended = True
        elif update.all:
            self.forget()  # the entries do not show which participants are federated, so not in the call (12.4-b)
        elif is_given(update.changed) and self._users:
            changed = {_session_id(entry): entry for entry in _lists.decode(update.changed)}
            users = {_session_id(entry): entry for entry in self._current_entries()} | changed
            self._keep(_encoder.encode(list(users.values())))

    def _keep(self, users: bytes) -> None:
        self.forget()
        self._users = users
        self._resize(len(users))

    def _resize(self, size: int) -> None:
        self._list_bytes.total += size - self._size
        self._size = size
        if size > MAX_LIST_BYTES or (self._list_bytes.total > MAX_LIST_BYTES_TOTAL and size > GUARANTEED_LIST_BYTES):
            self.forget()

    def _current_entries(self) -> list[dict[str, Raw]]:
        if not self._users:
            return []
        users = [entry for entry in _lists.decode(self._users) if _session_id(entry) not in self._left]
        return [entry | {"inCall": Raw(b"0")} for entry in users] if self._call_ended else users


def _session_id(entry: dict[str, Raw]) -> str | None:
    session = read_string(entry.get("sessionId", ABSENT))
    return read_string(entry.get("sessionid", ABSENT)) if session is None else session
