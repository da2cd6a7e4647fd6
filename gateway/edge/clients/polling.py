"""The long-polling endpoint, for clients that cannot open a WebSocket.

Source: docs/protocol.md, Long polling (an extension). Messages are numbered in both directions. The messages
in the answer to a fetch are kept until a later fetch acknowledges them, so that a lost answer is repeated; messages
that a client posts again are skipped.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta, Raw, Struct

from gateway.core.ids import ConnectionId
from gateway.core.throttle import Address
from gateway.edge.clients.polling_connection import SILENCE, PollingConnection, PostTurns
from gateway.edge.clients.traffic import TrafficCounters
from gateway.edge.http.address import TrustedProxies
from gateway.edge.http.body import BodyReader, UnreadableBody
from gateway.edge.http.body_budget import BodyBudget, Overloaded
from gateway.flows.dispatch import Dispatcher

SECRET_HEADER = "Spreed-Signaling-Poll"
MAX_BODY = 262_144  # bytes of a request
MAX_POSTS = 4  # simultaneous requests of one connection with messages that are not handled yet
MAX_MESSAGES = 5000  # of a request; as many as the burst of a session
SHORT_BODY = 4096  # bytes of a body that is decoded at once; a longer one has to wait for its turn

_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Access-Control-Allow-Origin": "*",  # as with the WebSocket; cookies are never read
}
_PREFLIGHT = _HEADERS | {
    "Access-Control-Allow-Methods": "POST",
    "Access-Control-Allow-Headers": f"Content-Type, {SECRET_HEADER}",
    "Access-Control-Max-Age": "86400",
}


class PollRequest(Struct, frozen=True):
    """The body of a request of an open connection; ``messages``, ``received`` and ``close`` are separate operations."""

    messages: Annotated[list[Raw], Meta(max_length=MAX_MESSAGES)] | None = None
    first: Annotated[int, Meta(ge=1)] = 1  # number of the first message
    received: Annotated[int, Meta(ge=0)] | None = None  # fetch, and acknowledge this many messages of the server
    close: bool = False


_decoder = msgspec.json.Decoder(PollRequest)


class PollingEndpoint:
    """Serves ``POST /spreed/poll`` and owns its connections."""

    def __init__(
        self,
        dispatch: Dispatcher,
        counters: TrafficCounters,
        proxies: TrustedProxies,
        bodies: BodyReader | None = None,
        budget: BodyBudget | None = None,
    ) -> None:
        self._bodies = bodies or BodyReader()
        self._budget = budget or BodyBudget(time.monotonic)
        self.dispatch = dispatch
        self.counters = counters
        self._proxies = proxies
        self._connections: dict[str, PollingConnection] = {}
        self._last_answers: dict[str, bytes] = {}  # last answers of ended connections, by secret
        self._opened = 0
        self.turns = PostTurns()

    def __len__(self) -> int:
        return len(self._connections)

    async def handle(self, request: web.Request) -> web.Response:
        """Open a connection, serve a request of an open connection, or repeat the last answer of an ended one."""
        secret = request.headers.get(SECRET_HEADER)
        if secret is None:
            return self._open(request)
        connection = self._connections.get(secret)
        if connection is None and secret not in self._last_answers:
            return _refusal(404, "No such connection")
        if request.content_length is None:
            return _refusal(411, "Length required")
        if request.content_length > MAX_BODY:
            return _refusal(413, "Request entity too large")
        try:
            async with self._budget.reserve(self._proxies.real_ip(request), request.content_length):
                data = await self._bodies.read(request)
                if len(data) > SHORT_BODY:
                    await self.turns.wait()
                body = _decoder.decode(data)
                if connection is not None and body.messages is not None:  # the messages count while they wait
                    refusal = await self._post(connection, body.first, body.messages)
                    if refusal is not None:
                        return refusal
        except Overloaded:
            return _refusal(429, "Too many requests")
        except (UnreadableBody, ValueError, RecursionError):
            return _refusal(400, "Could not read body")
        if connection is not None:
            return await self._serve(connection, body)
        last = None if body.received is None else self._last_answers.get(secret)  # repeats a lost answer
        return _refusal(404, "No such connection") if last is None else _answer(last)

    async def preflight(self, request: web.Request) -> web.Response:
        """Answer a CORS preflight request: pages of any origin may poll, as they may open a WebSocket."""
        return web.Response(status=204, headers=_PREFLIGHT)

    def close(self) -> None:
        """Close all connections; their sessions stay."""
        for connection in list(self._connections.values()):
            connection.finish()

    def connect(self, address: Address, user_agent: str) -> PollingConnection:
        """Open a connection; its first fetch returns the welcome message."""
        self._opened += 1
        secret = secrets.token_urlsafe(32)
        connection = PollingConnection(ConnectionId(-self._opened), secret, address, user_agent, self)
        self._connections[secret] = connection
        connection.open()
        return connection

    def remove(self, secret: str) -> None:
        """Remove an ended connection."""
        self._connections.pop(secret, None)

    def keep_last_answer(self, secret: str, answer: bytes) -> None:
        """Keep the last answer of an ended connection for ``SILENCE`` seconds, to repeat it."""
        self._last_answers[secret] = answer
        asyncio.get_running_loop().call_later(SILENCE, self._last_answers.pop, secret, None)

    def _open(self, request: web.Request) -> web.Response:
        address = self._proxies.real_ip(request)
        if not self.dispatch.admits(address):
            return _refusal(429, "Too many connections")
        connection = self.connect(address, request.headers.get("User-Agent", ""))
        return _answer(msgspec.json.encode({"secret": connection.secret}))

    @staticmethod
    async def _post(connection: PollingConnection, first: int, messages: list[Raw]) -> web.Response | None:
        """Have posted messages handled; return the answer if the request is refused, otherwise ``None``."""
        if connection.posts >= MAX_POSTS:
            return _refusal(429, "Too many requests")
        return None if await connection.deliver(first, messages) else _refusal(409, "Messages are missing")

    @staticmethod
    async def _serve(connection: PollingConnection, body: PollRequest) -> web.Response:
        if body.close:
            if body.received is not None and not connection.acknowledge(body.received):
                return _refusal(409, "No such number")
            connection.lose()
        elif body.received is not None:
            messages = await connection.fetch(body.received)
            return _refusal(409, "No such number") if messages is None else _answer(messages)
        return _answer(b'{"accepted":%d}' % connection.accepted)


def _answer(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json", charset="utf-8", headers=_HEADERS)


def _refusal(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=text + "\n", headers=_HEADERS)
