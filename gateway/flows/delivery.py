"""The delivery of messages to clients: each message of a session is appended to its outbox (invariant 3)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from gateway.core.ids import ConnectionId
from gateway.core.outbox import Offline
from gateway.core.session import Session
from gateway.flows.end_requests import EndCause, EndRequest, EndRequests
from gateway.flows.ports import Connection


class Delivery:
    """Appends messages to outboxes and wakes the connections that send them.

    A session whose outbox exceeds its limit is put into ``end_requests``: the session closer ends it later, since a
    loop over the members of its room may be running now (invariant 6). ``on_full`` is called for each such session.
    """

    def __init__(self, end_requests: EndRequests, on_full: Callable[[], None]) -> None:
        self._connections: dict[ConnectionId, Connection] = {}
        self._end_requests = end_requests
        self._on_full = on_full

    def add(self, connection: Connection) -> None:
        """Register a connection."""
        self._connections[connection.id] = connection

    def remove(self, connection: Connection) -> None:
        """Forget a connection."""
        self._connections.pop(connection.id, None)

    def connection(self, session: Session) -> Connection | None:
        """Return the current connection of a session; ``None`` if it has none."""
        return None if session.connection is None else self._connections.get(session.connection)

    def send(self, session: Session, message: bytes, offline: Offline = Offline.KEEP) -> None:
        """Send a message to a session, now or after its resume."""
        if session.connection is None:
            fits = session.outbox.append_offline(message, offline)
        else:
            fits = session.outbox.append(message)
            self._connections[session.connection].wake()
        if not fits:
            self._overflow(session)

    def send_list(self, session: Session, parts: Iterable[bytes]) -> None:
        """Send a session the parts of a list; its length, which other sessions determine, never ends the session."""
        session.outbox.append_list(parts)
        if session.connection is not None:
            self._connections[session.connection].wake()

    def send_all(
        self,
        sessions: Iterable[Session],
        message: bytes,
        *,
        exclude: Session | None = None,
        offline: Offline = Offline.KEEP,
    ) -> None:
        """Send the same bytes to several sessions, except to ``exclude``."""
        connections = self._connections
        for session in sessions:
            if session is exclude:
                continue
            if session.connection is None:
                fits = session.outbox.append_offline(message, offline)
            else:
                fits = session.outbox.append(message)
                connections[session.connection].wake()
            if not fits:
                self._overflow(session)

    def send_repeatable(self, sessions: Collection[Session], message: bytes, offline: Offline) -> None:
        """Send a message that clients may receive twice: until its delivery is confirmed, a resume sends it again."""
        self.send_all(sessions, message, offline=offline)
        for session in sessions:
            session.outbox.keep(message)

    def _overflow(self, session: Session) -> None:
        if session.outbox.seal():
            self._on_full()
            self._end_requests.put_nowait(EndRequest(session, EndCause.OUTBOX_FULL))
