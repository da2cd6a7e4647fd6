"""The bodies of requests: read whole, in the time that the configuration allows.

Source: reference 1.1 (15 s); docs/protocol.md, "Limits".
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import ClientError, web

READ_TIME = 15.0  # seconds for the body of a request to come


class UnreadableBody(Exception):
    """The body broke off, or did not come in time."""


class BodyReader:
    """Reads bodies; ``seconds`` is asked for each (0 = no limit), ``late`` is called when one does not come in time."""

    def __init__(
        self, seconds: Callable[[], float] = lambda: READ_TIME, late: Callable[[], None] = lambda: None
    ) -> None:
        self._seconds = seconds
        self._late = late

    async def read(self, request: web.Request) -> bytes:
        """Return the body, which is as long as the request says.

        Raises:
            UnreadableBody: there is none to read.
        """
        try:
            async with asyncio.timeout(self._seconds() or None):
                return await request.content.readexactly(request.content_length or 0)
        except TimeoutError as error:
            self._late()
            raise UnreadableBody from error
        except (asyncio.IncompleteReadError, ClientError, OSError) as error:
            raise UnreadableBody from error
