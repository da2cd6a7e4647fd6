"""Requests to join and to leave rooms, of this server and of others.

The only flow that knows that a room may be at another server: it gives a session its seat, to which the dispatcher then
hands all messages of the session except ``hello``, ``bye``, ``room`` and ``ack``.

Source: reference 12.1, 12.3.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Protocol
from urllib.parse import urlsplit

from gateway.core.backends import canonical
from gateway.core.ids import SessionId
from gateway.core.limits import exceeds
from gateway.core.seat import Seat
from gateway.core.session import ClientType, Session
from gateway.flows.bye import ROOM_SESSION_RECONNECTED
from gateway.flows.call_log import SessionEnd, StreamEnd
from gateway.flows.federation.remote_room import RemoteRoom, failure_reason, federation_error, unavailable_error
from gateway.flows.federation.remote_session import HostRefused, RemoteSession, SharedBytes
from gateway.flows.federation.seat import FederatedSeat
from gateway.flows.federation.withdrawable_join import WithdrawableJoin
from gateway.flows.ports import NOT_ALLOWED, RemoteUnavailable
from gateway.flows.rooms.events import RoomEvents
from gateway.flows.rooms.membership import RoomMembership
from gateway.flows.services import Services
from gateway.flows.tasks import Work
from gateway.wire import server, structure
from gateway.wire.client import ClientMessage, FederationTarget, RoomJoin
from gateway.wire.errors import Code, ProtocolError
from gateway.wire.server import RoomBody

CLOSE_TIME = 1.0  # seconds for all hosts to take a ``bye`` when this server stops
FAILURE_PERIOD = 10.0  # seconds for which a failed attempt to connect counts as a seat in the limits
URL_LENGTH = 512  # characters of a URL that a client names; the ids of the host's users grow by its length (12.2-d)
TOKEN_LENGTH = 16_384  # characters


class LocalSessionCloser(Protocol):
    """Ends a local session whose remote session the host has ended or disinvited."""

    def end(self, session: Session, why: SessionEnd, *, reason: str, notify_backend: bool) -> None:
        """End a session; a connected client gets a ``bye`` with the reason, if there is one."""

    def evict(self, session: Session, event: bytes) -> None:
        """End a session once ``event`` is delivered to its client."""


class FederatedRooms:
    """Lets sessions join and leave rooms; implements ``SeatOwner``."""

    def __init__(
        self, services: Services, events: RoomEvents, membership: RoomMembership, closer: LocalSessionCloser
    ) -> None:
        self._services = services
        self._hub = services.hub
        self._events = events
        self._membership = membership
        self._closer = closer
        # Sessions that join with a new seat, and whether the host has ended their previous seat meanwhile.
        self._previous_seat_ended: dict[SessionId, bool] = {}
        self._kept_bytes = SharedBytes()
        self._list_bytes = SharedBytes()
        # Number of seats by key of the limit, and by the user, server or backend that is limited.
        self._seat_counts: Counter[tuple[str, str]] = Counter()

    def handle(self, session: Session, message: ClientMessage) -> Work | None:
        """Leave the current room at once, or join one in the returned coroutine.

        Raises:
            ProtocolError: the message is malformed, or the join is not allowed.
        """
        room, request_id = structure.room(message.room), message.id or ""
        if room.roomid and isinstance(session.seat, FederatedSeat):
            session.seat.return_to_room()
        if room.roomid and room.federation is not None:
            remote_room, token = self._checked_target(session, room, room.federation)
            join = WithdrawableJoin()
            self._hub.set_joining(session, join)
            return self._join_elsewhere(session, join, remote_room, token, request_id)
        if session.seat is None:
            return self._membership.handle(session, message)
        if room.roomid:
            return self._join_here(session, room, request_id)
        self._leave(session, request_id)
        return None

    async def close(self) -> None:
        """Leave all rooms of other servers, so that no participant stays there until its session expires."""
        ending: list[asyncio.Task[None]] = []
        for session in list(self._hub.seated.values()):
            if isinstance(seat := self._hub.leave_seat(session), FederatedSeat):
                seat.close()
                ending += seat.tasks
        if ending:
            await asyncio.wait(ending, timeout=CLOSE_TIME)

    @property
    def list_bytes(self) -> int:
        """The memory of the lists of participants that are kept for resumes (12.3-l), in bytes."""
        return self._list_bytes.total

    # -- SeatOwner

    def take_seat(self, session: Session, seat: Seat) -> None:
        """See ``SeatOwner.take_seat``."""
        if (previous := self._hub.leave_seat(session)) is not None:
            previous.close()
        left = self._hub.take_seat(session, seat)
        if left is not None:
            self._events.session_left(left, StreamEnd.ELSEWHERE)
        # Also its streams, which it may have published before it joined a room.
        self._events.end_streams(session, StreamEnd.ELSEWHERE)
        self._services.calls.joined_elsewhere(session)

    def leave_seat(self, session: Session, seat: Seat) -> None:
        """See ``SeatOwner.leave_seat``."""
        if session.seat is seat:
            self._hub.leave_seat(session)
            # While it joins with a new seat, ``_join_with_a_new_seat`` restarts the timer if the join fails.
            if session.id not in self._previous_seat_ended:
                self._hub.restart_join_timer(session, self._services.clock())

    def ended_by_host(self, session: Session, reason: str) -> None:
        """See ``SeatOwner.ended_by_host``.

        If the client joins again while its seat is interrupted, the host may end the remote session of the old seat in
        favour of that of the new one before it answers the join. Then only the old seat ends, not the client's session.
        """
        if reason == ROOM_SESSION_RECONNECTED and session.id in self._previous_seat_ended:
            self._previous_seat_ended[session.id] = True
            self._hub.leave_seat(session)
            return
        self._closer.end(session, SessionEnd.HOST, reason=reason, notify_backend=False)

    def end_disinvited(self, session: Session, event: bytes) -> None:
        """See ``SeatOwner.end_disinvited``."""
        self._hub.leave_seat(session)
        self._closer.evict(session, event)

    # -- leaving

    def _leave(self, session: Session, request_id: str) -> None:
        seat = self._hub.leave_seat(session)
        if seat is not None:
            seat.close()
        self._services.delivery.send(session, server.encode(server.Room(RoomBody(""), request_id)))
        self._hub.restart_join_timer(session, self._services.clock())

    async def _join_here(self, session: Session, room: RoomJoin, request_id: str) -> None:
        """Join a room of this server; the session keeps its seat until Nextcloud has allowed the join."""
        await self._membership.join(session, room, request_id)
        if (seat := self._hub.leave_seat(session)) is not None:
            seat.close()

    # -- joining elsewhere

    async def _join_elsewhere(
        self, session: Session, join: WithdrawableJoin, room: RemoteRoom, token: str, request_id: str
    ) -> None:
        """Join a room of another server; the current room is left once that server has accepted (12.1).

        Raises:
            ProtocolError: the session stays in its current room, if any.
        """
        try:
            if isinstance(session.seat, FederatedSeat):
                await join.step(session.seat.wait_for_answer())
            seat = session.seat
            if isinstance(seat, FederatedSeat) and seat.can_join(room):
                await join.request(seat, room, request_id)
            elif session.open:
                await self._join_with_a_new_seat(session, join, room, token, request_id)
        finally:
            self._hub.set_joining(session, None)

    async def _join_with_a_new_seat(
        self, session: Session, join: WithdrawableJoin, room: RemoteRoom, token: str, request_id: str
    ) -> None:
        """Open a seat and join the room with it; the previous seat, if any, ends once the host has accepted.

        Raises:
            ProtocolError: the session keeps its previous seat or room, if any.
        """
        servers = self._services.remote_servers
        if servers is None:
            raise ProtocolError(federation_error(NOT_ALLOWED, "This server has no connections to others."))
        release = self._count_seat(session, room)
        remote = RemoteSession(servers, room.signaling, room.nextcloud, token, session.features, self._kept_bytes)
        seat = FederatedSeat(self._services, self, session, remote, room, self._list_bytes)
        self._previous_seat_ended[session.id] = False
        self._hub.pause_join_timer(session)
        try:
            await join.step(seat.open(release))
            await join.request(seat, room, request_id)
        except (RemoteUnavailable, HostRefused) as failure:
            self._services.refusals.federated_join(session.backend, room.signaling, failure_reason(failure))
            error = unavailable_error(failure) if isinstance(failure, RemoteUnavailable) else failure.error
            raise ProtocolError(error) from failure
        finally:
            if not seat.tasks:  # not opened: the attempt counts for a while, so that clients do not flood other servers
                asyncio.get_running_loop().call_later(FAILURE_PERIOD, release)
            previous_seat_ended = self._previous_seat_ended.pop(session.id)
            if session.seat is not seat:  # the join has failed, or the session has ended
                seat.close()
                if session.open and session.room is None and session.seat is None:
                    self._hub.restart_join_timer(session, self._services.clock())
                    if previous_seat_ended:  # the client does not know yet that it is in no room
                        self._services.delivery.send(session, server.encode(server.Room(RoomBody(""))))

    def _checked_target(self, session: Session, room: RoomJoin, target: FederationTarget) -> tuple[RemoteRoom, str]:
        """Return the room to join and the token for its server.

        Raises:
            ProtocolError: the request is malformed, or not allowed.
        """
        signaling, nextcloud, token = structure.federation(target)
        limit = self._services.settings.limits.id_length
        local_id, remote_id, room_session = room.roomid or "", target.roomid or room.roomid or "", room.sessionid or ""
        if exceeds(max(len(local_id), len(remote_id), len(room_session)), limit):
            self._services.count_excess("id_length")
            raise ProtocolError(Code.LIMIT_EXCEEDED.error())
        if max(len(signaling), len(nextcloud)) > URL_LENGTH or len(token) > TOKEN_LENGTH:
            raise ProtocolError(Code.INVALID_FORMAT.error())
        try:
            found = RemoteRoom(canonical(signaling), canonical(nextcloud), remote_id, local_id, room_session)
        except ValueError as error:
            raise ProtocolError(Code.INVALID_FORMAT.error()) from error
        if not self._services.settings.federation.enabled:
            reason = "federation.enabled is false here"
            self._services.refusals.federated_join(session.backend, found.signaling, reason)
            raise ProtocolError(federation_error("disabled", "Federation is disabled."))
        # A federated session could join a room of a third server, and so on, in a circle.
        if session.client_type is not ClientType.CLIENT:
            raise ProtocolError(federation_error(NOT_ALLOWED, "Only regular clients may join rooms of other servers."))
        return found, token

    def _count_seat(self, session: Session, room: RemoteRoom) -> Callable[[], None]:
        """Count a seat, and return the function to be called when the seat has ended.

        Raises:
            ProtocolError: ``limit_exceeded``: the user, the server or the backend has too many seats.
        """
        limits, backend = self._services.settings.limits, session.backend.id
        user = f"{backend} user {session.userid}" if session.userid else f"{backend} network {session.network}"
        keys = (
            ("federated_rooms_per_user", user),
            ("federated_rooms_per_server", (urlsplit(room.signaling).hostname or "").rstrip(".")),
            ("federated_rooms_per_backend", backend),
        )
        for key in keys:
            if exceeds(self._seat_counts[key] + 1, getattr(limits, key[0])):
                self._services.count_excess(key[0])
                raise ProtocolError(Code.LIMIT_EXCEEDED.error())
        self._seat_counts.update(list(keys))

        def release() -> None:
            for key in keys:
                self._seat_counts[key] -= 1
                if not self._seat_counts[key]:
                    del self._seat_counts[key]

        return release
