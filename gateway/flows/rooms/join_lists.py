"""Join events: of one participant, and the list of all participants for a session that joins.

Source: reference 4.3. A list is sent in parts, so that no message is longer than a client accepts. An entry is encoded
once for each form. The full parts of the latest list are kept, so that the outboxes of sessions that join one after
another share their bytes.
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.core.room import Room
from gateway.core.session import Session
from gateway.core.virtual import VirtualSession
from gateway.core.visibility import Form, join_entry
from gateway.wire import server

PART_SIZE = 32_768  # bytes of entries in one event of a list; more if a single entry is longer


def join_event(participant: Session | VirtualSession, form: Form) -> bytes:
    """Return the join event of one participant."""
    return server.join_event((_entry(participant, form),))


def list_parts(room: Room, participants: Iterable[Session | VirtualSession], form: Form) -> list[bytes]:
    """Return the events that list participants, in their order; the room keeps the full parts until the next list."""
    known, kept = room.join_parts, {}
    parts: list[bytes] = []
    entries: list[bytes] = []
    size = 0
    for participant in participants:
        entry = _entry(participant, form)
        if entries and size + len(entry) > PART_SIZE:
            key = tuple(entries)
            kept[key] = part = known.get(key) or server.join_event(key)
            parts.append(part)
            entries, size = [], 0
        entries.append(entry)
        size += len(entry)
    room.join_parts = kept
    return [*parts, server.join_event(entries)] if entries else parts


def _entry(participant: Session | VirtualSession, form: Form) -> bytes:
    entry = participant.join_entries.get(form.value)
    if entry is None:
        entry = participant.join_entries[form.value] = server.encode_join_entry(join_entry(participant, form))
    return entry
