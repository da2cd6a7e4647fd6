"""Who is in which room of the demo backend, and in its call. Pure: time and entropy are arguments."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

from msgspec import Struct

IN_CALL = 1  # the bit of ``inCall`` that makes a participant one of the call (reference 7)
FORGOTTEN = 120.0  # seconds without a ping (one each 10 s) after which a participant is gone
MAX_PARTICIPANTS = 1000  # a demo; more is a mistake


class TooManyParticipants(Exception):
    """No further participant is taken."""


class DemoParticipant(Struct):
    """One person in one room; ``session`` is the Talk session id, and as secret as it."""

    session: str
    user: str
    name: str
    room: str
    heard: float  # time of the last sign of life
    in_call: int = 0

    def entry(self) -> dict[str, Any]:
        """Describe the participant as the rooms API does (reference 7.2)."""
        return {
            "sessionId": self.session,
            "nextcloudSessionId": self.session,
            "userId": self.user,
            "displayName": self.name,
            "inCall": self.in_call,
            "participantType": 3,  # an ordinary user, in Talk's numbers
        }


class DemoRooms:
    """All participants of all rooms; a room exists while somebody is in it."""

    def __init__(self, entropy: Callable[[], str]) -> None:
        self._entropy = entropy
        self._participants: dict[str, DemoParticipant] = {}

    def join(self, name: str, room: str, person: str, now: float) -> DemoParticipant:
        """Add a participant and return it; the same secret ``person`` is always the same user.

        Raises:
            TooManyParticipants: there are too many.
        """
        self._forget(now)
        if len(self._participants) >= MAX_PARTICIPANTS:
            raise TooManyParticipants
        participant = DemoParticipant(self._entropy(), f"demo-{_digest(person)}", name, _digest(room.casefold()), now)
        self._participants[participant.session] = participant
        return participant

    def find(self, session: str) -> DemoParticipant | None:
        """Return the participant of a Talk session id."""
        return self._participants.get(session)

    def leave(self, session: str) -> DemoParticipant | None:
        """Remove a participant and return it, out of the call, if it was there."""
        participant = self._participants.pop(session, None)
        if participant is not None:
            participant.in_call = 0
        return participant

    def hear(self, sessions: Iterable[str], now: float) -> None:
        """Note a sign of life."""
        for session in sessions:
            if participant := self._participants.get(session):
                participant.heard = now

    def members(self, room: str) -> list[DemoParticipant]:
        """Return everybody in a room."""
        return [participant for participant in self._participants.values() if participant.room == room]

    def _forget(self, now: float) -> None:
        for participant in list(self._participants.values()):
            if now - participant.heard > FORGOTTEN:
                del self._participants[participant.session]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
