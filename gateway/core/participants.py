"""Participant lists: as Nextcloud sends them, and as clients receive them.

Source: reference 7.1-7.3. Entries are opaque except for a few members; all others stay byte for byte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import msgspec
from msgspec import Raw, Struct

from gateway.core.ids import SessionId
from gateway.core.room import Room
from gateway.core.session import Session
from gateway.wire.backend import ParticipantEntry

T = TypeVar("T")

_string_decoder = msgspec.json.Decoder(str)
_string_list_decoder = msgspec.json.Decoder(list[str])
_flags_decoder = msgspec.json.Decoder(bool | int | float)

_MAX_FLAGS = 2**31 - 1
IN_CALL = 1  # bit of the in-call flags; the others: 2 sends audio, 4 sends video, 8 phone (7)


class Participant(Struct, frozen=True):
    """An entry of a participant list for a session of this server."""

    session: SessionId
    entry: ParticipantEntry  # with the public session id, without permissions
    permissions: tuple[str, ...] | None  # None: not given, or malformed
    in_call: bool | None  # None: not given, or of another type


def resolve(entries: Iterable[ParticipantEntry], find: Callable[[str], SessionId | None]) -> list[Participant]:
    """Replace Nextcloud's session ids by public ones; drop entries with a missing, ``"0"`` or unknown id (7.2)."""
    found = []
    for entry in entries:
        key = "sessionId" if "sessionId" in entry else "sessionid"
        nextcloud_id = _string(entry.get(key))
        session = find(nextcloud_id) if nextcloud_id and nextcloud_id != "0" else None
        if session is None:
            continue
        shown = {name: value for name, value in entry.items() if name != "permissions"}
        shown[key] = Raw(msgspec.json.encode(session))
        permissions = _decode(entry.get("permissions"), _string_list_decoder)
        found.append(
            Participant(
                session, shown, None if permissions is None else tuple(permissions), in_call(entry.get("inCall"))
            )
        )
    return found


def in_call(value: Raw | None) -> bool | None:
    """Return whether in-call flags contain ``IN_CALL``, or a boolean is true; ``None`` for anything else."""
    flags = call_flags(value)
    return None if flags is None else bool(flags & IN_CALL)


def call_flags(value: Raw | None) -> int | None:
    """Read in-call flags; a boolean counts as 1 or 0; ``None`` for anything else."""
    flags = _decode(value, _flags_decoder)
    if flags is None or not 0 <= flags <= _MAX_FLAGS or flags != int(flags):
        return None
    return int(flags)


def merge(shown: list[ParticipantEntry], changed: Iterable[Participant]) -> list[ParticipantEntry]:
    """Return ``shown``, followed by the entries of ``changed`` whose sessions it lacks, the last one of each (5.4)."""
    latest = {participant.session: participant.entry for participant in changed}
    for entry in shown:
        latest.pop(_session(entry), None)
    return [*shown, *latest.values()]


def once(listed: Iterable[Participant]) -> list[Participant]:
    """Leave out all entries of a session but the last (7.2)."""
    return list({participant.session: participant for participant in listed}.values())


def present_in(room: Room, changed: Iterable[Participant]) -> list[Participant]:
    """Leave out participants that are not in a room: no leave would remove their entries from the room's list."""
    return [
        participant
        for participant in changed
        if participant.session in room.members or participant.session in room.virtuals
    ]


def unlisted_entries(room: Room, now: int, flags: int = IN_CALL) -> dict[SessionId, ParticipantEntry]:
    """Return new entries for the members without an entry, except internal clients, by session.

    ``flags`` are the in-call flags of members in the call; ``now`` is unix time in seconds.
    """
    return {
        member.id: _entry(
            member.id,
            flags if member.id in room.in_call else 0,
            now,
            **_identity(member),
        )
        for member in room.members.values()
        if not member.is_internal and member.id not in room.participants
    }


def _identity(member: Session) -> dict[str, object]:
    """Return the values of an entry that name a member: the actor of a federated user, otherwise the user id (7.3)."""
    if member.actor is not None:
        return {"actorType": member.actor.type, "actorId": member.actor.id}
    return {"userId": member.shown_userid} if member.shown_userid else {}


def known_entries(room: Room, now: int) -> list[ParticipantEntry]:
    """Return the list for an update that no request of Nextcloud causes: each member not known to have left the call.

    If no member is in the call, all are listed, with ``inCall`` 0. The list is empty if a member has no entry and
    Nextcloud has reported no call flags yet: for clients a member that a list lacks has left the call. ``now`` is unix
    time in seconds.
    """
    listed = room.participants
    others = unlisted_entries(room, now)
    if not listed.reported and others:
        return []
    shown = listed.shown_entries() + [entry for session, entry in others.items() if session not in listed.left_call]
    return complete(shown or [*listed.every_entry(), *others.values()], room, now)


def complete(entries: Iterable[ParticipantEntry], room: Room, now: int) -> list[ParticipantEntry]:
    """Add internal clients, virtual sessions, and the user ids of guests: Nextcloud does not list them (7.3).

    ``now`` is unix time in seconds.
    """
    shown, present = [], set()
    for entry in entries:
        session = _session(entry)
        present.add(session)
        shown.append(entry if _string(entry.get("userId")) else _with_identity(entry, session, room))
    for member in room.members.values():
        if member.is_internal:
            features = {"features": member.features} if member.features else {}
            shown.append(_entry(member.id, member.call_flags, now, internal=True, **features))
    for virtual in room.virtuals.values():
        if virtual.id not in present:
            shown.append(_entry(virtual.id, virtual.call_flags, now, virtual=True))
    return shown


def _with_identity(entry: ParticipantEntry, session: SessionId, room: Room) -> ParticipantEntry:
    """Add the room's user id to a guest's entry, and mark a virtual session's entry."""
    member, virtual = room.members.get(session), room.virtuals.get(session)
    if member is not None and member.room_userid:
        return {**entry, "userId": _raw(member.room_userid)}
    if virtual is not None:
        return {**entry, "virtual": _raw(True), "inCall": _raw(virtual.call_flags)}
    return entry


def _entry(session: SessionId, flags: int, now: int, **others: object) -> ParticipantEntry:
    values = {"inCall": flags, "sessionId": session, "lastPing": now, **others}
    return {name: _raw(value) for name, value in values.items()}


def _raw(value: object) -> Raw:
    return Raw(msgspec.json.encode(value))


def with_flags(entries: Iterable[ParticipantEntry], flags: int) -> list[ParticipantEntry]:
    """Set ``inCall`` of every entry (7.4)."""
    return [{**entry, "inCall": Raw(msgspec.json.encode(flags))} for entry in entries]


def _session(entry: ParticipantEntry) -> SessionId:
    """Return the public session id of an entry."""
    return SessionId(_string(entry.get("sessionId", entry.get("sessionid"))))


def _string(raw: Raw | None) -> str:
    return _decode(raw, _string_decoder) or ""


def _decode(raw: Raw | None, decoder: msgspec.json.Decoder[T]) -> T | None:
    if raw is None:
        return None
    try:
        return decoder.decode(raw)
    except msgspec.DecodeError:
        return None
