"""aiohttp's server, but silent about requests that cannot be read.

Source: behaviour reference 1.2; design, logging. aiohttp answers a request whose head is malformed or too long before
any of our handlers sees it: with the offending octets in the body, its own ``Server`` header, and a traceback with the
same octets in the log at ERROR. They may be a URL with a key, a cookie or the secret of a polling connection.

What is used of aiohttp 3.14 beside its documented interface, here alone: ``RequestHandler.handle_error``, which makes
those answers; ``AppRunner._make_server`` and ``Server.__call__``, to have our request handler used; and the arguments
that ``Server`` keeps for it in ``_loop`` and ``_kwargs``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from gateway import log

_log = log.get("http")


class Runner(web.AppRunner):
    """Runs an application; ``headers`` are those of answers to what cannot be read."""

    __slots__ = ("_headers",)

    def __init__(self, app: web.Application, headers: Mapping[str, str], **options: Any) -> None:
        super().__init__(app, **options)
        self._headers = headers

    async def _make_server(self) -> web.Server:
        return _Server(await super()._make_server(), self._headers)


class _Server(web.Server):
    def __init__(self, made: web.Server, headers: Mapping[str, str]) -> None:
        super().__init__(
            made.request_handler,
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            loop=made._loop,
            **made._kwargs,
        )
        self._headers = headers

    def __call__(self) -> web.RequestHandler:
        return _RequestHandler(self, self._headers, loop=self._loop, **self._kwargs)


class _RequestHandler(web.RequestHandler):
    __slots__ = ("_headers",)

    def __init__(self, server: web.Server, headers: Mapping[str, str], **options: Any) -> None:
        super().__init__(server, **options)
        self._headers = headers

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if isinstance(exc, HttpProcessingError) and request.writer.output_size == 0:
            _log.debug("a request cannot be read", reason=type(exc).__name__)  # and not what it says
            response = web.Response(status=400, text="Bad request\n", headers=self._headers)
            response.force_close()
            return response
        return super().handle_error(request, status, exc, message)
