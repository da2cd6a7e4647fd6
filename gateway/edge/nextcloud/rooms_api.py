"""The endpoint of the rooms API: requests from Nextcloud to the gateway.

Source: reference 1.4 (authentication and failure statuses, in this order), 6.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import msgspec
from aiohttp import web

from gateway.core.backends import Backends
from gateway.core.limits import Backend, Limits, exceeds
from gateway.core.throttle import ThrottledAction
from gateway.edge.http.address import TrustedProxies, named_addresses
from gateway.edge.http.body import BodyReader, UnreadableBody
from gateway.edge.http.body_budget import BodyBudget, Overloaded
from gateway.edge.http.caller import HttpCaller
from gateway.flows.backend.requests import MalformedRequest
from gateway.flows.internal.dialout_replies import DialoutReply
from gateway.flows.refusals import Refusals
from gateway.flows.throttling import Throttling
from gateway.limited_log import LimitedLog
from gateway.wire import checksum
from gateway.wire.backend import Dialout, RoomsRequest, UnsupportedRequest, decode_rooms_request

MAX_BODY_WITHOUT_URL = 262_144  # bytes, if the headers name no backend: each configured secret is tried
LONGEST_RANDOM = 1024  # characters; Talk sends 64

SEEN_CLIENT_HEADER = "X-Portunus-Seen-Client"  # of a signed request whose sender wants to know how it arrives

_checksum = re.compile("[0-9a-f]{64}")
_NOT_ALLOWED = "Authentication check failed"
_UNREADABLE_BODY = "Could not read body"
_nosniff = {"X-Content-Type-Options": "nosniff"}
log = logging.getLogger("portunus.rooms_api")


class SeenClient(msgspec.Struct, frozen=True):
    """The sender of a request as it arrives at this server."""

    address: str  # that counts for limits and throttling
    peer: str  # address of the connection's other end: the client, or a proxy
    peer_port: int  # 0: a unix socket
    trusted: bool  # whether the peer is in ``http.trusted_proxies``
    named: list[str]  # addresses in X-Real-IP and X-Forwarded-For


class ConfiguredBackends(Protocol):
    """The settings that contain the backends; a reload may replace them between two requests."""

    @property
    def backends(self) -> Backends:
        """The backends as they are configured now."""


class RoomsApi:
    """Serves ``POST /api/v1/room/{roomid}``.

    ``carry_out`` is called with each authenticated request that is not a dialout; ``dial`` is called with dialouts and
    returns when an internal client has answered (reference 11.6).
    """

    def __init__(
        self,
        configured: ConfiguredBackends,
        carry_out: Callable[[Backend, str, RoomsRequest], None],
        dial: Callable[[Backend, str, Dialout, str], Awaitable[DialoutReply]],
        proxies: TrustedProxies,
        throttling: Throttling,
        refusals: Refusals,
        clock: Callable[[], float],
        bodies: BodyReader | None = None,
        max_body: Callable[[], int] = lambda: Limits().backend_request_bytes,
        on_too_large: Callable[[], None] = lambda: None,
        budget: BodyBudget | None = None,
    ) -> None:
        self._bodies = bodies or BodyReader()
        self._configured = configured
        self._carry_out = carry_out
        self._dial = dial
        self._proxies = proxies
        self._throttling = throttling
        self._refusals = refusals
        self._max_body = max_body  # bytes; 0 = no limit
        self._on_too_large = on_too_large
        self._budget = budget or BodyBudget(clock)
        self._warnings = LimitedLog(log, clock, written=refusals.record_line)

    async def handle(self, request: web.Request) -> web.Response:
        """Answer a request with 200 as soon as its change is made; only a dialout waits for a client."""
        refusal = self._check_envelope(request)
        if refusal is not None:
            return refusal
        caller = HttpCaller(request, self._proxies.real_ip(request))
        try:
            signed = await self._authenticate(request, caller)
        except Overloaded:
            self._refusals.envelope("too many bodies arrive at once or too slowly")
            return _text(503, "Too many requests at once")
        except UnreadableBody:
            self._refusals.envelope("their body ends early, or does not arrive within limits.http_read_timeout")
            return _text(400, _UNREADABLE_BODY)
        if signed is None:
            return await self._refuse(request, caller)
        backend, body = signed
        try:
            message = decode_rooms_request(body)
        except UnsupportedRequest as error:
            self._warn(backend.id, "its type is not supported")
            return _text(400, f"Unsupported request type: {error}")
        except msgspec.DecodeError:
            self._warn(backend.id, "its body is malformed")
            return _text(400, _UNREADABLE_BODY)
        return await self._answer(backend, request, message)

    def _check_envelope(self, request: web.Request) -> web.Response | None:
        """Apply rows 1 to 4 of reference 1.4, which need no body."""
        headers, length = request.headers, request.content_length
        if length is None or "Transfer-Encoding" in headers:
            self._refusals.envelope("they have no Content-Length; a proxy must not send them chunked")
            return _text(411, "Length required")
        url = headers.get("Spreed-Signaling-Backend", "")
        if exceeds(length, self._max_body()) or (not url and length > MAX_BODY_WITHOUT_URL):
            found = self._configured.backends.find(url) if url else None
            self._on_too_large()
            if found is not None:
                self._warn(found.id, "its body is larger than limits.backend_request_bytes")
            return _text(413, "Request entity too large")
        if not headers.get("Content-Type", "").startswith("application/json"):
            self._refusals.envelope("their Content-Type is not application/json")
            return _text(400, "Unsupported Content-Type")
        if not headers.get("Spreed-Signaling-Random") or not headers.get("Spreed-Signaling-Checksum"):
            self._refusals.missing_signature()
            return _text(403, _NOT_ALLOWED)
        return None

    async def _authenticate(self, request: web.Request, caller: HttpCaller) -> tuple[Backend, bytes] | None:
        """Read a body and return it with the backend whose secret signed it; ``None``: rows 7 to 9 of reference 1.4.

        A body is discarded if the headers already show that no backend has signed it.

        Raises:
            Overloaded: too many bodies are being read.
            UnreadableBody: the body ended early or did not arrive in time.
        """
        random = request.headers["Spreed-Signaling-Random"]
        given = request.headers["Spreed-Signaling-Checksum"]
        plausible = _checksum.fullmatch(given) is not None and len(random) <= LONGEST_RANDOM
        candidates = self._candidates(request) if plausible else ()
        if not candidates:
            await self._bodies.discard(request)
            return None
        async with self._budget.reserve(caller.address, request.content_length or 0):
            body = await self._bodies.read(request)
            for backend in candidates:
                if checksum.verify(backend.secret, random, given, body):
                    return backend, body
        return None

    def _candidates(self, request: web.Request) -> Sequence[Backend]:
        """Return the backend that a request names, or all if it names none, as very old versions of Talk do."""
        url = request.headers.get("Spreed-Signaling-Backend", "")
        backends = self._configured.backends
        if not url:
            return tuple(backends)
        found = backends.find(url)
        return () if found is None else (found,)

    async def _refuse(self, request: web.Request, caller: HttpCaller) -> web.Response:
        """Refuse a request that no configured secret has signed, after a delay that grows each time (rows 6 to 9)."""
        self._report(request)
        if await self._throttling.record_failure(caller, ThrottledAction.ROOM_AUTH):
            return _text(429, "Too many requests")
        return _text(403, _NOT_ALLOWED)

    def _report(self, request: web.Request) -> None:
        """Report that a URL or a secret is wrong."""
        url, backends = request.headers.get("Spreed-Signaling-Backend", ""), self._configured.backends
        found = backends.find(url) if url else None
        if url and found is None:
            self._refusals.unknown_url("requests to the rooms API", url, backends)
        else:
            self._refusals.wrong_checksum(found, url)

    def _warn(self, backend: str, reason: str) -> None:
        self._warnings.warning(
            (backend, reason), "a request of backend %s to the rooms API is refused: %s", backend, reason
        )

    async def _answer(self, backend: Backend, request: web.Request, message: RoomsRequest) -> web.Response:
        roomid = request.match_info["roomid"]
        try:
            if message.dialout is not None and message.type == "dialout":
                url = request.headers.get("Spreed-Signaling-Backend", "")
                answer = await self._dial(backend, roomid, message.dialout, url)
                return _json(answer.status, answer.body)
            self._carry_out(backend, roomid, message)
        except MalformedRequest as error:
            self._warn(backend.id, f"it is malformed: {error}")
            return _text(500, "Error while processing")
        except Exception:  # a fault in one request must not end the server
            log.exception("a %s request of backend %s was not carried out", message.type, backend.id)
            return _text(500, "Error while processing")
        return _json(200, self._seen_client(request) if SEEN_CLIENT_HEADER in request.headers else b"{}")

    def _seen_client(self, request: web.Request) -> bytes:
        """Return the address of the client that this server sees, and how it got it; for ``portunus doctor``.

        It contains no more of the configuration: each backend has a secret to ask for it.
        """
        peer, *named = named_addresses(request)
        peername = None if request.transport is None else request.transport.get_extra_info("peername")
        seen = SeenClient(
            str(self._proxies.real_ip(request)),
            str(peer),
            peername[1] if isinstance(peername, tuple) else 0,
            peer is not None and peer in self._proxies,
            [str(address) for address in named],
        )
        return msgspec.json.encode({"client": seen})


def _json(status: int, body: bytes) -> web.Response:
    return web.Response(status=status, body=body, content_type="application/json", charset="utf-8", headers=_nosniff)


def _text(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=text + "\n", headers=_nosniff)
