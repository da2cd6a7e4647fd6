"""The requests of the rooms API as Talk builds them from a conversation, with full lists or with changes only. Pure.

Source: reference 6; the forms are those of Nextcloud 32 with Talk 22. Talk leaves out the lists once a server has
announced the feature ``changed-users``.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from typing import Any

from gateway.tools.talk_rooms import ActorType, Attendee, Json, Permission, TalkRoom, TalkSession

_LISTED = frozenset({ActorType.USERS, ActorType.GUESTS, ActorType.FEDERATED})  # not phones


def php_json(data: Any) -> bytes:
    """Encode data as PHP does: ``/`` becomes ``\\/``, and characters outside ASCII become ``\\u`` escapes."""
    return json.dumps(data, separators=(",", ":")).replace("/", "\\/").encode()


def invite(room: TalkRoom, userids: Iterable[str], *, changes_only: bool) -> Json:
    """Users became members."""
    return _members_changed("invite", room, {"userids": list(userids)}, changes_only)


def disinvite_sessions(room: TalkRoom, sessions: Iterable[str], *, changes_only: bool) -> Json:
    """Sessions ended: the first of the two requests after a removal, and the only one when a guest leaves."""
    return _members_changed("disinvite", room, {"sessionids": list(sessions)}, changes_only)


def disinvite_users(room: TalkRoom, userids: Iterable[str], *, changes_only: bool) -> Json:
    """Attendees were removed; ``userids`` is empty if they were guests."""
    return _members_changed("disinvite", room, {"userids": list(userids)}, changes_only)


def update(room: TalkRoom, *, changes_only: bool) -> Json:
    """The properties changed."""
    listed = {} if changes_only else {"userids": room.userids}
    return {"type": "update", "update": {**listed, "properties": room.properties()}}


def delete(room: TalkRoom, *, changes_only: bool) -> Json:
    """The conversation was deleted."""
    return {"type": "delete", "delete": {} if changes_only else {"userids": room.userids}}


def incall(room: TalkRoom, flags: int, changed: Collection[str], *, changes_only: bool) -> Json:
    """Sessions entered or left the call, or changed their flags.

    ``users`` has the sessions in the call: one that left is only in ``changed``, and one that no longer exists in none.
    """
    listed = [session for session in room.sessions.values() if session.attendee.actor_type in _LISTED]
    body: Json = {"incall": flags, "changed": [_in_call_entry(one) for one in listed if one.id in changed]}
    if not changes_only:
        body["users"] = [_in_call_entry(session) for session in listed if session.in_call]
    return {"type": "incall", "incall": body}


def incall_all(flags: int) -> Json:
    """A moderator ended the call, or let everybody enter it."""
    return {"type": "incall", "incall": {"incall": flags, "all": True}}


def participants(room: TalkRoom, changed: Collection[str], *, changes_only: bool) -> Json:
    """Attendees changed, for example their permissions; ``changed`` has their sessions."""
    sessions = [session for session in room.sessions.values() if session.attendee.actor_type in _LISTED]
    permissions = [
        {**_participant_entry(session), "permissions": session.attendee.granted}
        for session in sessions
        if session.id in changed
    ]
    body: Json = {"changed": permissions}
    if not changes_only:
        with_sessions = {session.attendee for session in sessions}
        away = [one for one in room.attendees if one not in with_sessions and one.actor_type in _LISTED]
        body["users"] = [_participant_entry(session) for session in sessions] + [_away_entry(one) for one in away]
    return {"type": "participants", "participants": body}


def _members_changed(kind: str, room: TalkRoom, changed: Json, changes_only: bool) -> Json:
    listed = {} if changes_only else {"alluserids": room.userids}
    return {"type": kind, kind: {**changed, **listed, "properties": room.properties(modified=False)}}


def _in_call_entry(session: TalkSession) -> Json:
    state = {"inCall": session.in_call, "lastPing": session.last_ping, "sessionId": session.id}
    return {**state, "nextcloudSessionId": session.id, **_actor(session.attendee, session.attendee.permissions)}


def _participant_entry(session: TalkSession) -> Json:
    state = {"inCall": session.in_call, "lastPing": session.last_ping, "sessionId": session.id}
    return state | _named(session.attendee, session.attendee.permissions)


def _away_entry(attendee: Attendee) -> Json:
    return {"inCall": 0, "lastPing": 0, "sessionId": "0", **_named(attendee, Permission.CUSTOM)}


def _named(attendee: Attendee, permissions: Permission) -> Json:
    return {"displayName": attendee.name, **_actor(attendee, permissions)}


def _actor(attendee: Attendee, permissions: Permission) -> Json:
    shown: Json = {
        "participantType": int(attendee.type),
        "participantPermissions": int(permissions),
        "actorType": attendee.actor_type,
        "actorId": attendee.actor_id,
    }
    return shown | ({"userId": attendee.userid} if attendee.userid else {})
