"""Messages that Nextcloud sends to a room, mostly chat messages, in the form for each recipient.

Source: reference 5.5, 5.6, 6.7.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec
from msgspec import Raw, Struct

from gateway.core.outbox import Offline
from gateway.core.visibility import Content, Form, without_author
from gateway.wire import server
from gateway.wire.client import is_given
from gateway.wire.server import Event, EventBody, RoomDataBody


class EncodedEvent(NamedTuple):
    """An encoded event, how it is queued for a session without a connection, and whether it may arrive twice."""

    message: bytes
    offline: Offline
    repeatable: bool


class _Chat(Struct, frozen=True):
    refresh: bool | None = None
    comment: Raw = Raw()
    comments: list[Raw] | None = None


class _ChatMessage(Struct, frozen=True):
    type: str | None = None
    chat: _Chat | None = None


class _Comment(Struct, frozen=True):
    id: int | str | None = None


_decoder = msgspec.json.Decoder(_ChatMessage)
_comment_decoder = msgspec.json.Decoder(_Comment)
_encoder = msgspec.json.Encoder()

_REFRESH = Raw(b'{"type":"chat","chat":{"refresh":true}}')


class RoomMessage:
    """One message of Nextcloud to a room."""

    def __init__(self, roomid: str, data: Raw) -> None:
        self._roomid = roomid
        self._data = data
        self._refresh, self._comments = _parse(data)

    @property
    def content(self) -> Content:
        """The type of content, which determines the form for each recipient."""
        if not self._comments:
            return Content.OTHER
        return Content.COMMENTS_OR_REFRESH if self._refresh else Content.COMMENTS

    def events(self, form: Form) -> Iterable[EncodedEvent]:
        """Yield the events with the message for recipients of this form."""
        if not self._comments:
            offline = Offline.REFRESH_ONCE if self._refresh else Offline.KEEP
            yield self._event(self._data, offline, repeatable=self._refresh)
        elif form is Form.REFRESH:
            yield self._event(_REFRESH, Offline.REFRESH_ONCE, repeatable=True)
        else:
            for comment in self._comments:
                shown = without_author(comment) if form is Form.WITHOUT_NAMES else comment
                yield self._event(_chat_data(shown), Offline.KEEP, repeatable=_has_id(comment))

    def _event(self, data: Raw, offline: Offline, *, repeatable: bool) -> EncodedEvent:
        event = Event(EventBody("room", "message", message=RoomDataBody(self._roomid, data)))
        return EncodedEvent(server.encode(event), offline, repeatable)


def _parse(data: Raw) -> tuple[bool, list[Raw]]:
    """Return whether a message asks for a reload of the chat, and its comments that are neither null nor empty."""
    try:
        message = _decoder.decode(data)
    except (msgspec.DecodeError, RecursionError):  # not a chat message of the known structure: forwarded unchanged
        return False, []
    if message.type != "chat" or message.chat is None:
        return False, []
    comments = [message.chat.comment, *(message.chat.comments or ())]
    return bool(message.chat.refresh), [comment for comment in comments if _is_filled(comment)]


def _is_filled(comment: Raw) -> bool:
    return is_given(comment) and bytes(comment).strip() not in (b"{}", b'""', b"[]")


def _has_id(comment: Raw) -> bool:
    """Return whether a comment has an id, by which clients recognise one that they receive twice."""
    try:
        return _comment_decoder.decode(comment).id is not None
    except (msgspec.DecodeError, RecursionError):
        return False


def _chat_data(comment: Raw) -> Raw:
    """Return the ``data`` of a chat message with one comment."""
    return Raw(_encoder.encode({"type": "chat", "chat": {"comment": comment}}))
