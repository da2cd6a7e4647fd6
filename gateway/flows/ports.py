"""The interfaces that the flows use: client connections, counters, other signaling servers, Nextcloud.

The edge implements them, the tests fake them.
"""

from __future__ import annotations

from typing import Protocol

from gateway.core.ids import ConnectionId
from gateway.core.limits import Backend
from gateway.core.outbox import Outbox
from gateway.core.throttle import Address
from gateway.wire.backend import BackendAnswer, BackendRequest


class Connection(Protocol):
    """The transport of one client, and the only reader of an adopted outbox, in order (invariant 3)."""

    @property
    def id(self) -> ConnectionId:
        """A number that is unique among all connections of this process, closed ones included."""

    @property
    def address(self) -> Address:
        """The address of the client, not of a proxy (14.2); for throttling and limits, never for a log."""

    @property
    def user_agent(self) -> str:
        """The ``User-Agent`` header of the client; shown to the operator only."""

    def send(self, message: bytes) -> None:
        """Send a message outside of a session's outbox: before the hello, the reply to the hello, or an ``ack``."""

    def adopt(self, outbox: Outbox) -> None:
        """Send the messages of this outbox from now on, after the messages given to ``send``."""

    def wake(self) -> None:
        """Write the messages of the adopted outbox at the end of this iteration of the event loop."""

    def finish(self) -> None:
        """Write the messages that wait, then close with code 1000. Idempotent."""

    def displace(self, last: bytes) -> None:
        """Stop taking messages from the adopted outbox, write ``last``, close with code 1000."""

    def pause(self) -> None:
        """Stop reading, since the client sends faster than its messages are handled."""

    def resume(self) -> None:
        """Resume reading."""


class FlowCounters(Protocol):
    """The counters that the flows increment; plain integers, which the metrics read."""

    messages: dict[str, int]  # from clients, by type
    sessions_total: dict[tuple[str, str], int]  # opened, by backend and client type
    resumed_total: dict[tuple[str, str], int]  # by backend and client type
    resume_failed_total: int
    limit_exceeded: dict[str, int]  # sessions refused because of ``session_limit``, by backend
    calls_total: dict[tuple[str, str], int]  # sessions that entered a call, by backend and client type
    call_rooms_total: dict[str, int]  # calls that began in a room, by backend
    mcu_messages: dict[str, int]  # by type
    publishers_total: dict[str, int]  # by room type
    subscribers_total: dict[str, int]  # by room type
    no_publisher_total: dict[str, int]  # requests that waited for a publisher, by room type
    streams_lost: dict[tuple[str, str], int]  # by room type and reason
    client_countries: dict[str, int]  # sessions opened, by country
    throttle_delayed: dict[tuple[str, int], int]  # by action and delay, milliseconds
    throttle_bruteforce: dict[str, int]  # by action
    authentication_failures: dict[tuple[str, str], int]  # by backend (empty: unknown) and ``AuthFailure``
    limits_met: dict[str, int]  # by key of the configuration


# Codes in the details of the ``federation_error`` that clients get (12.1).
NETWORK_ERROR = "network_error"
CERTIFICATE_ERROR = "certificate_verification_error"
NOT_ALLOWED = "not_allowed"


class RemoteUnavailable(Exception):
    """Another signaling server cannot be reached; code and text are for the client, and contain no address."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class RemoteConnectionLost(Exception):
    """The connection to another signaling server has ended, or cannot be used any more."""


class RemoteMessageTooLong(RemoteConnectionLost):
    """The other server has sent a message that exceeds the limit, which ends the connection."""


class RemoteConnection(Protocol):
    """A WebSocket connection to another signaling server (reference 12.1)."""

    @property
    def features(self) -> frozenset[str]:
        """The feature ids in the response to the upgrade."""

    async def receive(self) -> str:
        """Return the next message, of a limited size.

        Raises:
            RemoteConnectionLost: the connection has ended; a ``RemoteMessageTooLong`` if the size was exceeded.
        """

    async def send(self, text: str) -> None:
        """Send a message within a time limit.

        Raises:
            RemoteConnectionLost: the connection has ended.
        """

    def abort(self) -> None:
        """End the connection at once; ``receive`` then raises. Idempotent."""


class RemoteServers(Protocol):
    """Connections to other signaling servers, whose URLs clients choose (reference 12.1)."""

    async def connect(self, url: str) -> RemoteConnection:
        """Connect to the server with this base URL (canonical, ``https`` or ``http``), within a time limit.

        Raises:
            RemoteUnavailable: the URL is not allowed, or the server cannot be reached.
        """


class NextcloudError(Exception):
    """A request to Nextcloud failed; the client receives the text as the message of ``internal_error``."""


class Nextcloud(Protocol):
    """Requests to the backends over HTTP (reference 3.7, 3.8).

    ``url`` is a configured base URL in canonical form; with ``nextcloud.allow_any`` the client's URL.
    """

    async def ask(self, backend: Backend, url: str, request: BackendRequest) -> BackendAnswer:
        """Send a signed request and return the unwrapped answer, within ``nextcloud.timeout``.

        Raises:
            NextcloudError: there is no usable answer.
        """

    async def token_key(self, url: str) -> str:
        """Return ``config.signaling["hello-v2-token-key"]``; empty if there is none even after a forced refresh.

        Raises:
            NextcloudError: no key is known, because Nextcloud could not be asked.
        """

    async def renewed_token_key(self, url: str, old: str) -> str:
        """Return the token key if it differs from ``old``; empty if it is the same, or was fetched just before.

        Raises:
            NextcloudError: Nextcloud could not be asked.
        """

    async def supports(self, url: str, feature: str) -> bool:
        """Return whether Nextcloud's Talk announces a feature.

        Raises:
            NextcloudError: it is not known, because Nextcloud could not be asked.
        """

    async def session_ping_limit(self, url: str) -> int:
        """Return ``config.signaling["session-ping-limit"]``; 0 if it is absent.

        Raises:
            NextcloudError: Nextcloud could not be asked.
        """
