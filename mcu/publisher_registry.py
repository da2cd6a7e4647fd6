"""The publishers of an SFU by stream, and the calls that wait for them.

Invariant: a stream has at most one publisher; calls that publish one stream are carried out one after another.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Generic, Protocol, TypeVar
from weakref import WeakValueDictionary

from mcu.base import McuLost, McuTimeout, NoSuchStream, StreamKey


class RegisteredPublisher(Protocol):
    """The part of a publisher that the registry uses."""

    @property
    def key(self) -> StreamKey:
        """The stream."""

    @property
    def connected(self) -> bool:
        """Whether its transport is connected: subscribers can receive the stream."""

    @property
    def closed(self) -> bool:
        """Whether the publisher is closed, for any reason."""


P = TypeVar("P", bound=RegisteredPublisher)


class PublisherRegistry(Generic[P]):
    """Holds the publishers, orders the ``publish`` calls of a stream, and wakes the calls that wait for a publisher."""

    def __init__(self) -> None:
        self._publishers: dict[StreamKey, P] = {}
        self._locks: WeakValueDictionary[StreamKey, asyncio.Lock] = WeakValueDictionary()
        self._waiting: dict[StreamKey, set[asyncio.Future[None]]] = {}

    # -- look-up

    def __len__(self) -> int:
        return len(self._publishers)

    def __iter__(self) -> Iterator[P]:
        """Yield the current publishers; changes during the iteration have no effect on it."""
        return iter(list(self._publishers.values()))

    def __contains__(self, key: StreamKey) -> bool:
        return key in self._publishers

    def get(self, key: StreamKey) -> P | None:
        """Return the publisher of a stream."""
        return self._publishers.get(key)

    # -- changes

    @asynccontextmanager
    async def replacement(self, key: StreamKey) -> AsyncIterator[P | None]:
        """Wait for earlier ``publish`` calls for a stream, and hold later ones back until the end of the block.

        Yields the running publisher, which has to be closed with ``REPLACED`` before another one is added.
        """
        async with self._locks.setdefault(key, asyncio.Lock()):
            yield self._publishers.get(key)

    def add(self, publisher: P) -> None:
        """Add the publisher of a stream that has none, and wake the calls that wait for it."""
        self._publishers[publisher.key] = publisher
        self._wake(publisher.key)

    def publisher_changed(self, publisher: P) -> None:
        """Wake the calls that wait for the stream of a publisher that was connected or closed; remove a closed one.

        A replaced publisher is not in the registry any more; its successor stays.
        """
        if publisher.closed and self._publishers.get(publisher.key) is publisher:
            del self._publishers[publisher.key]
        self._wake(publisher.key)

    def wake_all(self) -> None:
        """Wake all calls that wait for a publisher: the state of an SFU has changed."""
        for key in list(self._waiting):
            self._wake(key)

    # -- waiting

    async def wait_until_connected(self, key: StreamKey, check: Callable[[P | None], None]) -> P:
        """Return the publisher of a stream as soon as it is connected.

        ``check`` is called with the publisher, or ``None``, at each change; an error that it raises ends the wait.
        """
        while True:
            publisher = self._publishers.get(key)
            check(publisher)
            if publisher is not None and publisher.connected:
                return publisher
            await self.wait_for_change(key)

    async def wait_for_change(self, key: StreamKey) -> None:
        """Wait until the publisher of a stream, or the state of an SFU, changes."""
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(key, set())
        waiting.add(woken)
        try:
            await woken
        finally:
            waiting.discard(woken)
            if not waiting and self._waiting.get(key) is waiting:
                del self._waiting[key]

    @asynccontextmanager
    async def time_limit(
        self, seconds: float, awaited: StreamKey | None = None, *, unreachable: Callable[[], str] = str
    ) -> AsyncIterator[None]:
        """Limit a call of the SFU interface, and raise the error that names the cause.

        ``awaited`` is the stream whose publisher the call waits for. ``unreachable`` returns the reason for
        which no SFU can be reached, empty if one can.

        Raises:
            McuLost: no SFU can be reached.
            NoSuchStream: the awaited stream has no publisher.
            McuTimeout: otherwise.
        """
        try:
            async with asyncio.timeout(seconds):
                yield
        except TimeoutError as error:
            if reason := unreachable():
                raise McuLost(reason) from error
            if awaited is not None and awaited not in self._publishers:
                raise NoSuchStream("the stream has no publisher") from error
            raise McuTimeout("the SFU did not answer, or the publisher's media did not flow, in time") from error

    def _wake(self, key: StreamKey) -> None:
        for woken in self._waiting.get(key, ()):
            if not woken.done():
                woken.set_result(None)
