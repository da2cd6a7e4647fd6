"""Counts the calls that begin, and the participants that enter them, for the metrics.

Source: reference 14.5.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gateway.core.room import Room
from gateway.core.virtual import VIRTUAL_CLIENT_TYPE
from gateway.flows.services import Services


@contextmanager
def counting_call_entries(services: Services, room: Room) -> Iterator[None]:
    """Count the participants that enter a room's call in the ``with`` block, and the call if it begins there.

    The participants that enter or leave are logged.
    """
    counters = services.counters
    before = _client_types_in_call(room)
    yield
    after = _client_types_in_call(room)
    entered, left = [id for id in after if id not in before], [id for id in before if id not in after]
    services.calls.call_changed(room, entered, left)
    for session, client_type in after.items():
        if session not in before:
            counters.calls_total[room.key.backend, client_type] += 1
    if after and not before:
        counters.call_rooms_total[room.key.backend] += 1


def _client_types_in_call(room: Room) -> dict[str, str]:
    """Return the client types of the participants in the call, by session id."""
    found: dict[str, str] = {session: room.members[session].client_type.value for session in room.in_call}
    found.update((session, VIRTUAL_CLIENT_TYPE) for session, virtual in room.virtuals.items() if virtual.in_call)
    return found
