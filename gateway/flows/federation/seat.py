"""The seat of a session in a room of another server, the host: joins, relays messages, survives lost connections.

A seat has one task, which owns the connection to the host: it receives until the seat is closed, and connects again
after a loss. During an interruption the client's messages are kept. Afterwards the remote session is resumed, or a new
one is opened and joins the room.

The messages of the host affect one session only: they are appended to the outbox of this session, at most as fast as a
client may send, after ``gateway.wire.federation`` has checked the ids in them.

Source: reference 12.1-12.3.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar

import msgspec

from gateway.core.limits import exceeds
from gateway.core.session import Session
from gateway.flows.federation.host_messages import HostMessages
from gateway.flows.federation.host_rate import HostRateLimiter
from gateway.flows.federation.reconnect_pauses import ReconnectPauses
from gateway.flows.federation.remote_room import (
    NO_ANSWER,
    RemoteRoom,
    UnansweredJoin,
    WithdrawnJoin,
    failure_reason,
    federation_error,
    interruption_event,
    reason_of_bye,
    refusal,
    refusal_reason,
    unavailable_error,
)
from gateway.flows.federation.remote_session import HostRefused, RemoteSession, SharedBytes
from gateway.flows.federation.seat_owner import SeatOwner
from gateway.flows.federation.seat_state import SeatState
from gateway.flows.ports import NETWORK_ERROR, RemoteConnectionLost, RemoteUnavailable
from gateway.flows.services import Services
from gateway.wire import federation, remote_messages, server, structure
from gateway.wire.client import ClientMessage
from gateway.wire.errors import Code, Error, ProtocolError
from gateway.wire.federated_names import Names, NotPassedOn
from gateway.wire.remote_messages import (
    RemoteBye,
    RemoteError,
    RemoteEvent,
    RemoteMessage,
    RemoteRoomBody,
    RemoteRoomMessage,
)
from gateway.wire.server import Room, RoomBody

GIVE_UP_AFTER = 600.0  # seconds of an interruption after which the client loses the room
BYE_TIMEOUT = 5.0  # seconds for the host to take the last messages and the ``bye``, and to close the connection
DELETED_REASON = "deleted"  # reason of a disinvitation (6.4)


class FederatedSeat:
    """Implements ``core.seat.Seat``; ``open`` it once, and wait for each ``join``."""

    def __init__(
        self,
        services: Services,
        owner: SeatOwner,
        session: Session,
        remote: RemoteSession,
        room: RemoteRoom,
        list_bytes: SharedBytes,
    ) -> None:
        self._services = services
        self._owner = owner
        self._session = session
        self._remote = remote
        self.room = room
        self._state = SeatState.ENTERING
        self._names: Names | None = None  # None: the session is not in the host's room
        self._join: UnansweredJoin | None = None
        self._withdrawn: WithdrawnJoin | None = None  # until the host has answered the join after it
        self._joins = 0  # requests so far, for their ids
        self._rate_limiter = HostRateLimiter(services)
        self._messages = HostMessages(services, session, list_bytes)
        self._pauses = ReconnectPauses(services.entropy)
        self._task: asyncio.Task[None] | None = None

    @property
    def room_id(self) -> str:
        """See ``Seat.room_id``."""
        return self.room.local_id

    @property
    def room_session_id(self) -> str:
        """See ``Seat.room_session_id``."""
        return self.room.room_session

    def can_join(self, room: RemoteRoom) -> bool:
        """Return whether this seat can join a room over its connection, with the token of an earlier join."""
        same_server = (room.signaling, room.nextcloud) == (self.room.signaling, self.room.nextcloud)
        return same_server and self._state not in (SeatState.RENEWING, SeatState.CLOSED) and self._remote.is_connected

    async def wait_for_answer(self) -> None:
        """Wait until no join is unanswered; the seat may have requested one itself (12.3)."""
        if self._join is not None:
            await asyncio.wait([self._join.answer])

    async def open(self, on_ended: Callable[[], None]) -> None:
        """Connect to the host and say hello; if that succeeds, call ``on_ended`` when the task of the seat has ended.

        Raises:
            RemoteUnavailable: there is no connection.
            HostRefused: the host refused the hello.
        """
        await self._remote.connect(self._timeout)
        self._task = self._services.tasks.spawn(self._run(), "federated room")
        self._task.add_done_callback(lambda _: on_ended())

    async def join(self, room: RemoteRoom, request_id: str) -> None:
        """Join a room of the host; the client gets the reply when the host has accepted.

        Raises:
            ProtocolError: the host's error, ``federation_error`` if it does not answer, or ``room_join_failed`` if the
                join was withdrawn.
        """
        await self._request_join(room, request_id).answer

    def withdraw(self) -> None:
        """End the client's unanswered join, if any; the caller closes the seat, or calls ``return_to_room``."""
        if self._join is not None and self._join.request_id is not None:
            self._withdrawn = WithdrawnJoin(self._join.id)
            self._fail_join(Code.ROOM_JOIN_FAILED.error())

    def return_to_room(self) -> None:
        """Join the client's room again after ``withdraw``, since the host may still accept the withdrawn join.

        The host handles the two joins and the client's later messages in order, so that these reach the client's room.
        """
        if self._withdrawn is not None and self._join is None and self._state is SeatState.SEATED:
            self._request_join(self.room, None)

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """The task of the seat, if it was opened; it ends within ``BYE_TIMEOUT`` once the seat is closed."""
        return [] if self._task is None else [self._task]

    # -- core.seat.Seat

    def forward(self, text: str, message: ClientMessage) -> None:
        """See ``Seat.forward``."""
        structure.check(message)
        if self._names is None:
            return
        self.return_to_room()
        self._messages.expect_answer(message.id)
        if not self._remote.send(federation.to_remote(text, message, self._names)):
            cause = ("kept", self.room.signaling)
            self._services.warnings.warning(cause, "too much is kept for the host of a federated room: joining it anew")

    def list_participants(self) -> None:
        """See ``Seat.list_participants``."""
        if self._names is not None:
            self._messages.list_participants(self._names.local_room)

    def close(self) -> None:
        """See ``Seat.close``."""
        self._messages.forget()
        if self._state is SeatState.CLOSED:
            return
        self._set_closed()
        self._fail_join(Code.FEDERATION_ERROR.error())
        if self._task is None:
            self._remote.abort()
        elif self._remote.say_bye():
            self._services.tasks.spawn(self._wait_for_end(self._task), "bye to the host of a federated room")
        else:
            self._task.cancel()

    def _set_closed(self) -> None:
        self._state, self._names = SeatState.CLOSED, None

    # -- the task

    @property
    def _timeout(self) -> float:
        return self._services.settings.federation.timeout

    async def _run(self) -> None:
        """Receive messages, and connect again after each loss, until the seat is closed or the client is in no room."""
        try:
            while True:
                connected_at = self._services.clock()
                await self._serve()
                self._pauses.note_connection(self._services.clock() - connected_at)
                if self._state is SeatState.DELETED:
                    self._send(server.encode(Room(RoomBody(""))))
                    self._end()
                if self._names is None or not await self._connect_again():
                    return
        except Exception:
            self._lose_room(Code.INTERNAL_ERROR.error())  # a fault here must not leave the client without a room
            raise
        finally:
            self._set_closed()
            self._remote.abort()
            self._remote.forget()
            self._messages.forget()
            self._fail_join(federation_error(NETWORK_ERROR, "The server ended the connection."))

    async def _wait_for_end(self, task: asyncio.Task[None]) -> None:
        """Wait until the host has taken all messages with the ``bye`` and closed the connection; this ends the task."""
        await asyncio.wait([task], timeout=BYE_TIMEOUT)
        task.cancel()

    async def _serve(self) -> None:
        """Receive and write messages until the connection is lost."""
        writer = asyncio.create_task(self._remote.write(), name="writer of a federated room")
        try:
            while True:
                message, size = await self._remote.receive()
                if message is not None and self._state not in (SeatState.RENEWING, SeatState.CLOSED):
                    self._HANDLERS.get(type(message), FederatedSeat._pass_on)(self, message)
                await self._rate_limiter.throttle(size)
        except RemoteConnectionLost:
            self._remote.abort()
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)

    # -- messages of the host

    def _handle_room(self, message: RemoteRoomMessage) -> None:
        if self._join is not None and message.id == self._join.id:
            self._enter_room(self._join, message.room)
        elif self._withdrawn is not None and message.id == self._withdrawn.id:
            self._withdrawn.accepted = True
        elif not message.id:  # otherwise forged: the seat sent no such request, and this server answers the client's
            self._pass_on(message)

    def _handle_error(self, message: RemoteError) -> None:
        if self._join is not None and message.id == self._join.id:
            self._send_refusal(self._join, message.error)
        elif self._withdrawn is not None and message.id == self._withdrawn.id:
            self._withdrawn.accepted = False
        else:
            self._pass_on(message)

    def _pass_on(self, message: RemoteMessage) -> None:
        if self._names is None or (self._withdrawn is not None and self._withdrawn.accepted):
            return
        try:
            local = federation.to_local(message, self._names)
        except NotPassedOn:
            return
        if isinstance(local, RemoteEvent) and local.event.disinvite is not None:
            self._end_disinvited(remote_messages.encode(local), local.event.disinvite.reason)
        elif self._session.open:
            self._messages.pass_on(local)
        if isinstance(local, RemoteRoomMessage) and local.room.roomid == "":
            self._end()  # the host has removed the session from the room

    def _end_disinvited(self, event: bytes, reason: str) -> None:
        """Send the client an event with its disinvitation from the room, and end its session (2.7).

        If the room was deleted, only the membership ends: with the host's empty ``room``, which mostly follows, or when
        the host closes the connection. In neither case does the seat connect again, which would undo the removal.
        """
        self._send(event)
        if reason == DELETED_REASON:
            self._state = SeatState.DELETED
            return
        self._set_closed()
        self._remote.abort()
        self._owner.end_disinvited(self._session, event)

    def _handle_bye(self, message: RemoteBye) -> None:
        """End the client's session, since the host has ended the remote one; before the join, only the connection."""
        if self._names is None:
            self._remote.abort()
            return
        self._set_closed()
        self._remote.abort()
        reason = "" if message.bye is None else message.bye.reason
        self._owner.ended_by_host(self._session, reason_of_bye(reason))

    _HANDLERS: ClassVar[dict[type, Callable[[Any, Any], None]]] = {  # any other message is passed on
        RemoteBye: _handle_bye,
        RemoteRoomMessage: _handle_room,
        RemoteError: _handle_error,
    }

    def _enter_room(self, join: UnansweredJoin, body: RemoteRoomBody) -> None:
        """Enter the room: from now on the client's messages go to the host."""
        room, session = join.room, self._session
        if not session.open:
            self.close()
            return
        remote_id, limit = body.roomid, self._services.settings.limits.id_length
        if not (isinstance(remote_id, str) and remote_id) or exceeds(len(remote_id), limit):
            self._send_refusal(join, Code.ROOM_JOIN_FAILED.error())
            return
        self._join, self._withdrawn, self._state = None, None, SeatState.SEATED
        join.timer.cancel()
        names = Names(session.id, self._remote.id, room.local_id, remote_id, session.url, room.nextcloud)
        self.room = room
        if self._names is None:
            self._owner.take_seat(session, self)
        elif self._names.local_room != room.local_id:
            session.outbox.forget_unconfirmed()
        self._names = names
        self._messages.forget()
        reply = msgspec.structs.replace(body, roomid=room.local_id)
        self._send(remote_messages.encode(RemoteRoomMessage(reply, join.request_id or "")))
        if not join.answer.done():
            join.answer.set_result(None)

    def _send_refusal(self, join: UnansweredJoin, error: Error) -> None:
        """Send the client the host's error. The client stays in its room unless the seat could not join it again."""
        refused = refusal(error, join.room)
        if error.code != Code.ALREADY_JOINED.value[0]:
            self._report(join.room, refusal_reason(error))
        same_room = (join.room.local_id, join.room.remote_id) == (self.room.local_id, self.room.remote_id)
        if same_room and error.code == Code.ALREADY_JOINED.value[0]:
            self.room = join.room  # the host has taken the new Nextcloud session id (4.1)
        if join.request_id is not None:
            self._fail_join(refused)
        elif self._withdrawn is not None and error.code == Code.ALREADY_JOINED.value[0]:
            self._withdrawn = None  # the host has refused the withdrawn join
            self._fail_join(refused)
        else:
            self._lose_room(refused)

    # -- joins

    def _request_join(self, room: RemoteRoom, request_id: str | None) -> UnansweredJoin:
        self._joins += 1
        id = f"federated join {self._joins}"
        timer = asyncio.get_running_loop().call_later(self._timeout, self._join_timed_out)
        join = self._join = UnansweredJoin(id, request_id, room, timer)
        body = {"roomid": room.remote_id} | ({"sessionid": room.room_session} if room.room_session else {})
        self._remote.request(id, "room", body)
        return join

    def _join_timed_out(self) -> None:
        """Give up a join and the remote session, which may be in either room; the owner closes a seat in no room."""
        if self._join is not None:
            self._report(self._join.room, NO_ANSWER)
        self._fail_join(federation_error(NETWORK_ERROR, "The server did not answer in time."))
        if self._names is not None:
            if self._state is SeatState.SEATED:
                self._state = SeatState.RENEWING
            self._remote.say_bye()
            self._remote.abort_within(BYE_TIMEOUT)

    def _report(self, room: RemoteRoom, reason: str) -> None:
        self._services.refusals.federated_join(self._session.backend, room.signaling, reason)

    def _fail_join(self, error: Error) -> None:
        """Give up the unanswered join, if any; a join that the client has requested fails with this error."""
        join, self._join = self._join, None
        if join is None:
            return
        join.timer.cancel()
        if join.request_id is not None and not join.answer.done():
            join.answer.set_exception(ProtocolError(error))
        join.answer.cancel()  # no effect if it is done

    # -- interruption

    async def _connect_again(self) -> bool:
        """Resume the remote session, or join with a new one; ``False``: the client is not in the room any more."""
        unclear = self._join is not None or self._withdrawn is not None  # a resumed session may be in either room
        if unclear or self._state is SeatState.RENEWING:
            self._remote.forget()
            self._fail_join(federation_error(NETWORK_ERROR, "The server ended the connection."))
        self._state, self._withdrawn = SeatState.SEATED, None
        self._send(interruption_event("federation_interrupted"))
        deadline = self._services.clock() + GIVE_UP_AFTER
        while self._names is not None:
            await asyncio.sleep(self._pauses.next())  # also the first time: a host may end each connection at once
            try:
                resumed = await self._remote.connect(self._timeout)
            except RemoteUnavailable as lost:
                self._report(self.room, failure_reason(lost))
                error = unavailable_error(lost)
            except HostRefused as refused:
                self._report(self.room, failure_reason(refused))
                error = refused.error
                if not refused.is_temporary:
                    self._lose_room(error)
                    return False
            else:
                self._send(interruption_event("federation_resumed", resumed=resumed))
                if not resumed and self._names is not None:
                    self._names = msgspec.structs.replace(self._names, remote_session=self._remote.id)
                    self._request_join(self.room, None)
                return True
            if self._services.clock() >= deadline:
                self._lose_room(error)
        return False

    def _lose_room(self, error: Error) -> None:
        """Send the client the reason why it is not in the room any more, and end the seat."""
        self._send(server.encode(server.ErrorMessage(error)))
        self._send(server.encode(Room(RoomBody(""))))
        self._end()

    def _end(self) -> None:
        """End the seat; the session goes on without a room."""
        self._names = None
        self._owner.leave_seat(self._session, self)
        self.close()

    def _send(self, message: bytes) -> None:
        if self._session.open and self._state is not SeatState.CLOSED:
            self._services.delivery.send(self._session, message)
