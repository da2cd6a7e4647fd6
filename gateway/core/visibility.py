"""The form in which a session receives content that is sent to its room: ``form_for`` decides it per recipient.

Recipients of one form receive the same bytes, so that content is encoded once per form and not once per recipient.

Source: reference 4.3, 5.4, 5.5.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum

import msgspec
from msgspec import Raw

from gateway.core.acknowledged import FEATURE as ACK
from gateway.core.session import ClientType, Session
from gateway.core.virtual import VirtualSession
from gateway.wire.client import ABSENT
from gateway.wire.server import JoinEntry

CHAT_RELAY = "chat-relay"  # feature of clients that display comments from the event, without a reload of the chat

_object_decoder = msgspec.json.Decoder(dict[str, Raw])
_string_decoder = msgspec.json.Decoder(str)
_encoder = msgspec.json.Encoder()


class Content(Enum):
    """Content that is sent to a room, classified by the rule that decides its form for a recipient."""

    PARTICIPANT = "participant"  # the join entry of a participant
    NICK_CHANGE = "nick change"  # the new display name of a participant
    COMMENTS = "comments"  # chat messages
    COMMENTS_OR_REFRESH = "comments or refresh"  # chat messages for clients that display them, for others a reload
    OTHER = "other"  # visible to all recipients


class Form(Enum):
    """The form in which a recipient sees content."""

    FULL = "full"
    WITHOUT_NAMES = "without names"
    REFRESH = "refresh"  # a request to reload the chat
    HIDDEN = "hidden"  # the recipient receives nothing


def form_for(recipient: Session, content: Content) -> Form:
    """Return the form in which a recipient sees content, from its permissions and features."""
    if content is _OTHER:
        return _FULL
    if content is _COMMENTS_OR_REFRESH and CHAT_RELAY not in recipient.features:
        return Form.REFRESH
    if not recipient.permissions.hides_names:
        return _FULL
    return Form.HIDDEN if content is Content.NICK_CHANGE else Form.WITHOUT_NAMES


# An attribute of an Enum costs a call.
_OTHER, _COMMENTS_OR_REFRESH, _FULL = Content.OTHER, Content.COMMENTS_OR_REFRESH, Form.FULL


def by_form(recipients: Iterable[Session], content: Content) -> dict[Form, list[Session]]:
    """Group recipients by the form in which they see content; leave out recipients from which it is hidden."""
    groups: dict[Form, list[Session]] = {}
    for recipient in recipients:
        groups.setdefault(form_for(recipient, content), []).append(recipient)
    groups.pop(Form.HIDDEN, None)
    return groups


def join_entry(participant: Session | VirtualSession, form: Form) -> JoinEntry:
    """Return the entry of a participant in a join event (4.3)."""
    user = without_display_name(participant.user) if form is Form.WITHOUT_NAMES else participant.user
    if isinstance(participant, VirtualSession):
        return JoinEntry(participant.id, participant.userid, user=user)
    federated = participant.client_type is ClientType.FEDERATION
    features = participant.features
    if federated:  # its own server acknowledges, not the client (12.1)
        features = tuple(feature for feature in features if feature != ACK)
    return JoinEntry(
        participant.id,
        participant.shown_userid,
        features,
        user,
        participant.room_session_id if participant.room_session_given else "",
        federated,
    )


def without_display_name(user: Raw) -> Raw:
    """Return user data without the display name; absent if no other member is left (5.4)."""
    try:
        members = _object_decoder.decode(user)
    except msgspec.DecodeError:  # not an object, or absent
        return user
    members.pop("displayname", None)
    return Raw(_encoder.encode(members)) if members else ABSENT


def without_author(comment: Raw) -> Raw:
    """Return a chat comment with an empty string as the author's name (5.5)."""
    try:
        members = _object_decoder.decode(comment)
        name = members.get("actorDisplayName")
        if name is None or not _string_decoder.decode(name):
            return comment
    except msgspec.DecodeError:  # not a comment of the known structure
        return comment
    return Raw(_encoder.encode({**members, "actorDisplayName": ""}))
