"""A tracer that keeps the spans as trees, for tests of the flows."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.tracing import Attributes


@dataclass(eq=False)
class RecordedSpan:
    """A span with its parts; ``error`` is empty if it has not failed."""

    name: str
    attributes: dict[str, str | int] = field(default_factory=dict)
    parts: list[RecordedSpan] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    error: str = ""
    ended: bool = False
    traceparent: str = "00-1-2-01"

    def child(self, name: str, attributes: Attributes | None = None, *, remote: bool = False) -> RecordedSpan:
        assert not self.ended, f"{name} begins in {self.name}, which has ended"
        part = RecordedSpan(name, dict(attributes or {}))
        self.parts.append(part)
        return part

    def set(self, name: str, value: str | int) -> None:
        assert not self.ended
        self.attributes[name] = value

    def event(self, name: str) -> None:
        assert not self.ended
        self.events.append(name)

    def fail(self, code: str) -> None:
        assert not self.ended
        self.error = code

    def end(self) -> None:
        self.ended = True

    def lines(self, indent: str = "") -> list[str]:
        """Return the tree as text: names, events, errors, and whether a span still runs."""
        marks = [*self.events, *([f"error {self.error}"] if self.error else []), *([] if self.ended else ["runs"])]
        own = f"{indent}{self.name}" + (f": {', '.join(marks)}" if marks else "")
        return [own, *(line for part in self.parts for line in part.lines(indent + "  "))]


@dataclass
class RecordedTraces:
    """Implements ``gateway.tracing.Tracer``."""

    spans: list[RecordedSpan] = field(default_factory=list)

    def begin(self, name: str, attributes: Attributes | None = None) -> RecordedSpan:
        self.spans.append(RecordedSpan(name, dict(attributes or {})))
        return self.spans[-1]

    async def close(self) -> None:
        """Do nothing."""

    def lines(self, name: str) -> list[str]:
        """Return the trees of all traces with a name."""
        return [line for span in self.spans if span.name == name for line in span.lines()]
