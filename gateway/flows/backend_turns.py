"""Queues for the requests to a Nextcloud that clients cause, so that strangers do not delay known users.

Source: docs/protocol.md, "Limits". Nextcloud answers few requests at a time (``nextcloud.connections_per_host``), and
any client that connects can cause one. Joins of users go first, then hellos and joins of guests, which never get all
places. Only a few requests of one address run at a time, so that an address mainly delays itself. After a failure many
users behind one address join at once, so joins of users wait longer than requests of strangers, which a flood may
delay.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from gateway.flows.ports import NextcloudError
from gateway.limited_log import LimitedLog

PER_ADDRESS_SHARE = 2  # an address has at most the places divided by this
FOR_USERS_SHARE = 4  # the places divided by this are kept for requests of users
USERS_PATIENCE = 6  # times as long as requests of strangers, requests of users wait


log = logging.getLogger("portunus.flows")


class NoTurn(NextcloudError):
    """The request is not sent: its turn did not come in time, or it is no longer wanted."""

    def __init__(self) -> None:
        super().__init__("the backend did not answer in time")


class _Waiter:
    __slots__ = ("known", "network", "turn")

    def __init__(self, network: int | None, known: bool, turn: asyncio.Future[None]) -> None:
        self.network = network
        self.known = known
        self.turn = turn


class _Queue:
    """The requests to one backend."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._per_address = max(places // PER_ADDRESS_SHARE, 1)
        self._for_strangers = max(places - places // FOR_USERS_SHARE, 1)
        self._running = 0
        self._strangers = 0  # running requests that are not ``known``
        self._by_network: dict[int | None, int] = {}
        self._waiting: dict[bool, deque[_Waiter]] = {True: deque(), False: deque()}  # by ``known``

    @property
    def idle(self) -> bool:
        return not self._running

    def enter_at_once(self, network: int | None, known: bool) -> bool:
        """Take a place if one is free; no request that waits could have it, as otherwise it would not wait."""
        free = self._running < self._places and (known or self._strangers < self._for_strangers)
        if not free or self._by_network.get(network, 0) >= self._per_address:
            return False
        self._take_place(network, known)
        return True

    async def enter(self, network: int | None, known: bool) -> None:
        waiter = _Waiter(network, known, asyncio.get_running_loop().create_future())
        self._waiting[known].append(waiter)
        try:
            await waiter.turn
        except BaseException:
            if waiter.turn.done() and not waiter.turn.cancelled():
                self.leave(network, known)
            else:
                self._waiting[known].remove(waiter)
            raise

    def leave(self, network: int | None, known: bool) -> None:
        self._running -= 1
        self._strangers -= not known
        left = self._by_network[network] - 1
        if left:
            self._by_network[network] = left
        else:
            del self._by_network[network]
        self._admit()

    def _take_place(self, network: int | None, known: bool) -> None:
        self._running += 1
        self._strangers += not known
        self._by_network[network] = self._by_network.get(network, 0) + 1

    def _admit(self) -> None:
        while self._running < self._places and (waiter := self._next()) is not None:
            self._waiting[waiter.known].remove(waiter)
            self._take_place(waiter.network, waiter.known)
            waiter.turn.set_result(None)

    def _next(self) -> _Waiter | None:
        candidates = [self._waiting[True]]
        if self._strangers < self._for_strangers:
            candidates.append(self._waiting[False])
        for waiting in candidates:
            for waiter in waiting:
                if not waiter.turn.done() and self._by_network.get(waiter.network, 0) < self._per_address:
                    return waiter
        return None


class BackendTurns:
    """The queues of all backends; ``places`` requests to one backend run at once.

    A request waits ``timeout`` seconds at most, or ``USERS_PATIENCE`` times as long if its user is known.
    """

    def __init__(self, places: int, timeout: float, clock: Callable[[], float]) -> None:
        self._places = places
        self._timeout = timeout
        self._warnings = LimitedLog(log, clock)
        self._queues: dict[str, _Queue] = {}

    @asynccontextmanager
    async def turn(
        self, backend: str, network: int | None, *, known: bool, wanted: Callable[[], bool]
    ) -> AsyncIterator[None]:
        """Wait for a turn at the backend of this id, and hold its place.

        ``network`` is that of the client's address; ``known``: Nextcloud has authenticated the client's user before;
        ``wanted`` is called when the turn has come, and returns whether the request is still to be sent.

        Raises:
            NoTurn: the request must not be sent.
        """
        queue = self._queues.get(backend)
        if queue is None:
            queue = self._queues[backend] = _Queue(self._places)
        if not queue.enter_at_once(network, known):
            try:
                async with asyncio.timeout(self._timeout * (USERS_PATIENCE if known else 1)):
                    await queue.enter(network, known)
            except TimeoutError as error:
                self._warnings.warning(
                    backend, "requests to backend %s waited too long: it is slow, or flooded", backend
                )
                raise NoTurn from error
        try:
            if not wanted():
                raise NoTurn
            yield
        finally:
            queue.leave(network, known)
            if queue.idle and self._queues.get(backend) is queue:
                del self._queues[backend]
