"""A room of another server, and the errors and events that this server itself sends to the client about it.

Source: reference 12.1, 12.3.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

from gateway.flows.federation.remote_session import TEXT_LENGTH, HostRefused
from gateway.flows.ports import CERTIFICATE_ERROR, NOT_ALLOWED, RemoteUnavailable
from gateway.limited_log import shown_code
from gateway.wire import federation, server
from gateway.wire.client import ABSENT
from gateway.wire.errors import Code, Error
from gateway.wire.server import Event, EventBody, RoomBody

_REASON = re.compile(r"[a-z_]{1,64}")  # of a ``bye``
DETAILS_LENGTH = 16_384  # bytes of the details of a refused join that are passed on


@dataclass(frozen=True, slots=True)
class RemoteRoom:
    """A room of another server as a client asks to join it."""

    signaling: str  # canonical base URL of the host
    nextcloud: str  # canonical base URL of the host's Nextcloud
    remote_id: str  # id of the room at the host
    local_id: str  # id of the room at the client's own Nextcloud
    room_session: str  # the client's Nextcloud session id; empty if it gave none


class UnansweredJoin:
    """A join that the host has not answered.

    ``request_id`` is the id of the client's request; ``None`` if the seat itself joins: with a new remote session, or
    to return to the client's room after a withdrawn join.
    """

    def __init__(self, id: str, request_id: str | None, room: RemoteRoom, timer: asyncio.TimerHandle) -> None:
        self.id = id
        self.request_id = request_id
        self.room = room
        # Done once the host has accepted. If the join fails, the exception is a ``ProtocolError``; without a client's
        # request the future is cancelled.
        self.answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.timer = timer


class WithdrawnJoin:
    """A join that the client has withdrawn before the host has answered it."""

    def __init__(self, id: str) -> None:
        self.id = id
        self.accepted = False  # whether the host has accepted the join nevertheless


def refusal(error: Error, room: RemoteRoom) -> Error:
    """Return the error for a client whose join the host has refused: with the local room id, of limited length."""
    if error.code == Code.ALREADY_JOINED.value[0]:
        joined = RoomBody(room.local_id, federation.properties_of_joined_room(error))
        return Code.ALREADY_JOINED.error(server.AlreadyJoined(joined))
    details = error.details if len(error.details) <= DETAILS_LENGTH else ABSENT
    return Error(error.code[:TEXT_LENGTH], error.message[:TEXT_LENGTH], details)


def reason_of_bye(reason: str) -> str:
    """Return the reason of the host's ``bye`` for the client; empty unless it is up to 64 letters a-z and ``_``."""
    return reason if _REASON.fullmatch(reason) else ""


_REASONS = {  # of an unavailable host, for the log, by code
    CERTIFICATE_ERROR: "its certificate could not be verified; compare its authority with"
    " federation.certificate_authorities and the system's, and its names with the URL",
    NOT_ALLOWED: "scheme or port of its URL are not allowed; see federation.ports and federation.allow_insecure",
}
_NETWORK_REASON = "it could not be reached within federation.timeout; try URL/api/v1/welcome from here, see firewalls"
NO_ANSWER = "it has not answered a join within federation.timeout; look whether it is overloaded, and at its log"


def failure_reason(failure: RemoteUnavailable | HostRefused) -> str:
    """Return for the log why there is no session at a host, and what to compare; without a text of the host."""
    if isinstance(failure, RemoteUnavailable):
        return _REASONS.get(failure.code, _NETWORK_REASON)
    code = shown_code(failure.error.code)
    if code == Code.FEDERATION_UNSUPPORTED.value[0]:
        return "it does not support federation, or its Nextcloud does not; update it"
    return f"it refuses the hello ({code}); compare the backends there with the URL of its Nextcloud, and the clocks"


def refusal_reason(error: Error) -> str:
    """Return for the log that a host refuses a join, and what to compare; without a text of the host."""
    return f"it refuses the join ({shown_code(error.code)}); see whether its Nextcloud has invited the user"


def unavailable_error(error: RemoteUnavailable) -> Error:
    """Return the error for a client whose host cannot be reached (12.1)."""
    return federation_error(error.code, str(error))


def federation_error(code: str, text: str) -> Error:
    """Return a ``federation_error``; ``code`` and ``text`` are its details (12.1)."""
    return Code.FEDERATION_ERROR.error({"code": code, "message": text})


def interruption_event(type: str, *, resumed: bool | None = None) -> bytes:
    """Encode the event ``federation_interrupted``, or ``federation_resumed`` with ``resumed`` (12.3)."""
    return server.encode(Event(EventBody("room", type, resumed=resumed)))
