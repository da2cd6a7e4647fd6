"""Where Janus sends its events: the subprotocol ``janus-events`` on the clients' WebSocket address.

Source: reference 2.1, 14.2. Janus opens the connection (its WebSocket event handler) and asks nobody's leave,
so only who is near may: each address that the request comes from or names, a trusted proxy's word or not, has to be
loopback or private. Such a connection is no client: it says no hello, counts in no limit and gets nothing but pings.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from aiohttp import WSCloseCode, WSMsgType, web

from gateway.edge.http.address import Networks, TrustedProxies, named_addresses

log = logging.getLogger("portunus.edge")

SUBPROTOCOL = "janus-events"
MESSAGE_LIMIT = 4 << 20  # bytes of one frame; Janus puts up to a hundred events of some hundred bytes into one
FEEDS = 64  # connections at once
REFUSED = 64  # that are told so at once; more get no upgrade
WARN_EVERY = 60.0  # seconds between two lines in the log
HEARTBEAT = 30.0  # seconds between pings; a Janus that stands still is let go after half of that
CLOSE_TIME = 2.0  # seconds for Janus to answer a close frame

_NEAR = Networks(("127.0.0.0/8", "::1", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"))


@runtime_checkable
class EventReceiver(Protocol):
    """An SFU that processes the frames of its own event feed."""

    def receive_events(self, frame: bytes) -> None:
        """Process one frame; a malformed one is counted and not raised."""


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
    """Accepts the connections; ``feed`` receives each frame, ``None``: no SFU is configured."""

    def __init__(self, feed: Callable[[bytes], None] | None, proxies: TrustedProxies) -> None:
        self._feed = feed
        self._proxies = proxies
        self._open: set[web.WebSocketResponse] = set()
        self._refused = 0  # that are being told so
        self._warn_at = 0.0

    def __len__(self) -> int:
        return len(self._open)

    def wanted(self, request: web.Request) -> bool:
        """Tell whether a request is for this, and not a client's."""
        offered = ",".join(request.headers.getall("Sec-WebSocket-Protocol", ())).split(",")
        return any(name.strip() == SUBPROTOCOL for name in offered)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Upgrade a request, and return when the connection is over."""
        refusal = self._refusal(request)
        if refusal is not None and self._refused >= REFUSED:
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

    async def _refuse(self, request: web.Request, socket: web.WebSocketResponse, code: int, why: str) -> None:
        """Say no in the words of a WebSocket (2.1); who asks again and again does not fill the log."""
        now = asyncio.get_running_loop().time()
        if now >= self._warn_at:
            self._warn_at = now + WARN_EVERY
            log.warning("an event feed was refused: %s", why)
        self._refused += 1
        try:
            await socket.prepare(request)
            await socket.close(code=code, message=why.encode())
        finally:
            self._refused -= 1

    def _refusal(self, request: web.Request) -> tuple[int, str] | None:
        if not self._is_near(request):
            return WSCloseCode.POLICY_VIOLATION, "only from loopback and private addresses"
        if self._feed is None:
            return WSCloseCode.INTERNAL_ERROR, "no SFU is configured"
        if len(self._open) >= FEEDS:
            return WSCloseCode.TRY_AGAIN_LATER, "too many event feeds"
        return None

    def _is_near(self, request: web.Request) -> bool:
        """Look at all addresses: a header that the client itself sent must not make it appear near."""
        addresses = [self._proxies.real_ip(request), *named_addresses(request)]
        return "Forwarded" not in request.headers and all(it is not None and it in _NEAR for it in addresses)

    async def _read(self, socket: web.WebSocketResponse) -> None:
        if self._feed is None:
            return
        log.info("a Janus sends its events")
        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                await socket.close(code=WSCloseCode.UNSUPPORTED_DATA)
                break
            self._feed(message.data)
        log.info("a Janus sends its events no more")

    async def close(self) -> None:
        """End all connections, with some time for Janus to agree."""
        await asyncio.gather(*(socket.close(code=WSCloseCode.GOING_AWAY) for socket in list(self._open)))
