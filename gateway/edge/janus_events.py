"""The endpoint for Janus' event handler: the subprotocol ``janus-events`` on the clients' WebSocket URL.

Source: reference 2.1, 14.2. Janus opens the connection (its WebSocket event handler) without credentials, so it is
accepted from local addresses only: the peer's address and each address in the request's headers, from a trusted proxy
or not, must be loopback or private. Requests of web pages are refused. Such a connection is not a client: it sends no
hello, does not count towards a limit on clients and receives nothing but pings.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from aiohttp import WSCloseCode, WSMsgType, web

from gateway.edge.http.address import Networks, TrustedProxies, named_addresses
from gateway.edge.http.request_head import RequestHead

log = logging.getLogger("portunus.edge")

SUBPROTOCOL = "janus-events"
MESSAGE_LIMIT = 512 << 10  # bytes of one frame, whose decoding no other work interrupts; Janus sends up to 80 KB
MAX_FEEDS = 64  # connections at once
MAX_REFUSALS = 64  # connections being refused with a close frame at once; more get status 429
WARN_EVERY = 60.0  # seconds between two log records about refusals
HEARTBEAT = 30.0  # seconds between pings; half of that without a pong ends the connection
CLOSE_TIME = 2.0  # seconds for Janus to answer a close frame

_LOCAL_NETWORKS = Networks(("127.0.0.0/8", "::1", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"))


@runtime_checkable
class EventReceiver(Protocol):
    """An SFU that processes the frames of its own event feed."""

    def receive_events(self, frame: bytes) -> None:
        """Process one frame; count a malformed frame instead of raising an error."""


def event_receiver(sfu: object | None) -> Callable[[bytes], None] | None:
    """Return the function that receives an SFU's event frames; ``None`` without an SFU.

    Frames for an SFU without an event feed are dropped.
    """
    if sfu is None:
        return None
    return sfu.receive_events if isinstance(sfu, EventReceiver) else _drop


def _drop(frame: bytes) -> None:
    """Ignore a frame."""


class JanusEvents:
    """Accepts event connections; ``receive`` is called with each frame, and is ``None`` without a configured SFU."""

    def __init__(
        self, receive: Callable[[bytes], None] | None, proxies: TrustedProxies, clock: Callable[[], float]
    ) -> None:
        self._receive = receive
        self._proxies = proxies
        self._clock = clock
        self._open: set[web.WebSocketResponse] = set()
        self._closing = False
        self._refused = 0  # connections being refused with a close frame
        self._warn_at = float("-inf")

    def __len__(self) -> int:
        return len(self._open)

    def is_event_request(self, request: RequestHead) -> bool:
        """Return whether a request offers the subprotocol of Janus' events."""
        offered = ",".join(request.headers.getall("Sec-WebSocket-Protocol", ())).split(",")
        return any(name.strip() == SUBPROTOCOL for name in offered)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Upgrade a request and return when the connection has ended."""
        refusal = self._refusal(request)
        if refusal is not None and self._refused >= MAX_REFUSALS:
            raise web.HTTPTooManyRequests(text="Too many connections\n")
        socket = web.WebSocketResponse(
            protocols=(SUBPROTOCOL,),
            max_msg_size=MESSAGE_LIMIT + 1,
            heartbeat=HEARTBEAT,
            timeout=CLOSE_TIME,
            compress=False,
            decode_text=False,
        )
        if refusal is not None:
            await self._refuse(request, socket, *refusal)
            return socket
        await socket.prepare(request)
        self._open.add(socket)
        try:
            await self._read(socket)
        finally:
            self._open.discard(socket)
        return socket

    async def _refuse(self, request: web.Request, socket: web.WebSocketResponse, code: int, reason: str) -> None:
        """Refuse a connection with a close frame (reference 2.1), and log refusals at most once a minute."""
        now = self._clock()
        if now >= self._warn_at:
            self._warn_at = now + WARN_EVERY
            log.warning("an event connection of Janus was refused: %s", reason)
        self._refused += 1
        try:
            await socket.prepare(request)
            await socket.close(code=code, message=reason.encode())
        finally:
            self._refused -= 1

    def _refusal(self, request: web.Request) -> tuple[int, str] | None:
        if not self._is_local(request):
            return WSCloseCode.POLICY_VIOLATION, "only from loopback and private addresses"
        if _is_from_web_page(request):
            return WSCloseCode.POLICY_VIOLATION, "not from a web page"
        if self._receive is None:
            return WSCloseCode.INTERNAL_ERROR, "no SFU is configured"
        if len(self._open) >= MAX_FEEDS:
            return WSCloseCode.TRY_AGAIN_LATER, "too many event feeds"
        return None

    def _is_local(self, request: web.Request) -> bool:
        """Return whether all addresses are local: a forged header must not make a remote client appear local."""
        addresses = [self._proxies.real_ip(request), *named_addresses(request)]
        return "Forwarded" not in request.headers and all(
            address is not None and address in _LOCAL_NETWORKS for address in addresses
        )

    async def _read(self, socket: web.WebSocketResponse) -> None:
        if self._receive is None:
            return
        log.info("a Janus opened its event connection")
        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                log.warning("an event connection of Janus ends: it sent a frame that is no text")
                await socket.close(code=WSCloseCode.UNSUPPORTED_DATA)
                return
            self._receive(message.data)
            await asyncio.sleep(0)  # frames that have arrived together are processed in separate iterations
        if not self._closing:
            log.info("a Janus closed its event connection, or lost it")

    async def close(self) -> None:
        """Close all connections, each with ``CLOSE_TIME`` for Janus' close frame."""
        self._closing = True
        await asyncio.gather(*(socket.close(code=WSCloseCode.GOING_AWAY) for socket in list(self._open)))


def _is_from_web_page(request: web.Request) -> bool:
    """Return whether a browser on a local machine sent the request for a web page, which may be of any site.

    Janus also sends an ``Origin``: that of the URL to which it connects. A page whose host name was made to resolve to
    this machine (DNS rebinding) has the same origin; only the browser's ``User-Agent`` distinguishes it.
    """
    origins = request.headers.getall("Origin", ())
    own = {f"{scheme}://{request.headers.get('Host', '')}".lower() for scheme in ("http", "https")}
    if any(origin.lower() not in own for origin in origins):
        return True
    return bool(origins) and request.headers.get("User-Agent", "").startswith("Mozilla/")
