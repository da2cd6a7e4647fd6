"""Conversations that are not played at the level ``federated``, with the reasons."""

from __future__ import annotations

_NO_ROOM = "no client joins a room"
_TIME = "time passes, which only the level of the flows can do"
_ALL_IN_CALL = "federated sessions do not enter the call with all others (12.4); incall-all-federated shows it"

LOCAL_ONLY = {
    "ack": _NO_ROOM,
    "dialout-refused": _NO_ROOM,
    "dialout-timeout": _TIME,
    "drain": _NO_ROOM,
    "disinvited-away": "the host ends the session at once: its connection, that of the local server, is not lost",
    "federation-refused": "it is about the connection to another server; this level has one",
    "hello": _NO_ROOM,
    "hello-again": _NO_ROOM,
    "hello-expected": "the client never says hello",
    "hello-federation": _NO_ROOM,
    "hello-guest": _NO_ROOM,
    "hello-internal": _NO_ROOM,
    "hello-internal-off": _NO_ROOM,
    "hello-nextcloud-fails": "the local Nextcloud answers hellos, and the host's Nextcloud joins",
    "hello-refused": _NO_ROOM,
    "hello-timeout": _TIME,
    "incall-all": _ALL_IN_CALL,
    "internal-malformed": _NO_ROOM,
    "keep-alive": _TIME,
    "media-errors": _NO_ROOM,
    "media-relayed": _NO_ROOM,
    "messages-malformed": _NO_ROOM,
    "messages-verbatim": _NO_ROOM,
    "publisher-missing": _TIME,
    "publish": _NO_ROOM,
    "publish-again": _NO_ROOM,
    "publish-bad-candidate": _NO_ROOM,
    "publish-nothing": _NO_ROOM,
    "resume-refused": _NO_ROOM,
    "resume-takeover": _NO_ROOM,
    "resume-unlisted": "the local server keeps the last list, which may be that of a participants request (12.3)",
    "room-join-timeout": _TIME,
    "screen-ended": _TIME,
    "session-expiry": _TIME,
    "session-limit": _NO_ROOM,
    "switchto": "it names another room of the host, to which no client of another server is sent: switchto-federated",
    "throttled": _TIME,
    "transient-expiry": _TIME,
    "virtual-all-in-call": _ALL_IN_CALL,
    "virtual-media": _TIME,
}
NO_ROOM = frozenset(name for name, reason in LOCAL_ONLY.items() if reason == _NO_ROOM)
TIME = frozenset(name for name, reason in LOCAL_ONLY.items() if reason == _TIME)
ALL_IN_CALL = frozenset(name for name, reason in LOCAL_ONLY.items() if reason == _ALL_IN_CALL)
