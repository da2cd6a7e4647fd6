"""A room at its host, and the messages that this server itself sends about it.

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
    """A room at its host, and the names and the Nextcloud session id with which the client joins it."""

    signaling: str  # canonical base URL of the host
    nextcloud: str  # canonical base URL of the host's Nextcloud
    remote_id: str
    local_id: str
    room_session: str


def unavailable(error: RemoteUnavailable) -> Error:
    """Return the error for a client whose room's server cannot be reached (12.1)."""
    return federation_error(error.code, str(error))


def federation_error(code: str, text: str) -> Error:
    """Return a ``federation_error`` with details (12.1)."""
    return Code.FEDERATION_ERROR.error({"code": code, "message": text})


def interruption_event(type: str, *, resumed: bool | None = None) -> bytes:
    """Encode ``federation_interrupted`` or ``federation_resumed`` (12.3)."""
    return server.encode(Event(EventBody("room", type, resumed=resumed)))
