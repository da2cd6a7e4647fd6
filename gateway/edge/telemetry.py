"""Traces over OpenTelemetry: implements ``gateway.tracing.Tracer``; imported only if ``[tracing]`` is enabled.

Source: docs/tracing.md. Ended spans wait in a bounded queue and are sent by a thread, so that a slow or absent
collector blocks nothing; spans beyond the queue are dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span as RecordedSpan
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace import Tracer as OtelTracer

from gateway.limited_log import LimitedLog
from gateway.tracing import Attributes, Span

CLOSE_TIME = 3.0  # seconds that the last spans have to be sent in when the gateway ends
DEFAULT_NAME = "portunus"
TRACES_PATH = "/v1/traces"
DEFAULT_ENDPOINT = "http://localhost:4318"  # of OpenTelemetry's exporter

_ERROR_TYPE = "error.type"  # OpenTelemetry's semantic conventions
_EXPORTER_LOG = "opentelemetry.exporter.otlp.proto.http.trace_exporter"
_QUEUE_LOG = "opentelemetry.sdk._shared_internal"
log = logging.getLogger("portunus.tracing")


class OpenTelemetry:
    """Records traces and sends them to a collector; call ``close`` when done.

    ``endpoint``: base URL of the collector; empty, like an empty ``service_name`` and a ``sample_ratio`` of 1: as the
    variables ``OTEL_…`` say. ``clock`` is monotonic, in seconds.
    """

    def __init__(
        self,
        endpoint: str,
        service_name: str,
        sample_ratio: float,
        version: str,
        clock: Callable[[], float],
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._problems = _CollectorProblems(_collector(endpoint, environ), clock)
        exporter = OTLPSpanExporter(endpoint=_traces_url(endpoint) if endpoint else None)
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(sample_ratio)) if sample_ratio < 1 else None,
            resource=_resource(service_name, version),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("portunus", version)

    def begin(self, name: str, attributes: Attributes | None = None) -> Span:
        """See ``gateway.tracing.Tracer``."""
        return _Span(self._tracer, self._tracer.start_span(name, kind=SpanKind.SERVER, attributes=attributes))

    async def close(self) -> None:
        """Send the spans that wait, within ``CLOSE_TIME``. Idempotent."""
        loop = asyncio.get_running_loop()
        sent = asyncio.Event()

        def send() -> None:
            self._provider.shutdown()
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(sent.set)

        threading.Thread(target=send, name="last traces", daemon=True).start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIME):
                await sent.wait()
        self._problems.remove()


class _Span:
    """Implements ``gateway.tracing.Span``."""

    __slots__ = ("_recorded", "_tracer", "ended")

    def __init__(self, tracer: OtelTracer, recorded: RecordedSpan) -> None:
        self._tracer = tracer
        self._recorded = recorded
        self.ended = False

    @property
    def traceparent(self) -> str:
        context = self._recorded.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def child(self, name: str, attributes: Attributes | None = None, *, remote: bool = False) -> Span:
        kind = SpanKind.CLIENT if remote else SpanKind.INTERNAL
        parent = set_span_in_context(self._recorded)
        return _Span(self._tracer, self._tracer.start_span(name, parent, kind, attributes))

    def set(self, name: str, value: str | int) -> None:
        self._recorded.set_attribute(name, value)

    def event(self, name: str) -> None:
        self._recorded.add_event(name)

    def fail(self, code: str) -> None:
        self._recorded.set_attribute(_ERROR_TYPE, code)
        self._recorded.set_status(Status(StatusCode.ERROR, code))

    def end(self) -> None:
        if not self.ended:
            self.ended = True
            self._recorded.end()


class _CollectorProblems(logging.Handler):
    """Replaces the many log records of OpenTelemetry's exporter and queue by one warning a minute."""

    def __init__(self, collector: str, clock: Callable[[], float]) -> None:
        super().__init__(logging.WARNING)
        self._collector = collector
        self._warnings = LimitedLog(log, clock)
        self._loggers = [logging.getLogger(name) for name in (_EXPORTER_LOG, _QUEUE_LOG)]
        for logger in self._loggers:
            logger.propagate = False
            logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Report spans that are lost; a failure after which the exporter tries again is no problem yet."""
        if record.name == _EXPORTER_LOG and record.levelno < logging.ERROR:
            return
        status = next((value for value in record.args or () if isinstance(value, int)), None)
        reason = "it is away or too slow" if status is None else f"it answers with HTTP status {status}"
        self._warnings.warning(
            "lost", "traces are lost, the collector at %s does not take them: %s", self._collector, reason
        )

    def remove(self) -> None:
        """Leave the records to the log again."""
        for logger in self._loggers:
            logger.removeHandler(self)
            logger.propagate = True


def _traces_url(endpoint: str) -> str:
    base = endpoint.rstrip("/")
    return base if base.endswith(TRACES_PATH) else base + TRACES_PATH


def _collector(endpoint: str, environ: Mapping[str, str]) -> str:
    """Return scheme, host and port of the collector."""
    names = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    url = urlsplit(endpoint or next(filter(None, map(environ.get, names)), DEFAULT_ENDPOINT))
    return f"{url.scheme}://{url.netloc.rpartition('@')[2]}"


def _resource(service_name: str, version: str) -> Resource:
    """Describe this process; the variables ``OTEL_SERVICE_NAME`` and ``OTEL_RESOURCE_ATTRIBUTES`` are read."""
    resource = Resource.create({"service.version": version})
    named = not str(resource.attributes["service.name"]).startswith("unknown_service")
    if service_name or not named:
        resource = resource.merge(Resource({"service.name": service_name or DEFAULT_NAME}))
    return resource
