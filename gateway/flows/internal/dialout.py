"""Dialouts: phone calls that Nextcloud requests, and that an internal client (a SIP bridge) makes and reports on.

Source: signaling API, Start dialout from a room; reference 11.6. Only clients in no room are asked, including clients
that have left a room (deviation).
"""

from __future__ import annotations

import asyncio
import base64
import re
from functools import partial

import msgspec
from msgspec import Raw

from gateway.core import backends
from gateway.core.ids import SessionId
from gateway.core.limits import Backend
from gateway.core.session import START_DIALOUT, Session
from gateway.core.transient import NANOSECONDS
from gateway.flows.internal.dialout_replies import DialoutKey, DialoutReplies, DialoutReply
from gateway.flows.rooms.transient import TransientRequests
from gateway.flows.services import Services
from gateway.wire import server
from gateway.wire.backend import Dialout, encode_call, encode_call_error
from gateway.wire.client import ABSENT, is_given
from gateway.wire.errors import Error
from gateway.wire.internal import CallError, CallReport, CallStatus, Internal

ANSWER_TIMEOUT = 25.0  # seconds that all clients together have for an answer; Nextcloud waits for 30 s (11.6)
ENDED_TTL = 5 * NANOSECONDS  # time to live of the status of a call that ended: 5 s
ENDED_STATUSES = frozenset({"cleared", "rejected"})

_NUMBER = re.compile(r"\+[0-9]{2,}")  # E.164
_ROOM = re.compile(r"[0-9]+")

_NUMBER_MISSING = Error("number_missing", "No number provided")
_INVALID_NUMBER = Error("invalid_number", "Expected E.164 number.")
_INVALID_ROOM = Error("invalid_roomid", "The room id must be numeric.")
_NO_CLIENT = Error("no_client_available", "No available client found to trigger dialout.")
_TIMEOUT = Error("timeout", "Timeout while waiting for dialout to start.")
_CLIENT_ENDED = Error("error_notify", "Could not notify about new dialout.")


class DialoutFailed(Exception):
    """A dialout does not start; ``status`` is for the HTTP reply, ``error`` for its body.

    ``may_ring``: a client that was asked has not answered, and may still dial.
    """

    def __init__(self, error: Error | CallError, status: int = 502, *, may_ring: bool = False) -> None:
        super().__init__("the dialout does not start")
        self.error = error
        self.status = status
        self.may_ring = may_ring


