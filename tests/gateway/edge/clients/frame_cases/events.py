"""Case of the WebSocket protocol: the octets that a client sends, and the events that it must receive.

The gateway does not echo messages, but it refuses a message without a body with an error that has the message's ``id``.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from tests.gateway.edge.raw_client import CLOSE, PONG, TEXT, masked

Event = tuple[str, Any]

_EMPTY = len('{"id":"","type":"message"}')
UNREADABLE: Event = ("error", None)  # the answer to a binary message, and to a text that is no JSON


class Case(NamedTuple):
    """The octets of each write, the events that follow, and the extensions that the handshake offers, if any."""

    writes: tuple[bytes, ...]
    events: tuple[Event, ...]
    extensions: str | None = None


def case(*writes: bytes, then: tuple[Event, ...] | list[Event] = ()) -> Case:
    """Return a case whose handshake offers no extension; ``then``: the events that follow the writes."""
    return Case(writes, tuple(then))


def answer(id: str) -> Event:
    """Return the event of the error that answers a message with an id."""
    return "error", id


def pong(content: bytes = b"") -> Event:
    """Return the event of a pong."""
    return "pong", content


def closed(code: int) -> Event:
    """Return the event of a close frame; the gateway closes the connection behind it."""
    return "close", code


def text(id: str | bytes) -> bytes:
    """Return the payload of a message with an id; an id given in octets may be invalid UTF-8."""
    return b'{"id":"%b","type":"message"}' % (id if isinstance(id, bytes) else id.encode())


def id_of(size: int) -> str:
    """Return the id of a message of ``size`` bytes."""
    return "x" * (size - _EMPTY)


def pieces(octets: bytes, size: int) -> list[bytes]:
    """Cut octets into pieces."""
    return [octets[start : start + size] for start in range(0, len(octets), size)]


def fragments(parts: list[bytes], opcode: int = TEXT) -> list[bytes]:
    """Return the frames of a message whose fragments are ``parts``."""
    return [masked(part, 0 if number else opcode, final=number == len(parts) - 1) for number, part in enumerate(parts)]


def close(code: int, reason: bytes = b"") -> bytes:
    """Return a close frame."""
    return masked(code.to_bytes(2) + reason, CLOSE)


def event(opcode: int, payload: bytes) -> Event:
    """Return the event of a frame that the client has received."""
    if opcode == TEXT:
        message = json.loads(payload)
        return message["type"], message.get("id")
    if opcode == PONG:
        return pong(payload)
    assert opcode == CLOSE, (opcode, payload)
    return closed(int.from_bytes(payload[:2]) if payload else 1005)
