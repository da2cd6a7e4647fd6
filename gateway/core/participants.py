"""Lists of participants as Nextcloud sends them, and as clients see them.

Source: behaviour reference 7.1-7.3. Entries are opaque but for a few members; what is not ours stays as it was written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import msgspec
from msgspec import Raw, Struct

from gateway.core.ids import SessionId
from gateway.wire.backend import ParticipantEntry

T = TypeVar("T")

_strings = msgspec.json.Decoder(str)
_lists = msgspec.json.Decoder(list[str])
_flags = msgspec.json.Decoder(bool | int | float)

_GREATEST_FLAGS = 2**31 - 1
IN_CALL = 1  # bit of the flags; the others say what is sent (7)


class Participant(Struct, frozen=True):
    """One entry whose Nextcloud session is known here."""

    session: SessionId
    entry: ParticipantEntry  # with the public session id, without permissions
    permissions: tuple[str, ...] | None  # None: not given, or malformed
    in_call: bool | None  # None: not given, or of another type


def resolve(entries: Iterable[ParticipantEntry], find: Callable[[str], SessionId | None]) -> list[Participant]:
    """Replace Nextcloud's session ids by public ones; drop entries whose id is missing, ``"0"`` or unknown (7.2)."""
    found = []
    for entry in entries:
        key = "sessionId" if "sessionId" in entry else "sessionid"
        given = _string(entry.get(key))
        session = find(given) if given and given != "0" else None
        if session is None:
            continue
        shown = {name: value for name, value in entry.items() if name != "permissions"}
        shown[key] = Raw(msgspec.json.encode(session))
        permissions = _decoded(entry.get("permissions"), _lists)
        found.append(
            Participant(
                session, shown, None if permissions is None else tuple(permissions), in_call(entry.get("inCall"))
            )
        )
    return found


def in_call(value: Raw | None) -> bool | None:
    """Read an in-call value: flags with bit 1, or a boolean; ``None`` for anything else."""
    flags = call_flags(value)
    return None if flags is None else bool(flags & IN_CALL)


def call_flags(value: Raw | None) -> int | None:
    """Read in-call flags; a boolean counts as 1 or 0; ``None`` for anything else."""
    flags = _decoded(value, _flags)
    if flags is None or not 0 <= flags <= _GREATEST_FLAGS or flags != int(flags):
        return None
    return int(flags)


def merge(users: list[Participant], changed: list[Participant]) -> list[ParticipantEntry]:
    """Return the entries of ``users``, and those of ``changed`` that are not among them (5.4)."""
    known = {user.session for user in users}
    return [user.entry for user in users] + [user.entry for user in changed if user.session not in known]


def fill_user_ids(entries: Iterable[ParticipantEntry], userid_of: Callable[[SessionId], str]) -> list[ParticipantEntry]:
    """Give entries without a user id the one that Nextcloud gave their session for this room (7.3)."""
    return [_with_user_id(entry, userid_of) for entry in entries]


def _with_user_id(entry: ParticipantEntry, userid_of: Callable[[SessionId], str]) -> ParticipantEntry:
    if _string(entry.get("userId")):
        return entry
    session = _string(entry.get("sessionId", entry.get("sessionid")))
    userid = userid_of(SessionId(session)) if session else ""
    return {**entry, "userId": Raw(msgspec.json.encode(userid))} if userid else entry


def with_flags(entries: Iterable[ParticipantEntry], flags: int) -> list[ParticipantEntry]:
    """Set ``inCall`` of every entry (7.4)."""
    return [{**entry, "inCall": Raw(msgspec.json.encode(flags))} for entry in entries]


def _string(raw: Raw | None) -> str:
    return _decoded(raw, _strings) or ""


def _decoded(raw: Raw | None, decoder: msgspec.json.Decoder[T]) -> T | None:
    if raw is None:
        return None
    try:
        return decoder.decode(raw)
    except msgspec.DecodeError:
        return None
