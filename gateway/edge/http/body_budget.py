"""The memory for request bodies whose senders are not authenticated yet.

A signature covers the body, which therefore has to be read first. One address may have so much read at once; what is
more waits, up to a bound, and is refused beyond it. If all addresses together have too much read, the oldest bodies
are given up: those of a Nextcloud arrive within milliseconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.core.throttle import Address, network

OF_ADDRESS = 16 << 20  # bytes of bodies of one address (IPv6: /64 network) that are read at once
BUFFERED = 256 << 10  # bytes of a body that arrive before its turn, at most
WAITING = 16 << 20  # bytes that bodies of one address have buffered while they wait
IN_ALL = 64 << 20  # bytes of bodies of all addresses that are read at once


class Overloaded(Exception):
    """The address has too many bodies that wait, or this body was given up for others."""


class _Share:
    """The bodies of one address."""

    __slots__ = ("freed", "read", "waiting")

    def __init__(self) -> None:
        self.read = 0  # bytes
        self.waiting = 0
        self.freed = asyncio.Event()


class BodyBudget:
    """Counts the bytes of bodies that are being read."""

    def __init__(self) -> None:
        self._shares: dict[int, _Share] = {}
        self._readings: dict[asyncio.Timeout, int] = {}  # bytes of each, oldest first

    @asynccontextmanager
    async def reserve(self, address: Address, size: int) -> AsyncIterator[None]:
        """Wait until a body of ``size`` bytes may be read, and run the block that reads it.

        Raises:
            Overloaded: it may not be read, or no longer.
        """
        key = network(address)
        share = self._shares.setdefault(key, _Share())
        try:
            await _wait(share, size)
            share.read += size
            try:
                async with self._reading(size):
                    yield
            finally:
                share.read -= size
                share.freed.set()
        finally:
            if not share.read and not share.waiting:
                self._shares.pop(key, None)

    @asynccontextmanager
    async def _reading(self, size: int) -> AsyncIterator[None]:
        limit = asyncio.timeout(None)
        try:
            async with limit:
                self._readings[limit] = size
                self._give_up_oldest(limit)
                try:
                    yield
                finally:
                    self._readings.pop(limit, None)
        except TimeoutError as error:
            raise Overloaded from error

    def _give_up_oldest(self, newest: asyncio.Timeout) -> None:
        while sum(self._readings.values()) > IN_ALL and (oldest := next(iter(self._readings))) is not newest:
            del self._readings[oldest]
            oldest.reschedule(0.0)


async def _wait(share: _Share, size: int) -> None:
    buffered = min(size, BUFFERED)
    if share.read and share.read + size > OF_ADDRESS and share.waiting + buffered > WAITING:
        raise Overloaded
    share.waiting += buffered
    try:
        while share.read and share.read + size > OF_ADDRESS:
            share.freed.clear()
            await share.freed.wait()
    finally:
        share.waiting -= buffered
