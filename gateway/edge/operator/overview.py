"""A gateway's statistics, readiness and gauges, computed on request (reference 1.3, 14.5)."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from gateway.core.limits import Backend
from gateway.core.virtual import VIRTUAL_CLIENT_TYPE
from gateway.edge.operator.readiness import LastFailure, Readiness, readiness
from gateway.flows.media.signaling import MediaSignaling
from gateway.flows.services import Services
from gateway.metrics import Gauges
from mcu.base import Mcu, McuStatus, SfuState


class Overview:
    """Computes figures about sessions, rooms, streams and SFUs on each call; holds no state of its own.

    ``problem`` returns the reason for which the last request to a backend failed.
    """

    def __init__(
        self,
        services: Services,
        media: MediaSignaling,
        mcu: Mcu | None,
        problem: Callable[[Backend], LastFailure | None] = lambda backend: None,
    ) -> None:
        self._services = services
        self._media = media
        self._mcu = mcu
        self._problem = problem

    def sfu_status(self) -> McuStatus | None:
        """Return a snapshot of the SFUs, or ``None`` if no SFU is configured."""
        return None if self._mcu is None else self._mcu.status()

    def readiness(self) -> Readiness:
        """Return whether calls can be served, and the state of each SFU and backend."""
        services = self._services
        return readiness(self.sfu_status(), services.backends, self._problem, draining=services.drain.active)

    @property
    def open_streams(self) -> tuple[int, int]:
        """The number of publications and of subscriptions."""
        return self._media.open_streams

    def refused(self) -> dict[str, int]:
        """Return how many clients and requests were refused since the start, by cause and backend, or limit."""
        counters = self._services.counters
        found = {
            f"{cause} of {backend}" if backend else cause: count
            for (backend, cause), count in counters.authentication_failures.items()
        }
        found |= {f"session_limit of {backend}": count for backend, count in counters.limit_exceeded.items()}
        return found | {f"limits.{limit}": count for limit, count in counters.limits_met.items()}

    def stats(self) -> dict[str, Any]:
        """Return the body of ``/api/v1/stats`` (1.3)."""
        hub, status = self._services.hub, self.sfu_status()
        stats: dict[str, Any] = {"rooms": len(hub.rooms), "sessions": len(hub.sessions) + len(hub.virtuals)}
        if status is not None:
            publishers, subscribers = self._media.open_streams
            first = status.sfus[0]
            stats["mcu"] = {
                "url": first.url,
                "connected": status.ready,
                "publishers": publishers,
                "clients": publishers + subscribers,
            }
            if first.connected_since:
                since = datetime.fromtimestamp(first.connected_since, UTC)
                stats["mcu"]["uptime"] = since.isoformat(timespec="seconds")
        return stats

    def gauges(self, connections: Callable[[], Mapping[str, int]]) -> Gauges:
        """Return the gauges for the metrics; ``connections`` counts the connections to backends by host."""
        services, media, mcu = self._services, self._media, self._mcu
        hub = services.hub
        return Gauges(
            rooms=lambda: Tally(key.backend for key in hub.rooms),
            sessions=self._sessions,
            room_sessions=lambda: self._members(of_call=False),
            call_sessions=lambda: self._members(of_call=True),
            backends=lambda: len(services.backends),
            session_limits=lambda: {
                backend.id: backend.session_limit for backend in services.backends if backend.session_limit
            },
            publishers=lambda: Tally(media.publication_types()),
            subscribers=lambda: Tally(media.subscription_types()),
            connections=connections,
            sfu_metrics=lambda: () if mcu is None else mcu.metrics(),
            sfus=self._sfus_up,
            throttled=services.throttling.blocked_addresses,
            draining=lambda: services.drain.active,
            drain_sessions=lambda: services.drain.count(hub) if services.drain.active else 0,
        )

    def _sfus_up(self) -> Mapping[str, int]:
        status = self.sfu_status()
        if status is None:
            return {}
        return {sfu.url or status.type: int(sfu.state is SfuState.READY) for sfu in status.sfus}

    def _sessions(self) -> Mapping[tuple[str, str], int]:
        hub = self._services.hub
        real = Tally((session.backend.id, session.client_type.value) for session in hub.sessions.values())
        return real + Tally((virtual.owner.backend.id, VIRTUAL_CLIENT_TYPE) for virtual in hub.virtuals.values())

    def _members(self, of_call: bool) -> Mapping[tuple[str, str, str], int]:
        found: Tally[tuple[str, str, str]] = Tally()
        for key, room in self._services.hub.rooms.items():
            ids = room.in_call if of_call else room.members
            found.update((*key, room.members[id].client_type.value) for id in ids)
            found.update(
                (*key, VIRTUAL_CLIENT_TYPE) for virtual in room.virtuals.values() if virtual.in_call or not of_call
            )
        return found
