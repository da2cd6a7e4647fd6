"""The document of ``/readyz``: whether calls can be served, and the state of each server that they need.

Source: docs/operations.md, "Readiness". A gateway is unready only if none of its SFUs takes streams, or while it
drains: a load balancer then chooses another gateway. A backend never makes it unready: other gateways would not reach
that backend either, and the sessions of other backends need this gateway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from gateway.core.limits import Backend
from mcu.base import McuStatus, SfuState, SfuStatus

NO_SFU = (
    'no SFU is configured (mcu.type is "none"): clients send audio and video directly to each other, which fails'
    " between many networks and in large calls"
)


class DependencyState(Enum):
    """The state of an SFU or a backend, or of the whole gateway."""

    OK = "ok"
    DEGRADED = "degraded"  # works in part
    AWAY = "away"  # does not work


@dataclass(frozen=True, slots=True)
class Dependency:
    """An SFU or a backend; ``reason`` is one sentence unless the state is OK."""

    name: str  # "sfu", "sfu Janus 2", "backend cloud"
    state: DependencyState = DependencyState.OK
    reason: str = ""
    url: str = ""

    def document(self) -> dict[str, str]:
        """Return the entry of the JSON document, without empty members."""
        members = {"name": self.name, "url": self.url, "state": self.state.value, "reason": self.reason}
        return {name: value for name, value in members.items() if value}


class LastFailure(Protocol):
    """The reason why the last signed request to a backend failed."""

    @property
    def answered(self) -> bool:
        """Whether the backend was reached."""

    @property
    def reason(self) -> str:
        """One sentence."""


@dataclass(frozen=True, slots=True)
class Readiness:
    """The states of all dependencies; ``serving``: whether new calls can be served.

    ``draining``: the gateway accepts no new sessions, because it is about to end.
    """

    serving: bool
    dependencies: tuple[Dependency, ...]
    draining: bool = False

    @property
    def state(self) -> DependencyState:
        """The state of the gateway: AWAY if it cannot serve calls."""
        if not self.serving:
            return DependencyState.AWAY
        works = all(dependency.state is DependencyState.OK for dependency in self.dependencies)
        return DependencyState.OK if works else DependencyState.DEGRADED

    def document(self, *, complete: bool) -> dict[str, Any]:
        """Return the body; without ``complete`` no dependencies, since URLs and reasons are for the operator."""
        state: dict[str, Any] = {"state": self.state.value}
        if self.draining:
            state["draining"] = True
        if complete:
            state["dependencies"] = [dependency.document() for dependency in self.dependencies]
        return state


def readiness(
    mcu: McuStatus | None,
    backends: Iterable[Backend],
    problem: Callable[[Backend], LastFailure | None],
    *,
    draining: bool = False,
) -> Readiness:
    """Return the present readiness; ``mcu`` is ``None`` if no SFU is configured."""
    sfus = _sfus(mcu)
    dependencies = (*sfus, *(_backend(backend, problem(backend)) for backend in backends))
    return Readiness((mcu is None or mcu.ready) and not draining, dependencies, draining)


def _sfus(mcu: McuStatus | None) -> list[Dependency]:
    if mcu is None:
        return [Dependency("sfu", DependencyState.DEGRADED, NO_SFU)]
    return [_sfu(sfu) for sfu in mcu.sfus]


def _sfu(sfu: SfuStatus) -> Dependency:
    name = f"sfu {sfu.log_name}" if sfu.log_name else "sfu"
    if sfu.state is SfuState.READY:
        state = DependencyState.DEGRADED if sfu.restriction else DependencyState.OK
        return Dependency(name, state, sfu.restriction, sfu.url)
    state = DependencyState.DEGRADED if sfu.state is SfuState.DRAINING else DependencyState.AWAY
    return Dependency(name, state, sfu.reason or sfu.state.value, sfu.url)


def _backend(backend: Backend, problem: LastFailure | None) -> Dependency:
    name, url = f"backend {backend.id}", backend.urls[0] if backend.urls else ""
    if problem is None:
        return Dependency(name, url=url)
    state = DependencyState.DEGRADED if problem.answered else DependencyState.AWAY
    return Dependency(name, state, problem.reason, url)
