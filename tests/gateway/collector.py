"""A collector of traces: receives OTLP over HTTP as protobuf, and keeps the spans."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

LIMIT = 60.0  # seconds; spans arrive within a fraction of one
ERROR = 2  # of the status code


@dataclass(frozen=True)
class ReceivedSpan:
    """One span, with its ids as hexadecimal text."""

    name: str
    trace: str
    id: str
    parent: str  # empty: the first span of its trace
    attributes: dict[str, Any]
    events: list[str]
    error: str  # the description of a status that is an error
    begin: int  # ns
    end: int


@dataclass
class Collector:
    """The spans that have arrived, and the resource and headers of the last request."""

    url: str = ""
    spans: list[ReceivedSpan] = field(default_factory=list)
    resource: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    requests: int = 0
    texts: list[str] = field(default_factory=list)  # of the requests
    status: int = 200
    _arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def receive(self, request: web.Request) -> web.Response:
        """Decode one request."""
        body = await request.read()
        message = ExportTraceServiceRequest()
        message.ParseFromString(gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body)
        async with self._arrived:
            self.requests += 1
            self.headers = dict(request.headers)
            self.texts.append(str(message))
            if self.status == 200:
                for resource_spans in message.resource_spans:
                    self.resource = _values(resource_spans.resource.attributes)
                    for scope in resource_spans.scope_spans:
                        self.spans += map(_span, scope.spans)
            self._arrived.notify_all()
        return web.Response(status=self.status, content_type="application/x-protobuf")

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds; it is checked after each request."""
        async with asyncio.timeout(LIMIT), self._arrived:
            await self._arrived.wait_for(condition)

    async def tree(self, root: str) -> Node:
        """Wait for the first span of a trace, by its name, and return its tree: a parent ends after its children."""
        await self.until(lambda: any(span.name == root and not span.parent for span in self.spans))
        (span,) = [span for span in self.spans if span.name == root and not span.parent]
        return self.node(span)

    def node(self, span: ReceivedSpan) -> Node:
        """Return the tree below a span, in the order of the begin."""
        parts = sorted((part for part in self.spans if part.parent == span.id), key=lambda part: part.begin)
        assert all(part.trace == span.trace for part in parts)
        return Node(span, [self.node(part) for part in parts])


@dataclass
class Node:
    """A span with its parts."""

    span: ReceivedSpan
    parts: list[Node]

    @property
    def names(self) -> list[str]:
        """The names of the parts."""
        return [part.span.name for part in self.parts]

    def part(self, *path: str) -> Node:
        """Return the part at the end of a path of names."""
        node = self
        for name in path:
            (node,) = [part for part in node.parts if part.span.name == name]
        return node


@asynccontextmanager
async def collector() -> AsyncIterator[Collector]:
    """Run a collector on a free port."""
    received = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", received.receive)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    received.url = f"http://{host}:{port}"
    try:
        yield received
    finally:
        await runner.cleanup()


def _span(span: Any) -> ReceivedSpan:
    return ReceivedSpan(
        name=span.name,
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        attributes=_values(span.attributes),
        events=[event.name for event in span.events],
        error=span.status.message if span.status.code == ERROR else "",
        begin=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
    )


def _values(attributes: Any) -> dict[str, Any]:
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in attributes}
