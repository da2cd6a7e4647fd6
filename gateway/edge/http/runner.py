"""aiohttp's server, but silent about requests that cannot be read.

Source: reference 1.2; invariant 7. aiohttp answers a request whose head is malformed or too long before
any of our handlers sees it: with the offending octets in the body, its own ``Server`` header, and a traceback with the
same octets in the log at ERROR. They may be a URL with a key, a cookie or the secret of a polling connection.

It closes a connection whose request does not come in ``keepalive_timeout``; here that is asked for each connection, and
counted when no request ever came.

What is used of aiohttp 3.14 beside its documented interface, here alone: ``RequestHandler.handle_error``, which makes
those answers, and ``_handle_request`` and ``_process_keepalive``, which know of requests and of their time limit;
``AppRunner._make_server`` and ``Server.__call__``, to have our request handler used; and the arguments
that ``Server`` keeps for it in ``_loop`` and ``_kwargs``.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from gateway.edge.http.write_limit import WriteTimeoutHandler

log = logging.getLogger("portunus.http")


_LONG = 86_400.0 * 365  # seconds; aiohttp closes at once what may be kept for 0 seconds


class HttpRunner(web.AppRunner):
    """Runs an application; ``headers`` are those of answers to what cannot be read.

    ``seconds`` is asked for each connection: how long the head of a request may take, and the connection be idle behind
    an answer; 0 = for ever. ``late`` is called when no request came.
    """

    __slots__ = ("_headers", "_late", "_seconds")

    def __init__(
        self,
        app: web.Application,
        headers: Mapping[str, str],
        seconds: Callable[[], float],
        late: Callable[[], None],
        **options: Any,
    ) -> None:
        super().__init__(app, **options)
        self._headers = headers
        self._seconds = seconds
        self._late = late

    async def _make_server(self) -> web.Server:
        return _Server(await super()._make_server(), self._headers, self._seconds, self._late)


class _Server(web.Server):
    def __init__(
        self, made: web.Server, headers: Mapping[str, str], seconds: Callable[[], float], late: Callable[[], None]
    ) -> None:
        super().__init__(
            made.request_handler,
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            loop=made._loop,
            **made._kwargs,
        )
        self._headers = headers
        self._seconds = seconds
        self._late = late

    def __call__(self) -> web.RequestHandler:
        options = self._kwargs | {"keepalive_timeout": self._seconds() or _LONG}
        return _RequestHandler(self, self._headers, self._late, loop=self._loop, **options)


class _RequestHandler(WriteTimeoutHandler):
    __slots__ = ("_came", "_headers", "_late")

    def __init__(
        self, server: web.Server, headers: Mapping[str, str], late: Callable[[], None], **options: Any
    ) -> None:
        super().__init__(server, **options)
        self._headers = headers
        self._late = late
        self._came = False  # a request, whatever became of it

    async def _handle_request(
        self,
        request: web.BaseRequest,
        start_time: float | None,
        request_handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
    ) -> tuple[web.StreamResponse, bool]:
        self._came = True
        return await super()._handle_request(request, start_time, request_handler)

    def _process_keepalive(self) -> None:
        super()._process_keepalive()
        if self._force_close and not self._came:
            self._late()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if isinstance(exc, HttpProcessingError) and request.writer.output_size == 0:
            log.debug("a request cannot be parsed: %s", type(exc).__name__)  # its text holds octets of the request
            response = web.Response(status=400, text="Bad request\n", headers=self._headers)
            response.force_close()
            return response
        return super().handle_error(request, status, exc, message)
