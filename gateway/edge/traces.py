"""Creates the tracer of the configuration, and imports OpenTelemetry only if traces are enabled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from gateway.tracing import Tracer


class TracingSettings(Protocol):
    """The section ``[tracing]`` of the configuration."""

    @property
    def enabled(self) -> bool:
        """Whether there are traces."""

    @property
    def endpoint(self) -> str:
        """The base URL of the collector; empty: the variables ``OTEL_…`` or OpenTelemetry's default."""

    @property
    def service_name(self) -> str:
        """The name of the service; empty: the variables ``OTEL_…``, or "portunus"."""

    @property
    def sample_ratio(self) -> float:
        """The part of the traces that is recorded; 1: the variables ``OTEL_…``, or all."""


def create_tracer(settings: TracingSettings, version: str, clock: Callable[[], float]) -> Tracer | None:
    """Return a tracer, whose ``close`` the caller awaits, or ``None``; ``clock`` is monotonic, in seconds."""
    if not settings.enabled:
        return None
    from gateway.edge.telemetry import OpenTelemetry

    return OpenTelemetry(settings.endpoint, settings.service_name, settings.sample_ratio, version, clock)
