"""The sender of an HTTP request whose secret is checked.

Source: reference 14.1.
"""

from __future__ import annotations

import asyncio

from aiohttp import web

from gateway.core.throttle import Address

POLL_PERIOD = 1.0  # seconds between two checks whether a throttled caller is still connected


class HttpCaller:
    """The sender of a request; implements ``flows.throttling.Caller``."""

    def __init__(self, request: web.Request, address: Address) -> None:
        self._request = request
        self.address = address

    async def wait_until_gone(self, seconds: float) -> None:
        """Wait until the connection is lost, at most ``seconds``; poll for it, since aiohttp does not report it."""
        while seconds > 0 and self._request.transport is not None:
            pause = min(seconds, POLL_PERIOD)
            await asyncio.sleep(pause)
            seconds -= pause
