"""What the flows need from outside, as narrow interfaces; the edge implements them, the tests fake them."""

from __future__ import annotations

from typing import Protocol

from gateway.core.ids import ConnectionId
from gateway.core.limits import Backend
from gateway.core.outbox import Outbox
from gateway.core.throttle import Address
from gateway.wire.backend import BackendAnswer, BackendRequest


class Connection(Protocol):
    """One client's transport; it takes messages out of an outbox, in order, and nobody else does (invariant 3)."""

    @property
    def id(self) -> ConnectionId:
        """A number that no other connection of this process has or had."""

    @property
    def address(self) -> Address:
        """Where the client really is (14.2); for throttling and limits, never for a log."""

    @property
    def user_agent(self) -> str:
        """What program the client says it is; shown to the operator only."""

    def send(self, message: bytes) -> None:
        """Send a message that belongs to the connection and not to a session: before hello, or the reply to it."""

    def adopt(self, outbox: Outbox) -> None:
        """Drain this outbox from now on, after what ``send`` was given."""

    def wake(self) -> None:
        """Learn that the adopted outbox has messages; they are written at the end of the loop's turn."""

    def finish(self) -> None:
        """Write what waits, then close with 1000. Idempotent."""

    def displace(self, last: bytes) -> None:
        """Give the adopted outbox back, write ``last``, close with 1000."""

    def pause(self) -> None:
        """Stop reading: the client sends faster than its messages are handled."""

    def resume(self) -> None:
        """Read again."""


class Counters(Protocol):
    """What the flows count; plain integers, read by the metrics."""

    messages: dict[str, int]  # from clients, by type
    sessions_total: dict[tuple[str, str], int]  # opened, by backend and client type
    resumed_total: dict[tuple[str, str], int]  # by backend and client type
    resume_failed_total: int
    limit_exceeded: dict[str, int]  # sessions refused, by backend
    calls_total: dict[tuple[str, str], int]  # sessions that entered a call, by backend and client type
    call_rooms_total: dict[str, int]  # calls that began, by backend
    mcu_messages: dict[str, int]  # by type
    publishers_total: dict[str, int]  # by room type
    subscribers_total: dict[str, int]
    no_publisher_total: dict[str, int]  # requests that waited for a publisher
    streams_lost: dict[tuple[str, str], int]  # by room type and reason
    client_countries: dict[str, int]  # sessions opened, by country
    throttle_delayed: dict[tuple[str, int], int]  # by action and delay, milliseconds
    throttle_bruteforce: dict[str, int]  # by action
    limits_met: dict[str, int]  # by key of the configuration


class NextcloudError(Exception):
    """A request to Nextcloud failed; the text reaches the client as the message of ``internal_error``."""


class Nextcloud(Protocol):
    """The backends' HTTP side (reference 3.7, 3.8).

    ``url`` is the base URL that the session named, slash-terminated and without a default port.
    """

    async def ask(self, backend: Backend, url: str, request: BackendRequest) -> BackendAnswer:
        """Send a signed request and return the unwrapped answer; 10 s time limit.

        Raises:
            NextcloudError: no usable answer.
        """

    async def token_key(self, url: str) -> str:
        """Return ``config.signaling["hello-v2-token-key"]``; empty: none, even after a forced refresh."""

    async def supports(self, url: str, feature: str) -> bool:
        """Whether Nextcloud's Talk lists a feature; one that cannot be asked lists none."""

    async def session_ping_limit(self, url: str) -> int:
        """Return ``config.signaling["session-ping-limit"]``; 0 when absent."""
