"""A room of another server, and the errors and events that this server itself sends to the client about it.

Source: reference 12.1, 12.3.
"""

from __future__ import annotations

from dataclasses import dataclass

from gateway.flows.ports import RemoteUnavailable
from gateway.wire import server
from gateway.wire.errors import Code, Error
from gateway.wire.server import Event, EventBody


@dataclass(frozen=True, slots=True)
class RemoteRoom:
    """A room of another server as a client asks to join it."""

    signaling: str  # canonical base URL of the host
    nextcloud: str  # canonical base URL of the host's Nextcloud
    remote_id: str  # id of the room at the host
    local_id: str  # id of the room at the client's own Nextcloud
    room_session: str  # the client's Nextcloud session id; empty if it gave none


def unavailable(error: RemoteUnavailable) -> Error:
    """Return the error for a client if there is no connection to the server of its room (12.1)."""
    return federation_error(error.code, str(error))


def federation_error(code: str, text: str) -> Error:
    """Return a ``federation_error``; ``code`` and ``text`` are its details (12.1)."""
    return Code.FEDERATION_ERROR.error({"code": code, "message": text})


def interruption_event(type: str, *, resumed: bool | None = None) -> bytes:
    """Encode the event ``federation_interrupted``, or ``federation_resumed`` with ``resumed`` (12.3)."""
    return server.encode(Event(EventBody("room", type, resumed=resumed)))
