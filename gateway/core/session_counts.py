"""The numbers of sessions of each backend and of each network, for their limits; internal clients do not count."""

from __future__ import annotations

from gateway.core.session import Session


class LimitReached(Exception):
    """The backend has reached its ``session_limit``."""


class SessionCounts:
    """Counts the sessions, connected or not."""

    def __init__(self) -> None:
        self._by_backend: dict[str, int] = {}  # by backend id
        self._by_network: dict[int, int] = {}

    def __bool__(self) -> bool:
        return bool(self._by_network) or any(self._by_backend.values())

    def of_backend(self, backend: str) -> int:
        """Return how many sessions the backend of an id has."""
        return self._by_backend.get(backend, 0)

    def of_network(self, network: int) -> int:
        """Return how many sessions clients of a network have."""
        return self._by_network.get(network, 0)

    def add(self, session: Session, network: int | None) -> None:
        """Count a session for its backend, and for the network of its client's address.

        Raises:
            LimitReached: nothing has changed.
        """
        backend = session.backend
        count = self.of_backend(backend.id)
        if backend.session_limit and count >= backend.session_limit:
            raise LimitReached
        self._by_backend[backend.id] = count + 1
        if network is not None:
            session.network = network
            self._by_network[network] = self.of_network(network) + 1

    def remove(self, session: Session) -> None:
        """Stop counting a session."""
        self._by_backend[session.backend.id] -= 1
        if session.network is None:
            return
        left = self._by_network[session.network] - 1
        if left:
            self._by_network[session.network] = left
        else:
            del self._by_network[session.network]
