"""The state, ports and settings that all flows of one gateway share."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.core.backends import Backends
from gateway.core.drain import Drain
from gateway.core.geolocation import UNKNOWN_COUNTRY, GeoLocation
from gateway.core.hub import Hub
from gateway.core.ids import SessionIds
from gateway.core.limits import Backend
from gateway.core.policy import max_bitrate
from gateway.core.relayed_backlog import RelayedBacklog
from gateway.core.session import Session
from gateway.core.throttle import Address
from gateway.flows.backend_turns import BackendTurns
from gateway.flows.call_log import CallLog
from gateway.flows.call_recorder import CallRecorder
from gateway.flows.call_traces import CallTraces
from gateway.flows.delivery import Delivery
from gateway.flows.end_requests import EndRequests
from gateway.flows.ports import FlowCounters, Nextcloud, RemoteServers
from gateway.flows.refusals import Refusals
from gateway.flows.settings import FlowSettings
from gateway.flows.tasks import Tasks
from gateway.flows.throttling import Throttling
from gateway.limited_log import LimitedLog
from gateway.tracing import Tracer
from gateway.wire.backend import RoomRequest
from gateway.wire.server import Bandwidth, ServerInfo
from mcu.base import Mcu

log = logging.getLogger("portunus.flows")


@dataclass(slots=True)
class Services:
    """State, ports and settings of the flows; one per gateway.

    Only ``settings`` is ever replaced; a flow that awaits reads it again afterwards.
    """

    settings: FlowSettings
    nextcloud: Nextcloud
    mcu: Mcu | None  # None: no SFU is configured, and media messages are relayed between clients
    counters: FlowCounters
    ids: SessionIds
    server: ServerInfo  # announced to clients
    server_internal: ServerInfo  # announced to internal clients
    server_welcome: ServerInfo  # announced on each new connection
    outbox_bytes: int
    clock: Callable[[], float]  # monotonic seconds
    wall_clock: Callable[[], float]  # unix seconds
    entropy: Callable[[int], bytes]
    remote_servers: RemoteServers | None = None  # None: clients cannot join rooms of other servers
    nextcloud_places: int = 8  # simultaneous requests to one backend
    nextcloud_timeout: float = 10.0  # seconds for a request to Nextcloud
    locate: Callable[[Address], GeoLocation] = lambda address: UNKNOWN_COUNTRY  # country of an address (14.3)
    tracer: Tracer | None = None  # None: there are no traces
    hub: Hub = field(default_factory=Hub)
    relayed_backlog: RelayedBacklog = field(default_factory=RelayedBacklog)
    drain: Drain = field(default_factory=Drain)
    tasks: Tasks = field(default_factory=Tasks)
    end_requests: EndRequests = field(default_factory=EndRequests)
    delivery: Delivery = field(init=False)
    refusals: Refusals = field(init=False)
    throttling: Throttling = field(init=False)
    backend_turns: BackendTurns = field(init=False)
    calls: CallLog = field(init=False)
    traces: CallTraces | None = field(init=False)
    warnings: LimitedLog = field(init=False)  # for records that clients can cause

    def __post_init__(self) -> None:
        self.warnings = LimitedLog(log, self.clock)
        self.calls = CallLog(self.ids, self.wall_clock, CallRecorder())
        self.traces = None if self.tracer is None else CallTraces(self.tracer, self.calls)
        self.delivery = Delivery(self.end_requests, self._count_full_outbox)
        self.refusals = Refusals(self.clock, self.counters)
        self.throttling = Throttling(self.clock, self.counters, self.refusals.blocked_address)
        self.backend_turns = BackendTurns(self.nextcloud_places, self.nextcloud_timeout / 2, self.clock)

    @property
    def backends(self) -> Backends:
        """The backends as they are configured now."""
        return self.settings.backends

    def count_excess(self, limit: str) -> None:
        """Count and log that a client has reached the limit of this name in the configuration."""
        self.counters.limits_met[limit] += 1
        self.refusals.limit(limit)

    def _count_full_outbox(self) -> None:
        self.counters.limits_met["outbox_bytes"] += 1  # logged when the session ends

    def server_info_for(self, session: Session) -> ServerInfo:
        """Return the server's name and features for a hello reply."""
        return self.server_internal if session.is_internal else self.server

    def bandwidth(self, backend: Backend) -> Bandwidth | None:
        """Return the bitrate limits for a room reply (4.1): the least of SFU, backend and policy.

        ``None``: there is no limit, or no SFU.
        """
        if self.mcu is None:
            return None
        settings = self.settings
        quality, limits = backend.quality.with_defaults(settings.quality), settings.media_limits
        stream = smaller(limits.stream_bitrate, backend.max_stream_bitrate)
        screen = smaller(limits.screen_bitrate, backend.max_screen_bitrate)
        stream, screen = max_bitrate(quality, stream, screen=False), max_bitrate(quality, screen, screen=True)
        return Bandwidth(stream, screen) if stream or screen else None


def room_request(session: Session, room: str, room_session: str, action: str = "") -> RoomRequest:
    """Return the request to Nextcloud with which a session joins or leaves a room (4.1, 4.2)."""
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
    """Return the smallest limit that is set; 0 = none."""
    return min((limit for limit in limits if limit > 0), default=0)
