"""Counters and fault injection of the in-process SFU over HTTP, for tests of media (docs/testing.md).

They are served only if the configuration enables them, which requires that ``http.listen`` has loopback addresses only,
and only to programs on this machine: a request through a proxy, or from a page of another origin, is refused.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_address
from typing import Annotated, Any, Literal, Protocol, runtime_checkable
from urllib.parse import urlsplit

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from gateway.edge.http.address import named_addresses
from mcu.base import BackendId, NoSuchStream, PublisherId, StreamKey, StreamType

MAX_BODY = 4096  # bytes
Seconds = Annotated[float, Meta(ge=0, le=10)]
Handler = Callable[[web.Request], Awaitable[web.Response]]


@runtime_checkable
class MediaTestControls(Protocol):
    """The optional capability of an SFU to count packets and to impair streams."""

    def counters(self) -> Sequence[Any]:
        """Return a Struct for each stream, with at least ``backend``, ``publisher`` and ``type``."""

    def impair(self, key: StreamKey, *, loss: float, delay: float, jitter: float, seed: int | None, leg: str) -> None:
        """Drop and delay packets of a stream."""

    def silence(self, key: StreamKey) -> None:
        """Drop all packets that the publisher of a stream sends."""

    def revive(self, key: StreamKey) -> None:
        """Forward the publisher's packets again, after ``silence``."""


class ImpairmentRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of ``impair``; the defaults end the impairment."""

    loss: Annotated[float, Meta(ge=0, le=1)] = 0.0  # fraction of the packets
    delay: Seconds = 0.0
    jitter: Seconds = 0.0
    seed: int | None = None
    leg: Literal["publisher", "subscribers"] = "publisher"


class MediaControlsApi:
    """Serves the paths below ``/test/``."""

    def __init__(self, controls: MediaTestControls) -> None:
        self._controls = controls

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        stream = "/test/streams/{publisher}/{type}"
        return [
            web.get("/test/streams", _local(self._answer_streams)),
            web.post(f"{stream}/impair", _local(self._impair)),
            web.post(f"{stream}/silence", _local(self._silence)),
            web.post(f"{stream}/revive", _local(self._revive)),
        ]

    async def _answer_streams(self, request: web.Request) -> web.Response:
        return _json(200, {"streams": self._controls.counters()})

    async def _impair(self, request: web.Request) -> web.Response:
        length = request.content_length
        if request.body_exists and (length is None or length > MAX_BODY):
            return _error(413, "too_large", f"expected a body of at most {MAX_BODY} bytes and a Content-Length")
        try:
            impairment = msgspec.json.decode(await request.read() or b"{}", type=ImpairmentRequest)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return _error(400, "invalid", str(error))
        parameters = msgspec.structs.asdict(impairment)
        return self._control(request, lambda key: self._controls.impair(key, **parameters))

    async def _silence(self, request: web.Request) -> web.Response:
        return self._control(request, self._controls.silence)

    async def _revive(self, request: web.Request) -> web.Response:
        return self._control(request, self._controls.revive)

    def _control(self, request: web.Request, control: Callable[[StreamKey], None]) -> web.Response:
        publisher, stream_type = request.match_info["publisher"], request.match_info["type"]
        streams = self._controls.counters()
        stream = next((entry for entry in streams if (entry.publisher, entry.type) == (publisher, stream_type)), None)
        if stream is None:
            return _error(404, "no_such_stream", "no session publishes that stream")
        try:
            control(StreamKey(BackendId(stream.backend), PublisherId(publisher), StreamType(stream_type)))
        except NoSuchStream:
            return _error(404, "no_such_stream", "no session publishes that stream")
        return _json(200, {})


def _local(handler: Handler) -> Handler:
    async def checked(request: web.Request) -> web.Response:
        if not _is_local(request):
            return _error(403, "not_local", "only programs of this machine may do that")
        return await handler(request)

    return checked


def _is_local(request: web.Request) -> bool:
    """Return whether each address and host in a request is this machine; the peer of a unix socket is."""
    if "Forwarded" in request.headers or not _is_loopback(f"//{request.host}"):
        return False
    origin = request.headers.get("Origin")
    if origin is not None and not _is_loopback(origin):
        return False
    return all(address is not None and address.is_loopback for address in named_addresses(request))


def _is_loopback(url: str) -> bool:
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _error(status: int, code: str, message: str) -> web.Response:
    return _json(status, {"error": {"code": code, "message": message}})


def _json(status: int, document: object) -> web.Response:
    headers = {"Cache-Control": "no-store"}
    return web.Response(
        status=status, body=msgspec.json.encode(document), content_type="application/json", headers=headers
    )
