"""What Nextcloud tells the members of a room, chat messages above all: who may see how much of it.

Source: reference 5.5, 5.6, 6.7. Receivers that see the same share the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Raw, Struct

from gateway.core.outbox import Offline
from gateway.core.session import Session
from gateway.wire import server
from gateway.wire.client import given
from gateway.wire.server import Event, EventBody, RoomDataBody

CHAT_RELAY = "chat-relay"  # feature of clients that take comments out of the event

Rendering = tuple[bytes, Offline]


class _Chat(Struct, frozen=True):
    refresh: bool | None = None
    comment: Raw = Raw()
    comments: list[Raw] | None = None


class _ChatMessage(Struct, frozen=True):
    type: str | None = None
    chat: _Chat | None = None


_decoder = msgspec.json.Decoder(_ChatMessage)
_objects = msgspec.json.Decoder(dict[str, Raw])
_strings = msgspec.json.Decoder(str)
_encoder = msgspec.json.Encoder()

_REFRESH = Raw(b'{"type":"chat","chat":{"refresh":true}}')


class RoomMessage:
    """One message of Nextcloud to a room, in the forms that its receivers see."""

    def __init__(self, roomid: str, data: Raw) -> None:
        self._roomid = roomid
        self._data = data
        self._refresh, self._comments = _chat(data)
        self._forms: dict[tuple[bool, bool], Sequence[Rendering]] = {}

    def audiences(self, members: Iterable[Session]) -> Iterable[tuple[list[Session], Sequence[Rendering]]]:
        """Yield who sees which messages, with what the queue of a disconnected session must know of each."""
        groups: dict[tuple[bool, bool], list[Session]] = {}
        for member in members:
            key = (False, False)
            if self._comments:
                key = (CHAT_RELAY in member.features, member.permissions.hides_names)
            groups.setdefault(key, []).append(member)
        for (relayed, nameless), sessions in groups.items():
            yield sessions, self._rendered(relayed, nameless)

    def _rendered(self, relayed: bool, nameless: bool) -> Sequence[Rendering]:
        if not self._comments:
            return [self._event(self._data, Offline.REFRESH_ONCE if self._refresh else Offline.KEEP)]
        if self._refresh and not relayed:
            return [self._event(_REFRESH, Offline.REFRESH_ONCE)]
        comments = [_nameless(comment) if nameless else comment for comment in self._comments]
        return [self._event(_comment(comment), Offline.KEEP) for comment in comments]

    def _event(self, data: Raw, offline: Offline) -> Rendering:
        event = Event(EventBody("room", "message", message=RoomDataBody(self._roomid, data)))
        return server.encode(event), offline


def _chat(data: Raw) -> tuple[bool, list[Raw]]:
    """Return whether a message asks to refresh the chat, and its comments, null and empty ones left out."""
    try:
        message = _decoder.decode(data)
    except (msgspec.DecodeError, RecursionError):  # not a chat message of the known form: passed on as it is
        return False, []
    if message.type != "chat" or message.chat is None:
        return False, []
    comments = [message.chat.comment, *(message.chat.comments or ())]
    return bool(message.chat.refresh), [comment for comment in comments if _filled(comment)]


def _filled(comment: Raw) -> bool:
    return given(comment) and bytes(comment).strip() not in (b"{}", b'""', b"[]")


def _comment(comment: Raw) -> Raw:
    return Raw(_encoder.encode({"type": "chat", "chat": {"comment": comment}}))


def _nameless(comment: Raw) -> Raw:
    """Take the author's name out of a comment (5.5)."""
    try:
        members = _objects.decode(comment)
    except msgspec.DecodeError:
        return comment
    name = members.get("actorDisplayName")
    if name is None:
        return comment
    try:
        if not _strings.decode(name):
            return comment
    except msgspec.DecodeError:
        return comment
    return Raw(_encoder.encode({**members, "actorDisplayName": ""}))
