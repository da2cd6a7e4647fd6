"""Queues for the requests to a Nextcloud that clients cause, so that strangers do not delay known users.

Source: docs/protocol.md, "Limits". Nextcloud answers few requests at a time (``nextcloud.connections_per_host``), and
any client that connects can cause one. Joins of users go first, then hellos and joins of guests from addresses at which
Nextcloud has authenticated a user lately, then those of other addresses; hellos and joins of guests never get all
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
RECENT = 3600.0  # seconds for which an address is preferred after Nextcloud has authenticated a user there
MAX_RECENT = 10_000  # pairs of backend and address that are preferred
USERS_PATIENCE = 6  # times as long as requests of strangers, requests of users wait


log = logging.getLogger("portunus.flows")


class NoTurn(NextcloudError):
    """The request is not sent: its turn did not come in time, or it is no longer wanted."""

    def __init__(self) -> None:
        super().__init__("the backend did not answer in time")


class _Waiter:
    __slots__ = ("known", "network", "queue", "turn")

    def __init__(self, network: int | None, known: bool, queue: deque[_Waiter], turn: asyncio.Future[None]) -> None:
        self.network = network
        self.known = known
        self.queue = queue
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
        self._users: deque[_Waiter] = deque()
        self._recent: deque[_Waiter] = deque()  # hellos and guests of preferred addresses
        self._others: deque[_Waiter] = deque()

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

    async def enter(self, network: int | None, known: bool, recent: bool) -> None:
        queue = self._users if known else self._recent if recent else self._others
        waiter = _Waiter(network, known, queue, asyncio.get_running_loop().create_future())
        queue.append(waiter)
        try:
            await waiter.turn
        except BaseException:
            if waiter.turn.done() and not waiter.turn.cancelled():
                self.leave(network, known)
            else:
                queue.remove(waiter)
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
            waiter.queue.remove(waiter)
            self._take_place(waiter.network, waiter.known)
            waiter.turn.set_result(None)

    def _next(self) -> _Waiter | None:
        candidates = [self._users]
        if self._strangers < self._for_strangers:
            candidates += (self._recent, self._others)
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
        self._clock = clock
        self._recent: dict[tuple[str, int], float] = {}  # until when an address is preferred, the oldest first
        self._warnings = LimitedLog(log, clock)
        self._queues: dict[str, _Queue] = {}

    def authenticated(self, backend: str, network: int) -> None:
        """Prefer the next hellos of an address, since Nextcloud has authenticated a user there."""
        key = (backend, network)
        self._recent.pop(key, None)
        self._recent[key] = self._clock() + RECENT
        if len(self._recent) > MAX_RECENT:
            del self._recent[next(iter(self._recent))]

    def _is_recent(self, backend: str, network: int | None) -> bool:
        return network is not None and self._recent.get((backend, network), 0.0) > self._clock()

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
                    await queue.enter(network, known, self._is_recent(backend, network))
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
