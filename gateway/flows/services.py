"""What the flows of one gateway share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.core.backends import Backends
from gateway.core.geolocation import UNKNOWN, GeoLocation
from gateway.core.hub import Hub
from gateway.core.ids import SessionIds
from gateway.core.limits import Backend, Limits, Quality
from gateway.core.policy import greatest
from gateway.core.session import Session
from gateway.core.throttle import Address
from gateway.flows.delivery import Delivery
from gateway.flows.ports import Counters, Nextcloud
from gateway.flows.tasks import Tasks
from gateway.flows.throttling import Throttling
from gateway.wire.backend import RoomRequest
from gateway.wire.server import Bandwidth, ServerFacts


@dataclass(frozen=True, slots=True)
class MediaLimits:
    """The SFU's side of a stream's limits; bit/s, 0 = none; seconds."""

    stream_bitrate: int = 0
    screen_bitrate: int = 0
    timeout: float = 10.0
    subscribe_any: bool = False  # whether streams may be requested outside of a call, too (9.3); for tests


@dataclass(slots=True)
class Services:
    """State, ports and settings; one per gateway."""

    hub: Hub
    delivery: Delivery
    nextcloud: Nextcloud
    backends: Backends
    counters: Counters
    ids: SessionIds
    server: ServerFacts  # announced to clients
    server_internal: ServerFacts  # to internal clients
    server_welcome: ServerFacts  # to everybody who connects
    internal_secret: str  # that internal clients know; empty: they are refused
    outbox_bytes: int
    has_mcu: bool
    media_limits: MediaLimits
    clock: Callable[[], float]  # monotonic seconds
    wall_clock: Callable[[], float]  # unix seconds
    entropy: Callable[[int], bytes]
    limits: Limits = field(default_factory=Limits)
    quality: Quality = field(default_factory=Quality)  # of backends that have none of their own
    locate: Callable[[Address], GeoLocation] = lambda address: UNKNOWN  # where an address is (14.3)
    tasks: Tasks = field(default_factory=Tasks)
    throttling: Throttling = field(init=False)

    def __post_init__(self) -> None:
        self.throttling = Throttling(self.clock, self.counters)

    def count_excess(self, limit: str) -> None:
        """Note that a client met a limit, named as in the configuration."""
        self.counters.limits_met[limit] += 1

    def facts_for(self, session: Session) -> ServerFacts:
        """Return what a hello reply says of the server."""
        return self.server_internal if session.is_internal else self.server

    def bandwidth(self, backend: Backend) -> Bandwidth | None:
        """Return the limits that a room reply names (4.1): the least of SFU's, backend's and policy's, unless none."""
        if not self.has_mcu:
            return None
        quality = backend.quality.with_defaults(self.quality)
        stream = smaller(self.media_limits.stream_bitrate, backend.max_stream_bitrate)
        screen = smaller(self.media_limits.screen_bitrate, backend.max_screen_bitrate)
        stream, screen = greatest(quality, stream, screen=False), greatest(quality, screen, screen=True)
        return Bandwidth(stream, screen) if stream or screen else None


def room_request(session: Session, room: str, room_session: str, action: str = "") -> RoomRequest:
    """Make the request to Nextcloud by which a session joins or leaves a room (4.1, 4.2)."""
    actor = session.actor
    return RoomRequest(
        room,
        session.userid,
        room_session,
        action=action,
        actorid="" if actor is None else actor.id,
        actortype="" if actor is None else actor.type,
        version="1.0",
    )


def smaller(*limits: int) -> int:
    """Return the smallest limit that is one; 0 = none."""
    return min((limit for limit in limits if limit > 0), default=0)