class Dialouts:
    """Requests dialouts from internal clients, and stores the status of their calls in rooms."""

    def __init__(self, services: Services, transient: TransientRequests) -> None:
        self._services = services
        self._hub = services.hub
        self._transient = transient
        self._replies = DialoutReplies()
        self._pending: dict[tuple[SessionId, str], asyncio.Future[str]] = {}  # the result is a call id

    # -- requests of Nextcloud

    async def start(self, backend: Backend, roomid: str, call: Dialout, url: str) -> DialoutReply:
        """Have a client call a number for a room, and return the reply for Nextcloud, also of a failed dialout.

        ``url`` is the base URL in Nextcloud's request, or empty.
        """
        options = bytes(call.options) if is_given(call.options) else b""
        key = DialoutKey(backend.id, roomid, call.number or "", options)
        return await self._replies.get_or_dial(key, partial(self._dial, backend, roomid, call, url))

    async def _dial(self, backend: Backend, roomid: str, call: Dialout, url: str) -> DialoutReply:
        try:
            _check(roomid, call)
            return DialoutReply(200, encode_call(await self._start(backend, roomid, call, url)), may_ring=True)
        except DialoutFailed as failure:
            self._services.refusals.dialout(backend, failure.error.code or "")
            return DialoutReply(failure.status, encode_call_error(failure.error), failure.may_ring)

    async def _start(self, backend: Backend, roomid: str, call: Dialout, url: str) -> str:
        """Request the dialout from one client after another, and return the id of the first call that starts.

        Each client has an equal share of the time that is left.

        Raises:
            DialoutFailed: no client starts it; the error is that of the first client.
        """
        failure: DialoutFailed | None = None
        may_ring = False
        clients = self._clients(backend)
        deadline = self._services.clock() + ANSWER_TIMEOUT
        for clients_left, session in zip(range(len(clients), 0, -1), clients, strict=True):
            if not _is_available(session):  # any more, after the time in which another client was asked
                continue
            seconds = (deadline - self._services.clock()) / clients_left
            try:
                return await self._request(session, roomid, call, url, seconds)
            except DialoutFailed as failed:
                failure = failure or failed
                may_ring = may_ring or failed.may_ring
        if failure is None:
            raise DialoutFailed(_NO_CLIENT, 404)
        raise DialoutFailed(failure.error, failure.status, may_ring=may_ring)

    def _clients(self, backend: Backend) -> list[Session]:
        """Return the available clients of a backend that can start a dialout."""
        return [
            session
            for session in self._hub.internals.values()
            if session.backend.id == backend.id and START_DIALOUT in session.features and _is_available(session)
        ]

    async def _request(self, session: Session, roomid: str, call: Dialout, url: str, seconds: float) -> str:
        """Request a dialout from one client, and return the id of the call.

        Raises:
            DialoutFailed: the client refuses, or does not answer in time.
        """
        request_id = base64.urlsafe_b64encode(self._services.entropy(24)).decode()
        options = call.options if is_given(call.options) else ABSENT
        order = server.CallOrder(roomid, _base_url(session.backend, url), server.CallTarget(call.number or "", options))
        message = server.InternalRequest(server.InternalBody("dialout", order), request_id)
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._pending[session.id, request_id] = answer
        try:
            self._services.delivery.send(session, server.encode(message))
            async with asyncio.timeout(seconds):
                return await answer
        except TimeoutError as error:
            raise DialoutFailed(_TIMEOUT, may_ring=True) from error
        finally:
            del self._pending[session.id, request_id]

    # -- messages of internal clients

    def receive_answer(self, session: Session, request_id: str, message: Internal) -> bool:
        """Complete a pending dialout with a client's answer; ``False`` if the message answers none."""
        answer = self._pending.get((session.id, request_id))
        if answer is None or answer.done():
            return False
        try:
            report, status = _acceptance(message)
        except DialoutFailed as failure:
            answer.set_exception(failure)
        else:
            self._store(session, report.roomid, status)
            answer.set_result(status.callid or "")
        return True

    def report(self, session: Session, report: CallReport) -> None:
        """Store the new status of a call, or send a failure to the members of its room."""
        if report.type == "status" and report.status is not None:
            self._store(session, report.roomid, report.status)
            return
        room = self._hub.room(session.backend, report.roomid or "")
        if room is not None:
            body = server.DialoutBody(report.type or "", report.error)
            self._services.delivery.send_all(room.members.values(), server.encode(server.Dialout(body)))

    def client_ended(self, session: Session) -> None:
        """Fail the pending dialouts of a client whose session ended."""
        for (client, _), answer in self._pending.items():
            if client == session.id and not answer.done():
                answer.set_exception(DialoutFailed(_CLIENT_ENDED, may_ring=True))

    def _store(self, session: Session, roomid: str | None, status: CallStatus) -> None:
        """Store the status of a call as transient data, if this server has the room and the call has an id."""
        room = self._hub.room(session.backend, roomid or "")
        if room is not None and status.callid:
            ttl = ENDED_TTL if status.status in ENDED_STATUSES else None
            self._transient.set(room, f"callstatus_{status.callid}", Raw(msgspec.json.encode(status)), ttl)


def _check(roomid: str, call: Dialout) -> None:
    """Check the number and the room of a dialout.

    Raises:
        DialoutFailed: the number or the room is missing or malformed.
    """
    if not call.number:
        raise DialoutFailed(_NUMBER_MISSING, 400)
    if _NUMBER.fullmatch(call.number) is None:
        raise DialoutFailed(_INVALID_NUMBER, 400)
    if _ROOM.fullmatch(roomid) is None:
        raise DialoutFailed(_INVALID_ROOM, 400)


def _acceptance(message: Internal) -> tuple[CallReport, CallStatus]:
    """Return the report, and the status in it, with which a client accepts a dialout.

    Raises:
        DialoutFailed: the client does not accept it.
    """
    report = message.dialout
    if message.type != "dialout" or report is None:
        raise DialoutFailed(Error("unsupported_type", f"Unsupported message type {message.type}."))
    if report.type == "error" and report.error is not None:
        raise DialoutFailed(report.error)
    if report.type != "status" or report.status is None:
        raise DialoutFailed(Error("unsupported_type", f"Unsupported dialout type {report.type}."))
    if report.status.status != "accepted":
        raise DialoutFailed(Error("unsupported_status", f"Unsupported dialout status {report.status.status}."))
    return report, report.status


def _is_available(session: Session) -> bool:
    return session.open and session.connection is not None and session.room is None


def _base_url(backend: Backend, requested_url: str) -> str:
    """Return the URL in Nextcloud's request if it belongs to the backend, otherwise the backend's base URL."""
    try:
        url = backends.canonical(requested_url)
    except ValueError:
        url = ""
    base = backends.base_of(backend, url)
    return url if url.startswith(base) else base
