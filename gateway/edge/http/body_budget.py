"""The memory for request bodies whose senders are not authenticated yet.

Source: docs/operations.md, "Limits". A signature covers the body, so the body has to be read before its sender is
authenticated. The bodies of long polling count as well, until their messages are handled.

For each address a limited number of bytes is read at once. Beyond that, reading a slow body is aborted: bodies of a
Nextcloud arrive within milliseconds. A short body is always read, since it is already in the buffers of its connection;
a long body waits, and is refused if too many wait. If the bodies of all addresses together exceed a limit, reading the
oldest is aborted.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from gateway.core.throttle import Address, network

ADDRESS_LIMIT = 16 << 20  # bytes of the bodies of one address (IPv6: /64 network) that are read at once
MAX_BUFFERED = 48 << 10  # bytes of a waiting body in the buffers of its connection (``receive_buffer``), at most
SLOW_AFTER = 0.5  # seconds after which reading a body may be aborted in favour of others of its address
CHECK_PERIOD = 0.1  # seconds between two checks for slow bodies while others wait
WAITING_LIMIT = 4 << 20  # bytes of the waiting bodies of one address, each counted as ``MAX_BUFFERED``
TOTAL_LIMIT = 64 << 20  # bytes of the bodies of all addresses that are read at once


class Overloaded(Exception):
    """Too many bodies of the address wait, or reading this body was aborted in favour of others."""


class _Reading:
    """A body that is being read."""

    __slots__ = ("began", "size", "timeout")

    def __init__(self, size: int, began: float) -> None:
        self.size = size
        self.began = began  # seconds of the budget's clock
        self.timeout = asyncio.timeout(None)  # aborts the reading


class _Share:
    """The bodies of one address."""

    __slots__ = ("freed", "readings", "waiting")

    def __init__(self) -> None:
        self.readings: dict[_Reading, None] = {}  # oldest first
        self.waiting = 0  # bytes of bodies that wait
        self.freed = asyncio.Event()  # a body has been read, or aborted

    def is_full(self, size: int) -> bool:
        """Return whether another body of ``size`` bytes has to wait; a single body of an address never does."""
        return bool(self.readings) and sum(reading.size for reading in self.readings) + size > ADDRESS_LIMIT


class BodyBudget:
    """Limits the bytes of bodies that are read at once; ``clock`` returns seconds of a monotonic clock."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._shares: dict[int, _Share] = {}
        self._readings: dict[_Reading, _Share] = {}  # oldest first

    @asynccontextmanager
    async def reserve(self, address: Address, size: int) -> AsyncIterator[None]:
        """Wait until a body of ``size`` bytes may be read, and run the block that reads it.

        Raises:
            Overloaded: the body must not be read, or its reading was aborted.
        """
        key = network(address)
        share = self._shares.setdefault(key, _Share())
        try:
            await self._wait(share, size)
            reading = _Reading(size, self._clock())
            try:
                async with reading.timeout:
                    self._readings[reading] = share
                    share.readings[reading] = None
                    self._abort_oldest(reading)
                    try:
                        yield
                    finally:
                        self._end(reading, share)
            except TimeoutError as error:
                raise Overloaded from error
        finally:
            if not share.readings and not share.waiting:
                self._shares.pop(key, None)

    async def _wait(self, share: _Share, size: int) -> None:
        """Wait until a body of ``size`` bytes fits into its address' share, and abort slow bodies for it."""
        self._abort_slow(share, size)
        if size <= MAX_BUFFERED or not share.is_full(size):
            return
        if share.waiting + MAX_BUFFERED > WAITING_LIMIT:
            raise Overloaded
        share.waiting += MAX_BUFFERED
        try:
            while share.is_full(size):
                share.freed.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(CHECK_PERIOD):
                        await share.freed.wait()
                self._abort_slow(share, size)
        finally:
            share.waiting -= MAX_BUFFERED

    def _abort_slow(self, share: _Share, size: int) -> None:
        now = self._clock()
        while share.is_full(size) and (oldest := next(iter(share.readings))).began + SLOW_AFTER <= now:
            self._abort(oldest)

    def _abort_oldest(self, newest: _Reading) -> None:
        while sum(reading.size for reading in self._readings) > TOTAL_LIMIT:
            oldest = next(iter(self._readings))
            if oldest is newest:
                return
            self._abort(oldest)

    def _abort(self, reading: _Reading) -> None:
        reading.timeout.reschedule(0.0)
        self._end(reading, self._readings[reading])

    def _end(self, reading: _Reading, share: _Share) -> None:
        self._readings.pop(reading, None)
        share.readings.pop(reading, None)
        share.freed.set()
