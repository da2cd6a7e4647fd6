"""Request bodies, read whole within the configured time.

Source: reference 1.1 (15 s); docs/protocol.md, "Limits".
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from aiohttp import ClientError, StreamReader, web

from gateway.edge.http.receive_buffer import BODY_SIZE, NARROW_SIZE, widen
from gateway.standstill import PeerTimeout

T = TypeVar("T")

READ_TIMEOUT = 15.0  # seconds for the whole body of a request


class UnreadableBody(Exception):
    """The body ended early, or did not arrive in time."""


class BodyReader:
    """Reads request bodies.

    ``timeout`` is called for each body and returns seconds (0 = no limit); ``on_timeout`` is called when a body is
    not complete in time.
    """

    def __init__(
        self, timeout: Callable[[], float] = lambda: READ_TIMEOUT, on_timeout: Callable[[], None] = lambda: None
    ) -> None:
        self._timeout = timeout
        self._on_timeout = on_timeout

    async def read(self, request: web.Request) -> bytes:
        """Return the body of the length that the request announces.

        Raises:
            UnreadableBody: it ended early or did not arrive in time.
        """
        length = request.content_length or 0
        if length > NARROW_SIZE:
            widen(request.transport, BODY_SIZE)
        return await self._in_time(request.content.readexactly(length))

    async def discard(self, request: web.Request) -> None:
        """Read the body without keeping it.

        Raises:
            UnreadableBody: it ended early or did not arrive in time.
        """
        await self._in_time(_discard(request.content))

    async def _in_time(self, reading: Coroutine[Any, Any, T]) -> T:
        try:
            async with PeerTimeout(self._timeout()):
                return await reading
        except TimeoutError as error:
            self._on_timeout()
            raise UnreadableBody from error
        except (asyncio.IncompleteReadError, ClientError, OSError) as error:
            raise UnreadableBody from error


async def _discard(content: StreamReader) -> None:
    while await content.readany():
        pass
