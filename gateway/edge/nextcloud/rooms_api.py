"""The endpoint of the rooms API: requests from Nextcloud to the gateway.

Source: reference 1.4 (authentication and failure statuses, in this order), 6.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec
from aiohttp import web

from gateway.core.backends import Backends
from gateway.core.limits import Backend
from gateway.core.log_limit import LogLimit
from gateway.core.throttle import ThrottledAction
from gateway.edge.http.address import TrustedProxies
from gateway.edge.http.body import BodyReader, UnreadableBody
from gateway.edge.http.caller import HttpCaller
from gateway.flows.backend.requests import MalformedRequest
from gateway.flows.internal.dialout import DialoutReply
from gateway.flows.throttling import Throttling
from gateway.wire import checksum
from gateway.wire.backend import Dialout, RoomsRequest, UnsupportedRequest, decode_rooms_request

MAX_BODY = 262_144  # bytes (1.4, row 2)

_NOT_ALLOWED = "Authentication check failed"
_UNREADABLE = "Could not read body"
_nosniff = {"X-Content-Type-Options": "nosniff"}
log = logging.getLogger("portunus.rooms_api")


class ConfiguredBackends(Protocol):
    """The settings that name the backends; a reload may exchange them between two requests."""

    @property
    def backends(self) -> Backends:
        """The backends as they are configured now."""


class RoomsApi:
    """Serves ``POST /api/v1/room/{roomid}``.

    ``carry_out`` is called with each authenticated request except those for a phone call; ``dial`` is called with these
    and returns when an internal client has answered (reference 11.6).
    """

    def __init__(
        self,
        configured: ConfiguredBackends,
        carry_out: Callable[[Backend, str, RoomsRequest], None],
        dial: Callable[[Backend, str, Dialout, str], Awaitable[DialoutReply]],
        proxies: TrustedProxies,
        throttling: Throttling,
        clock: Callable[[], float],
        bodies: BodyReader | None = None,
    ) -> None:
        self._bodies = bodies or BodyReader()
        self._configured = configured
        self._carry_out = carry_out
        self._dial = dial
        self._proxies = proxies
        self._throttling = throttling
        self._clock = clock
        self._log_limit = LogLimit()

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one request with 200 as soon as its change is made; only a phone call waits for a client."""
        refusal = _check_envelope(request)
        if refusal is not None:
            return refusal
        try:
            body = await self._bodies.read(request)
        except UnreadableBody:
            return _text(400, _UNREADABLE)
        caller = HttpCaller(request, self._proxies.real_ip(request))
        backend = self._authenticate(request, body)
        if backend is None:
            return await self._refuse(request, caller)
        try:
            message = decode_rooms_request(body)
        except UnsupportedRequest as error:
            return _text(400, f"Unsupported request type: {error}")
        except msgspec.DecodeError:
            return _text(400, _UNREADABLE)
        return await self._answer(backend, request, message)

    def _authenticate(self, request: web.Request, body: bytes) -> Backend | None:
        """Return the backend whose secret signed the request; ``None``: rows 7 to 9 of reference 1.4."""
        random = request.headers["Spreed-Signaling-Random"]
        given = request.headers["Spreed-Signaling-Checksum"]
        url = request.headers.get("Spreed-Signaling-Backend", "")
        backends = self._configured.backends
        found = backends.find(url) if url else None
        candidates = backends if not url else [found] if found else []  # very old versions of Talk send no backend URL
        return next((backend for backend in candidates if checksum.verify(backend.secret, random, given, body)), None)

    async def _refuse(self, request: web.Request, caller: HttpCaller) -> web.Response:
        """Refuse a request that no configured secret has signed, later after each one (rows 6 to 9)."""
        self._log_failure(request)
        if self._throttling.blocks(caller.address, ThrottledAction.ROOM_AUTH):
            return _text(429, "Too many requests")
        await self._throttling.failed(caller, ThrottledAction.ROOM_AUTH)
        return _text(403, _NOT_ALLOWED)

    def _log_failure(self, request: web.Request) -> None:
        """Tell the operator, at most once a minute for each backend, that its secret or URL does not fit."""
        url = request.headers.get("Spreed-Signaling-Backend", "")
        found = self._configured.backends.find(url) if url else None
        name = "" if found is None else found.id
        left_out = self._log_limit.admit(name, self._clock())
        if left_out is None:
            return
        again = f" ({left_out} more in the last minutes)" if left_out else ""
        if found is None:
            log.info("requests to the rooms API are refused: they name no configured backend%s", again)
        else:
            log.warning("requests to the rooms API are refused: backend %s has another secret%s", name, again)

    async def _answer(self, backend: Backend, request: web.Request, message: RoomsRequest) -> web.Response:
        roomid = request.match_info["roomid"]
        try:
            if message.dialout is not None and message.type == "dialout":
                url = request.headers.get("Spreed-Signaling-Backend", "")
                answer = await self._dial(backend, roomid, message.dialout, url)
                return _json(answer.status, answer.body)
            self._carry_out(backend, roomid, message)
        except MalformedRequest as error:
            log.warning("a %s request of backend %s is malformed: %s", message.type, backend.id, error)
            return _text(500, "Error while processing")
        except Exception:  # a fault in one request must not end the server
            log.exception("a %s request of backend %s was not carried out", message.type, backend.id)
            return _text(500, "Error while processing")
        return _json(200, b"{}")


def _check_envelope(request: web.Request) -> web.Response | None:
    """Apply rows 1 to 4 of reference 1.4, which need no body."""
    headers = request.headers
    if request.content_length is None or "Transfer-Encoding" in headers:
        return _text(411, "Length required")
    if request.content_length > MAX_BODY:
        return _text(413, "Request entity too large")
    if not headers.get("Content-Type", "").startswith("application/json"):
        return _text(400, "Unsupported Content-Type")
    if not headers.get("Spreed-Signaling-Random") or not headers.get("Spreed-Signaling-Checksum"):
        return _text(403, _NOT_ALLOWED)
    return None


def _json(status: int, body: bytes) -> web.Response:
    return web.Response(status=status, body=body, content_type="application/json", charset="utf-8", headers=_nosniff)


def _text(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=text + "\n", headers=_nosniff)
