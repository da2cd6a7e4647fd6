"""The requests of the rooms API as Talk builds them from a conversation, with full lists or with changes only. Pure.

Source: reference 6; the requests have the form of Nextcloud 32 with Talk 22. ``changes_only``: the lists of all members
are left out, as Talk does once a server has announced the feature ``changed-users``.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from typing import Any

from gateway.tools.talk_rooms import ActorType, Attendee, Json, Permission, TalkRoom, TalkSession

_LISTED_ACTORS = frozenset({ActorType.USERS, ActorType.GUESTS, ActorType.FEDERATED})  # Talk lists no sessions of phones


def php_json(data: Any) -> bytes:
    """Encode data as PHP does: ``/`` becomes ``\\/``, and characters outside ASCII become ``\\u`` escapes."""
    return json.dumps(data, separators=(",", ":")).replace("/", "\\/").encode()


def invite(room: TalkRoom, userids: Iterable[str], *, changes_only: bool) -> Json:
    """Return the request that Talk sends after users became members."""
    return _membership_request("invite", room, {"userids": list(userids)}, changes_only)


def disinvite_sessions(room: TalkRoom, sessions: Iterable[str], *, changes_only: bool) -> Json:
    """Return the request about ended sessions: the first of two after a removal, the only one after a guest left."""
    return _membership_request("disinvite", room, {"sessionids": list(sessions)}, changes_only)


def disinvite_users(room: TalkRoom, userids: Iterable[str], *, changes_only: bool) -> Json:
    """Return the second request after the removal of attendees; ``userids`` is empty if they were guests."""
    return _membership_request("disinvite", room, {"userids": list(userids)}, changes_only)


def update(room: TalkRoom, *, changes_only: bool) -> Json:
    """Return the request that Talk sends after properties of the room changed."""
    lists = {} if changes_only else {"userids": room.userids}
    return {"type": "update", "update": {**lists, "properties": room.properties()}}


def delete(room: TalkRoom, *, changes_only: bool) -> Json:
    """Return the request about the deletion of the room."""
    return {"type": "delete", "delete": {} if changes_only else {"userids": room.userids}}


def incall(room: TalkRoom, flags: int, changed: Collection[str], *, changes_only: bool) -> Json:
    """Return the request about new in-call ``flags`` (reference 7) of the sessions with the ids ``changed``.

    The list ``users`` contains the sessions in the call. A session that left the call is only in the list ``changed``,
    a session that no longer exists is in neither list.
    """
    sessions = _listed_sessions(room)
    body: Json = {
        "incall": flags,
        "changed": [_in_call_entry(session) for session in sessions if session.id in changed],
    }
    if not changes_only:
        body["users"] = [_in_call_entry(session) for session in sessions if session.in_call]
    return {"type": "incall", "incall": body}


def incall_all(flags: int) -> Json:
    """Return the request about new in-call ``flags`` of all members; 0: a moderator ended the call for everybody."""
    return {"type": "incall", "incall": {"incall": flags, "all": True}}


def participants(room: TalkRoom, changed: Collection[str], *, changes_only: bool) -> Json:
    """Return the request about changed attendees, such as their permissions; ``changed``: ids of their sessions."""
    sessions = _listed_sessions(room)
    changes = [
        {**_participant_entry(session), "permissions": session.attendee.granted_permissions}
        for session in sessions
        if session.id in changed
    ]
    body: Json = {"changed": changes}
    if not changes_only:
        with_sessions = {session.attendee for session in sessions}
        body["users"] = [_participant_entry(session) for session in sessions] + [
            _entry_without_session(attendee)
            for attendee in room.attendees
            if attendee not in with_sessions and attendee.actor_type in _LISTED_ACTORS
        ]
    return {"type": "participants", "participants": body}


def _membership_request(type: str, room: TalkRoom, changed: Json, changes_only: bool) -> Json:
    lists = {} if changes_only else {"alluserids": room.userids}
    return {"type": type, type: {**changed, **lists, "properties": room.properties(with_description=False)}}


def _listed_sessions(room: TalkRoom) -> list[TalkSession]:
    return [session for session in room.sessions.values() if session.attendee.actor_type in _LISTED_ACTORS]


def _in_call_entry(session: TalkSession) -> Json:
    actor = _actor(session.attendee, session.attendee.permissions)
    return {**_session_state(session), "nextcloudSessionId": session.id, **actor}


def _participant_entry(session: TalkSession) -> Json:
    return _session_state(session) | _named_actor(session.attendee, session.attendee.permissions)


def _session_state(session: TalkSession) -> Json:
    return {"inCall": session.in_call, "lastPing": session.last_ping, "sessionId": session.id}


def _entry_without_session(attendee: Attendee) -> Json:
    return {"inCall": 0, "lastPing": 0, "sessionId": "0", **_named_actor(attendee, Permission.CUSTOM)}


def _named_actor(attendee: Attendee, permissions: Permission) -> Json:
    return {"displayName": attendee.name, **_actor(attendee, permissions)}


def _actor(attendee: Attendee, permissions: Permission) -> Json:
    actor: Json = {
        "participantType": int(attendee.type),
        "participantPermissions": int(permissions),
        "actorType": attendee.actor_type,
        "actorId": attendee.actor_id,
    }
    return actor | ({"userId": attendee.userid} if attendee.userid else {})
