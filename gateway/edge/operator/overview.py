"""A gateway's statistics, readiness and gauges, computed on request (reference 1.3, 14.5)."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from gateway.core.virtual import VIRTUAL
from gateway.flows.media.signaling import MediaSignaling
from gateway.flows.services import Services
from gateway.metrics import Gauges
from mcu.base import Mcu, McuStatus, SfuState, SfuStatus


class Overview:
    """Computes figures about sessions, rooms, streams and SFUs on each call; holds no state of its own."""

    def __init__(self, services: Services, media: MediaSignaling, mcu: Mcu | None) -> None:
        self._services = services
        self._media = media
        self._mcu = mcu

    def sfu_status(self) -> McuStatus | None:
        """Return a snapshot of the SFUs, or ``None`` if no SFU is configured."""
        return None if self._mcu is None else self._mcu.status()

    def not_ready(self) -> str:
        """Return the reason why the gateway cannot serve calls; empty if it can."""
        status = self.sfu_status()
        if status is None or status.ready:
            return ""
        sfus = status.sfus
        return _reasons(sfus) if len(sfus) > 1 else sfus[0].reason or sfus[0].state.value

    def warnings(self) -> str:
        """Return the names of SFUs that accept no streams or have a restriction, with reasons; empty if all work."""
        return restrictions(self._sfus())

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
        )

    def _sfus(self) -> tuple[SfuStatus, ...]:
        status = self.sfu_status()
        return () if status is None else status.sfus

    def _sfus_up(self) -> Mapping[str, int]:
        status = self.sfu_status()
        if status is None:
            return {}
        return {sfu.url or status.type: int(sfu.state is SfuState.READY) for sfu in status.sfus}

    def _sessions(self) -> Mapping[tuple[str, str], int]:
        hub = self._services.hub
        real = Tally((session.backend.id, session.client_type.value) for session in hub.sessions.values())
        return real + Tally((virtual.owner.backend.id, VIRTUAL) for virtual in hub.virtuals.values())

    def _members(self, of_call: bool) -> Mapping[tuple[str, str, str], int]:
        found: Tally[tuple[str, str, str]] = Tally()
        for key, room in self._services.hub.rooms.items():
            ids = room.in_call if of_call else room.members
            found.update((*key, room.members[id].client_type.value) for id in ids)
            found.update((*key, VIRTUAL) for virtual in room.virtuals.values() if virtual.in_call or not of_call)
        return found


def restrictions(sfus: Sequence[SfuStatus]) -> str:
    """Return the names of SFUs that accept no streams or have a restriction, with reasons; empty if all work."""
    away = [sfu for sfu in sfus if sfu.state is not SfuState.READY]
    parts = [f"{len(away)} of {len(sfus)} SFUs take no streams: {_reasons(away)}"] if away else []
    restricted = [sfu for sfu in sfus if sfu.restriction]
    parts += [f"{_name(sfu)}: {sfu.restriction}" if len(sfus) > 1 else sfu.restriction for sfu in restricted]
    return "; ".join(parts)


def _reasons(sfus: Iterable[SfuStatus]) -> str:
    return "; ".join(f"{_name(sfu)}: {sfu.reason or sfu.state.value}" for sfu in sfus)


def _name(sfu: SfuStatus) -> str:
    """Return an SFU's name in the log and its URL, which the log must not contain."""
    return f"{sfu.log_name}, {sfu.url}" if sfu.log_name else sfu.url
