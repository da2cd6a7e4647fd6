"""The members of a room's call, and what its list of participants says about them.

Invariant 1, core is atomic: nothing here awaits.

Source: reference 7.
"""

from __future__ import annotations

from gateway.core.changes import CallMembershipChanged
from gateway.core.ids import SessionId
from gateway.core.participants import Participant, present_in, unlisted_entries
from gateway.core.room import Room
from gateway.core.session import ClientType, Session


def set_in_call(room: Room, session: SessionId, in_call: bool) -> Session | None:
    """Set whether a member or virtual session is in the call; return a member whose streams must end now (7.1)."""
    member, virtual = room.members.get(session), room.virtuals.get(session)
    if virtual is not None:
        virtual.in_call = in_call
    if member is None:
        return None
    if in_call:
        if member.evicted_by is None:
            room.in_call.add(session)
        return None
    room.in_call.discard(session)
    return member


def set_all_in_call(room: Room, in_call: bool) -> CallMembershipChanged:
    """Let all clients enter the call, or all members and virtual sessions leave it (7.4)."""
    if in_call:
        clients = tuple(
            member
            for member in room.members.values()
            if member.client_type is ClientType.CLIENT and member.evicted_by is None
        )
        new = [member.id for member in clients if member.id not in room.in_call]
        room.in_call.update(new)
        room.participants.left_call.difference_update(member.id for member in clients)
        return CallMembershipChanged(clients if new else (), ())
    left = tuple(room.members[session] for session in room.members if session in room.in_call)
    room.in_call.clear()
    room.participants.left_call.update(room.members)
    virtuals = [virtual for virtual in room.virtuals.values() if virtual.in_call]
    for virtual in virtuals:
        virtual.in_call = False
    return CallMembershipChanged(tuple(room.members.values()) if left or virtuals else (), left)


def replace_participants(room: Room, listed: list[Participant], changed: list[Participant]) -> None:
    """Store ``listed`` and ``changed`` of an ``incall`` request that lists all participants (7.3)."""
    room.participants.replace(present_in(room, listed), present_in(room, changed))


def update_participants(room: Room, changed: list[Participant]) -> None:
    """Store the entries of the participants that changed, and keep those of the others (7.3)."""
    room.participants.update(present_in(room, changed))


def set_flags_of_all(room: Room, flags: int, now: int) -> None:
    """Set the in-call flags of all stored entries, and add entries for the members without one (7.4).

    Internal clients get no entry. ``now`` is unix time in seconds.
    """
    room.participants.set_flags(flags, unlisted_entries(room, now, flags))
