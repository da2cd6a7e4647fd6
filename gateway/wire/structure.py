"""Whether a message of a client has everything that its type requires.

Source: reference 2.4. Asked before anything else is looked at; messages to others are not asked here, the
relay reads the same members anyway.
"""

from __future__ import annotations

from gateway.wire import internal
from gateway.wire.client import ClientMessage, Message, Transient, given


def is_complete(message: ClientMessage) -> bool:
    """Whether the structure is right, as far as it does not have errors of its own (hello); unknown types are."""
    match message.type:
        case None | "":
            return False
        case "message":
            return _is_addressed(message.message)
        case "control":
            return _is_addressed(message.control)
        case "transient":
            return _names_a_key(message.transient)
        case "internal":
            return internal.is_complete(message.internal)
        case "hello" | "room":
            return getattr(message, message.type) is not None
    return True


def _is_addressed(body: Message | None) -> bool:
    if body is None or body.recipient is None or not given(body.data):
        return False
    to = body.recipient
    return to.type in ("room", "call") or bool(
        (to.type == "session" and to.sessionid) or (to.type == "user" and to.userid)
    )


def _names_a_key(body: Transient | None) -> bool:
    if body is None or not body.type:
        return False
    return body.type not in ("set", "remove") or bool(body.key)
