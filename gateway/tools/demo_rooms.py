"""The participants of the demo backend's rooms and calls. Pure: time and entropy are arguments."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

from msgspec import Struct

IN_CALL = 1  # the bit of ``inCall`` for being in the call (reference 7)
EXPIRY = 120.0  # seconds without a ping (one each 10 s) after which a participant is removed
MAX_PARTICIPANTS = 1000  # at once, in all rooms of the demo


class TooManyParticipants(Exception):
    """The limit of participants is reached."""


class DemoParticipant(Struct):
    """A user in a room; ``session`` is the Talk session id, which is secret."""

    session: str
    user: str
    name: str
    room: str
    last_seen: float  # time of the last join or ping
    in_call: int = 0

    def entry(self) -> dict[str, Any]:
        """Return the participant's entry in a request of the rooms API (reference 7.2)."""
        return {
            "sessionId": self.session,
            "nextcloudSessionId": self.session,
            "userId": self.user,
            "displayName": self.name,
            "inCall": self.in_call,
            "participantType": 3,  # a user without moderator rights (Talk's constant)
        }


class DemoRooms:
    """All participants of all rooms; a room exists while it has participants."""

    def __init__(self, entropy: Callable[[], str]) -> None:
        self._entropy = entropy
        self._participants: dict[str, DemoParticipant] = {}

    def join(self, name: str, room: str, person: str, now: float) -> DemoParticipant:
        """Add a participant and return it; the same secret ``person`` always gives the same user.

        Raises:
            TooManyParticipants: the limit is reached.
        """
        self._expire(now)
        if len(self._participants) >= MAX_PARTICIPANTS:
            raise TooManyParticipants
        participant = DemoParticipant(self._entropy(), f"demo-{_digest(person)}", name, _digest(room.casefold()), now)
        self._participants[participant.session] = participant
        return participant

    def find(self, session: str) -> DemoParticipant | None:
        """Return the participant with a Talk session id."""
        return self._participants.get(session)

    def leave(self, session: str) -> DemoParticipant | None:
        """Remove a participant, take it out of the call and return it, if it exists."""
        participant = self._participants.pop(session, None)
        if participant is not None:
            participant.in_call = 0
        return participant

    def refresh(self, sessions: Iterable[str], now: float) -> None:
        """Restart the expiry of participants."""
        for session in sessions:
            if participant := self._participants.get(session):
                participant.last_seen = now

    def members(self, room: str) -> list[DemoParticipant]:
        """Return the participants of a room."""
        return [participant for participant in self._participants.values() if participant.room == room]

    def _expire(self, now: float) -> None:
        for participant in list(self._participants.values()):
            if now - participant.last_seen > EXPIRY:
                del self._participants[participant.session]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
