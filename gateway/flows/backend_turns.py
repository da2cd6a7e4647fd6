"""Queues for the requests to a Nextcloud that clients cause, so that a flood of hellos does not delay known users.

Source: docs/operations.md, "Limits"; reference 3.7. Nextcloud answers few requests at a time
(``nextcloud.connections_per_host``): a place is the right to send one of them. Any client that connects can cause a
request. Joins of users go first, together with background requests: reports of leaves, and requests about virtual
sessions. Then follow hellos and joins of guests from preferred addresses, at which Nextcloud has authenticated a user
lately, then those from other addresses. Hellos and joins of guests never get the last quarter of the places, and never
the last place. One address never gets more than half of them, so that it mainly delays itself; nor do all background
requests together, of which there may be many at once. Joins of users and background requests may wait longer than
others, because many users behind one address join at once after a failure.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from gateway.flows.ports import NextcloudError
from gateway.limited_log import LimitedLog

PER_ADDRESS_DIVISOR = 2  # one address gets at most the places divided by this
FOR_USERS_DIVISOR = 4  # the places divided by this, and at least one, are kept from hellos and joins of guests
PREFERENCE_LIFETIME = 3600.0  # seconds for which an address is preferred after Nextcloud has authenticated a user there
MAX_PREFERRED = 10_000  # preferred addresses, of all backends together
USERS_TIMEOUT_FACTOR = 6  # factor by which joins of users, and background requests, may wait longer than other requests
BACKGROUND = -1  # in place of a client's network: all background requests count as one address

log = logging.getLogger("portunus.flows")


class NoTurn(NextcloudError):
    """The request must not be sent: its turn did not come in time, or its client no longer needs it."""

    def __init__(self) -> None:
        super().__init__("the backend did not answer in time")


class NotWanted(NoTurn):
    """The request is no longer needed."""


@dataclass(slots=True, eq=False)
class _Waiter:
    """A request that waits for its turn."""

    network: int | None
    known: bool
    queue: deque[_Waiter]
    turn: asyncio.Future[None]


class _Queue:
    """The running and waiting requests to one backend; ``known``, ``network``: see ``BackendTurns.turn``."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._places_per_address = max(places // PER_ADDRESS_DIVISOR, 1)
        self._places_for_unknown = places - max(places // FOR_USERS_DIVISOR, 1)
        self._running = 0
        self._running_unknown = 0  # running requests that are not ``known``
        self._by_network: dict[int | None, int] = {}  # running requests
        self._known: deque[_Waiter] = deque()  # joins of users, background requests
        self._preferred: deque[_Waiter] = deque()  # hellos and joins of guests from preferred addresses
        self._others: deque[_Waiter] = deque()

    @property
    def idle(self) -> bool:
        """Whether no request runs; then none waits, either."""
        return not self._running

    def enter_at_once(self, network: int | None, known: bool) -> bool:
        """Take a free place, if there is one for this request; return whether one was taken.

        No waiting request is passed over: ``leave`` has given these all places that they may have.
        """
        free = self._running < self._places and (known or self._running_unknown < self._places_for_unknown)
        if not free or self._by_network.get(network, 0) >= self._places_per_address:
            return False
        self._take_place(network, known)
        return True

    async def enter(self, network: int | None, known: bool, preferred: bool) -> None:
        """Wait for a place and take it."""
        queue = self._known if known else self._preferred if preferred else self._others
        waiter = _Waiter(network, known, queue, asyncio.get_running_loop().create_future())
        queue.append(waiter)
        try:
            await waiter.turn
        except BaseException:
            if waiter.turn.done() and not waiter.turn.cancelled():  # cancelled after its turn had come
                self.leave(network, known)
            else:
                queue.remove(waiter)
            raise

    def leave(self, network: int | None, known: bool) -> None:
        """Give a place back, and give free places to waiting requests."""
        self._running -= 1
        self._running_unknown -= not known
        running = self._by_network[network] - 1
        if running:
            self._by_network[network] = running
        else:
            del self._by_network[network]
        self._admit()

    def _take_place(self, network: int | None, known: bool) -> None:
        self._running += 1
        self._running_unknown += not known
        self._by_network[network] = self._by_network.get(network, 0) + 1

    def _admit(self) -> None:
        while self._running < self._places and (waiter := self._next_waiter()) is not None:
            waiter.queue.remove(waiter)
            self._take_place(waiter.network, waiter.known)
            waiter.turn.set_result(None)

    def _next_waiter(self) -> _Waiter | None:
        queues = [self._known]
        if self._running_unknown < self._places_for_unknown:
            queues += (self._preferred, self._others)
        for queue in queues:
            for waiter in queue:
                if not waiter.turn.done() and self._by_network.get(waiter.network, 0) < self._places_per_address:
                    return waiter
        return None


class BackendTurns:
    """The queues of all backends; at most ``places`` requests, 2 or more, to one backend run at once.

    A request waits ``timeout`` seconds at most, a ``known`` one ``USERS_TIMEOUT_FACTOR`` times as long. ``clock`` is
    monotonic, in seconds.
    """

    def __init__(self, places: int, timeout: float, clock: Callable[[], float]) -> None:
        self._places = places
        self._timeout = timeout
        self._clock = clock
        self._preferred_until: dict[tuple[str, int], float] = {}  # by backend id and network, earliest end first
        self._warnings = LimitedLog(log, clock)
        self._queues: dict[str, _Queue] = {}

    def user_authenticated(self, backend: str, network: int) -> None:
        """Prefer hellos and joins of guests from an address at which Nextcloud has authenticated a user."""
        key = (backend, network)
        self._preferred_until.pop(key, None)
        self._preferred_until[key] = self._clock() + PREFERENCE_LIFETIME
        if len(self._preferred_until) > MAX_PREFERRED:
            del self._preferred_until[next(iter(self._preferred_until))]

    def _is_preferred(self, backend: str, network: int | None) -> bool:
        return network is not None and self._preferred_until.get((backend, network), 0.0) > self._clock()

    def turn(self, backend: str, network: int | None, *, known: bool, wanted: Callable[[], bool]) -> _Turn:
        """Wait until a request to the backend of this id may be sent, and hold its place while the block sends it.

        Args:
            backend: id of the backend.
            network: the network of the client's address (``core.throttle.network``), or ``BACKGROUND``; ``None``: it is
                not known.
            known: whether this is the join of an authenticated user, or a background request.
            wanted: called when the turn has come; returns whether the client still needs the request.

        Raises:
            NoTurn: the request must not be sent.
        """
        return _Turn(self, backend, network, known, wanted)

    def background_turn(self, backend: str, wanted: Callable[[], bool] = lambda: True) -> _Turn:
        """Wait for the turn of a background request: a report of a leave, or a request about a virtual session."""
        return self.turn(backend, BACKGROUND, known=True, wanted=wanted)

    async def enter(self, backend: str, network: int | None, known: bool) -> None:
        """Take a place as soon as there is one for this request; the caller calls ``leave``.

        Raises:
            NoTurn: there was none in time.
        """
        queue = self._queues.get(backend)
        if queue is None:
            queue = self._queues[backend] = _Queue(self._places)
        if queue.enter_at_once(network, known):
            return
        try:
            async with asyncio.timeout(self._timeout * (USERS_TIMEOUT_FACTOR if known else 1)):
                await queue.enter(network, known, self._is_preferred(backend, network))
        except TimeoutError as error:
            self._warnings.warning(backend, "requests to backend %s waited too long: it is slow, or flooded", backend)
            raise NoTurn from error

    def leave(self, backend: str, network: int | None, known: bool) -> None:
        """Give a place back."""
        queue = self._queues[backend]
        queue.leave(network, known)
        if queue.idle:
            del self._queues[backend]


class _Turn:
    """The context of one request; see ``BackendTurns.turn``."""

    __slots__ = ("_backend", "_known", "_network", "_turns", "_wanted")

    def __init__(
        self, turns: BackendTurns, backend: str, network: int | None, known: bool, wanted: Callable[[], bool]
    ) -> None:
        self._turns = turns
        self._backend = backend
        self._network = network
        self._known = known
        self._wanted = wanted

    async def __aenter__(self) -> None:
        await self._turns.enter(self._backend, self._network, self._known)
        wanted = False
        try:
            wanted = self._wanted()
        finally:
            if not wanted:
                self._turns.leave(self._backend, self._network, self._known)
        if not wanted:
            raise NotWanted

    async def __aexit__(self, *error: object) -> None:
        self._turns.leave(self._backend, self._network, self._known)
