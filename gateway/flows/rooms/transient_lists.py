"""The transient data of a room for a session that joins: one ``initial``, for federated sessions with ``set`` messages.

Source: reference 10, 12.3. A server of federated clients accepts messages of a limited size
(``federation.message_bytes`` there), which the data of a large room may exceed: then they never arrived, since the
connection ends with such a message.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw

from gateway.core.room import Room
from gateway.core.session import ClientType, Session
from gateway.wire import server
from gateway.wire.server import TransientBody

FEDERATED_INITIAL_SIZE = 524_288  # bytes of an ``initial``: half of a server's limit for messages of a host


def transient_list(session: Session, room: Room) -> list[bytes]:
    """Return the messages with all values of a room, in the order of the keys; none if there are no values.

    They are encoded once for all newcomers until a value changes.
    """
    transient = room.transient
    if not len(transient):
        return []
    if transient.encoded is None:
        transient.encoded = _initial(transient.values())
    if session.client_type is not ClientType.FEDERATION or len(transient.encoded) <= FEDERATED_INITIAL_SIZE:
        return [transient.encoded]
    if transient.encoded_parts is None:
        transient.encoded_parts = _encode_parts(transient.values())
    return transient.encoded_parts


def _encode_parts(values: dict[str, Raw]) -> list[bytes]:
    """Return an ``initial`` with the first values that fit, and a ``set`` for each of the others."""
    first: dict[str, Raw] = {}
    rest: list[bytes] = []
    left = FEDERATED_INITIAL_SIZE - len(_initial({}))
    for key, value in values.items():
        left -= len(msgspec.json.encode(key)) + len(bytes(value)) + 2  # colon and comma
        if left >= 0:
            first[key] = value
        else:
            rest.append(server.encode(server.Transient(TransientBody("set", key, value))))
    return [_initial(first), *rest]


def _initial(values: dict[str, Raw]) -> bytes:
    return server.encode(server.Transient(TransientBody("initial", data=values)))
