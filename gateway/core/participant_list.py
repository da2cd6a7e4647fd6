"""The participants of a room as Nextcloud has reported them: one entry for each session.

Nextcloud sends either the list of all participants in the call, or only the participants that changed. In both cases
clients get lists of all participants; a participant that leaves the call is in the list that reports the leave, and in
later ones only if it enters the call again, or when no participant is in the call.

Source: reference 7.3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw

from gateway.core.ids import SessionId
from gateway.wire.backend import ParticipantEntry

if TYPE_CHECKING:
    from gateway.core.participants import Participant


class ParticipantList:
    """The entries of sessions that are in the room; only the hub changes them."""

    __slots__ = ("_entries", "left_call", "reported")

    def __init__(self) -> None:
        self.reported = False  # whether Nextcloud has reported in-call flags of any participant
        self.left_call: set[SessionId] = set()  # sessions whose leave of the call was reported to clients
        self._entries: dict[SessionId, ParticipantEntry] = {}

    def __contains__(self, session: SessionId) -> bool:
        return session in self._entries

    def shown_entries(self) -> list[ParticipantEntry]:
        """Return the entries that clients get: without those of sessions that left the call."""
        return [entry for session, entry in self._entries.items() if session not in self.left_call]

    def shown_with(self, changed: Iterable[Participant]) -> list[ParticipantEntry]:
        """Return the entries of ``shown_entries`` with those in ``changed`` replaced; store nothing."""
        entries = {session: entry for session, entry in self._entries.items() if session not in self.left_call}
        for participant in changed:
            if participant.session in entries:
                entries[participant.session] = self._current_entry(participant)
        return list(entries.values())

    def every_entry(self) -> list[ParticipantEntry]:
        """Return all entries, also those of sessions that left the call."""
        return list(self._entries.values())

    def replace(self, listed: Iterable[Participant], changed: Iterable[Participant]) -> None:
        """Store a list of all participants in the call, and the participants that have just entered or left it."""
        self.reported = True
        entries = {participant.session: participant.entry for participant in listed}
        self.left_call.difference_update(entries)
        left = {session: entry for session, entry in self._entries.items() if session in self.left_call}
        self._entries = entries | left
        for participant in changed:
            if participant.session not in entries:
                self._store(participant)

    def update(self, changed: Iterable[Participant]) -> None:
        """Replace the entries of the sessions in ``changed``, and add those of new sessions."""
        self.reported = True
        for participant in changed:
            self._store(participant)

    def set_flags(self, flags: int, others: Mapping[SessionId, ParticipantEntry]) -> None:
        """Set ``inCall`` of every entry, and add ``others``: the entries of sessions that had none (7.4)."""
        self.reported = True
        value = Raw(msgspec.json.encode(flags))
        self._entries = {session: {**entry, "inCall": value} for session, entry in self._entries.items()}
        self._entries.update(others)

    def remove(self, session: SessionId) -> None:
        """Forget a session that left the room."""
        self._entries.pop(session, None)
        self.left_call.discard(session)

    def _store(self, changed: Participant) -> None:
        """Store an entry; an entry without in-call flags neither adds a session nor changes its flags (7.1)."""
        session = changed.session
        if changed.in_call is None and session not in self._entries:
            return
        self._entries[session] = self._current_entry(changed)
        if changed.in_call is not None:
            if changed.in_call:
                self.left_call.discard(session)
            else:
                self.left_call.add(session)

    def _current_entry(self, changed: Participant) -> ParticipantEntry:
        """Return the new entry of a session, with the stored ``inCall`` if the new entry has none."""
        stored = self._entries.get(changed.session, {})
        if changed.in_call is None and "inCall" in stored:
            return {**changed.entry, "inCall": stored["inCall"]}
        return changed.entry
