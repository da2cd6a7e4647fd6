"""Phone calls that Nextcloud asks for: an internal client (the SIP bridge) makes them, and reports how they do.

Source: signaling API, Start dialout from a room; reference 11.6. Clients are asked while they are in no room;
one that has left its room is asked again (deviation).
"""

from __future__ import annotations

import asyncio
import base64
import re
from dataclasses import dataclass

import msgspec
from msgspec import Raw

from gateway.core import backends
from gateway.core.ids import SessionId
from gateway.core.limits import Backend
from gateway.core.session import START_DIALOUT, Session
from gateway.core.transient import NANOSECONDS
from gateway.flows.rooms.transient import TransientRequests
from gateway.flows.services import Services
from gateway.wire import server
from gateway.wire.backend import Dialout, encode_call, encode_call_error
from gateway.wire.client import ABSENT, given
from gateway.wire.errors import Error
from gateway.wire.internal import CallError, CallReport, CallStatus, Internal

WAIT = 45.0  # seconds that a client has to answer (11.6)
ENDED_TTL = 5 * NANOSECONDS  # for which the status of a call that ended is kept
ENDED = frozenset({"cleared", "rejected"})

_NUMBER = re.compile(r"\+[0-9]{2,}")  # E.164
_ROOM = re.compile(r"[0-9]+")

_NUMBER_MISSING = Error("number_missing", "No number provided")
_INVALID_NUMBER = Error("invalid_number", "Expected E.164 number.")
_INVALID_ROOM = Error("invalid_roomid", "The room id must be numeric.")
_NO_CLIENT = Error("no_client_available", "No available client found to trigger dialout.")
_TIMEOUT = Error("timeout", "Timeout while waiting for dialout to start.")
_NOT_TOLD = Error("error_notify", "Could not notify about new dialout.")


@dataclass(frozen=True, slots=True)
class Answer:
    """What Nextcloud is answered: an HTTP status and a JSON body."""

    status: int
    body: bytes


class _Failed(Exception):
    """A client does not make the call; ``error`` says why, as JSON."""

    def __init__(self, error: Error | CallError) -> None:
        super().__init__("a client does not make the call")
        self.error = error


class Dialouts:
    """Finds a client for each call, and tells rooms how their calls do."""

    def __init__(self, services: Services, shared: TransientRequests) -> None:
        self._services = services
        self._hub = services.hub
        self._shared = shared
        self._asked: dict[tuple[SessionId, str], asyncio.Future[str]] = {}  # by request id; the result is a call id

    # -- what Nextcloud asks

    async def start(self, backend: Backend, roomid: str, call: Dialout, url: str) -> Answer:
        """Let a client call a number for a room; ``url`` is the base URL that Nextcloud names itself by, if any."""
        wrong = _check(roomid, call)
        if wrong is not None:
            return Answer(400, encode_call_error(wrong))
        failure: Error | CallError | None = None
        for session in self._candidates(backend):
            if not _is_free(session):  # any more: another one was asked meanwhile
                continue
            try:
                return Answer(200, encode_call(await self._ask(session, roomid, call, url)))
            except _Failed as failed:
                failure = failure or failed.error
        if failure is None:
            return Answer(404, encode_call_error(_NO_CLIENT))
        return Answer(502, encode_call_error(failure))

    def _candidates(self, backend: Backend) -> list[Session]:
        internals = self._hub.internals.values()
        return [it for it in internals if it.backend.id == backend.id and START_DIALOUT in it.features and _is_free(it)]

    async def _ask(self, session: Session, roomid: str, call: Dialout, url: str) -> str:
        """Ask one client, and return the id of the call it makes.

        Raises:
            _Failed: it makes none.
        """
        request = base64.urlsafe_b64encode(self._services.entropy(24)).decode()
        options = call.options if given(call.options) else ABSENT
        order = server.CallOrder(roomid, _base_url(session.backend, url), server.CallTarget(call.number or "", options))
        message = server.InternalRequest(server.InternalBody("dialout", order), request)
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._asked[session.id, request] = answer
        try:
            self._services.delivery.send(session, server.encode(message))
            async with asyncio.timeout(WAIT):
                return await answer
        except TimeoutError as error:
            raise _Failed(_TIMEOUT) from error
        finally:
            del self._asked[session.id, request]

    # -- what clients tell

    def receive_answer(self, session: Session, request: str, message: Internal) -> bool:
        """Take the answer to a call that was asked for; ``False``: it is none."""
        answer = self._asked.get((session.id, request))
        if answer is None or answer.done():
            return False
        report = message.dialout
        if message.type != "dialout" or report is None:
            answer.set_exception(_Failed(Error("unsupported_type", f"Unsupported message type {message.type}.")))
        elif report.type == "error" and report.error is not None:
            answer.set_exception(_Failed(report.error))
        elif report.type != "status" or report.status is None:
            answer.set_exception(_Failed(Error("unsupported_type", f"Unsupported dialout type {report.type}.")))
        elif report.status.status != "accepted":
            error = Error("unsupported_status", f"Unsupported dialout status {report.status.status}.")
            answer.set_exception(_Failed(error))
        else:
            self._store(session, report.roomid, report.status)
            answer.set_result(report.status.callid or "")
        return True

    def report(self, session: Session, report: CallReport) -> None:
        """Tell a room how one of its calls does."""
        if report.type == "status" and report.status is not None:
            self._store(session, report.roomid, report.status)
            return
        room = self._hub.room(session.backend, report.roomid or "")
        if room is not None:
            body = server.DialoutBody(report.type or "", report.error)
            self._services.delivery.send_all(room.members.values(), server.encode(server.Dialout(body)))

    def client_ended(self, session: Session) -> None:
        """Wait no longer for a session that is gone."""
        for (asked, _), answer in self._asked.items():
            if asked == session.id and not answer.done():
                answer.set_exception(_Failed(_NOT_TOLD))

    def _store(self, session: Session, roomid: str | None, status: CallStatus) -> None:
        """Keep the status as transient data of the room, if it is here and the call has a name."""
        room = self._hub.room(session.backend, roomid or "")
        if room is not None and status.callid:
            ttl = ENDED_TTL if status.status in ENDED else None
            self._shared.set(room, f"callstatus_{status.callid}", Raw(msgspec.json.encode(status)), ttl)


def _check(roomid: str, call: Dialout) -> Error | None:
    if not call.number:
        return _NUMBER_MISSING
    if _NUMBER.fullmatch(call.number) is None:
        return _INVALID_NUMBER
    return None if _ROOM.fullmatch(roomid) else _INVALID_ROOM


def _is_free(session: Session) -> bool:
    return session.open and session.connection is not None and session.room is None


def _base_url(backend: Backend, named: str) -> str:
    """Return the URL that Nextcloud names itself by; the backend's first one when it names none of it."""
    try:
        url = backends.canonical(named)
    except ValueError:
        url = ""
    known = [backends.canonical(it) for it in backend.urls]
    return url if not known or any(url.startswith(it) for it in known) else known[0]
