"""Request bodies, read whole within the configured time.

Source: reference 1.1 (15 s); docs/protocol.md, "Limits".
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import ClientError, web

from gateway.standstill import peer_timeout

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
        try:
            async with peer_timeout(self._timeout()):
                return await request.content.readexactly(request.content_length or 0)
        except TimeoutError as error:
            self._on_timeout()
            raise UnreadableBody from error
        except (asyncio.IncompleteReadError, ClientError, OSError) as error:
            raise UnreadableBody from error
