"""The interface of traces, and the span of the operation that runs now; nothing here depends on OpenTelemetry.

Source: docs/tracing.md. While traces are off there is no tracer and no current span, so that each place that could
begin a span costs one comparison. Names and attributes consist of words of this program, numbers, ids of backends and
short ids: no address, description, token or text of a client (invariant 7).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, TypeAlias

Attributes: TypeAlias = Mapping[str, str | int]


class Span(Protocol):
    """One timed operation of a trace."""

    @property
    def ended(self) -> bool:
        """Whether ``end`` was called."""

    @property
    def traceparent(self) -> str:
        """The header that hands the trace on to another server (W3C Trace Context)."""

    def child(self, name: str, attributes: Attributes | None = None, *, remote: bool = False) -> Span:
        """Begin an operation that is a part of this one; ``remote``: it is a request to another server."""

    def set(self, name: str, value: str | int) -> None:
        """Set an attribute."""

    def event(self, name: str) -> None:
        """Record a named event at the present time."""

    def fail(self, code: str) -> None:
        """Set the status to an error with this code."""

    def end(self) -> None:
        """End the operation. Idempotent."""


class Tracer(Protocol):
    """Begins traces, and exports the spans that have ended."""

    def begin(self, name: str, attributes: Attributes | None = None) -> Span:
        """Begin a trace with its first span; the caller ends the span."""

    async def close(self) -> None:
        """Export the spans that wait, within a few seconds. Idempotent."""


_current: ContextVar[Span | None] = ContextVar("span", default=None)


def current_span() -> Span | None:
    """Return the span of the operation that runs in this context; ``None``: there is none, or it has ended."""
    span = _current.get()
    return None if span is None or span.ended else span


@contextmanager
def running(span: Span, code_of: Callable[[BaseException], str]) -> Iterator[Span]:
    """Make a span the current one while the block runs, and end it.

    An exception sets the span's status to the error code that ``code_of`` returns.
    """
    token = _current.set(span)
    try:
        yield span
    except BaseException as error:
        span.fail(code_of(error))
        raise
    finally:
        _current.reset(token)
        span.end()
