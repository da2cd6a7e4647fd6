"""Objects write only attributes of their own, and the quality controller uses publications by a protocol only."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import gateway.flows.media
from gateway.core.session import Session
from gateway.flows.media.session_stream import stream_key
from mcu.base import (
    CloseReason,
    IceCandidate,
    MediaKind,
    Publisher,
    PublishOptions,
    StreamKey,
    StreamType,
    TransportState,
)
from sdp.codecs import CodecPreference
from sdp.document import Description, parse
from tests.gateway.flows.media.descriptions import ANSWER, offer
from tests.gateway.flows.media.fake_mcu import FakePublisher
from tests.gateway.flows.media.quality_calls import ROOM, SETTLE_TIME, backend_with, harness_with

MODULES = sorted(Path(gateway.flows.media.__path__[0]).glob("*.py"))


def foreign_writes(source: str) -> Iterator[str]:
    """Yield the assignments to, and deletions of, attributes of other objects than ``self``."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
            yield from () if ast.unparse(node.value) == "self" else (ast.unparse(node),)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("setattr", "object.__setattr__", "delattr"):
            yield ast.unparse(node)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_attributes_are_written_by_their_own_object(path: Path) -> None:
    assert list(foreign_writes(path.read_text())) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("publication.plan = plan", ["publication.plan"]),
        ("self.room, decision.stream.limit = None, 1", ["decision.stream.limit"]),
        ("records[key].plan = None", ["records[key].plan"]),
        ("del stream.plan", ["stream.plan"]),
        ("setattr(stream, 'plan', None)", ["setattr(stream, 'plan', None)"]),
        ("self._record.plan = None", ["self._record.plan"]),
        ("self._publisher = None", []),
    ],
)
def test_foreign_write_is_found(source: str, found: list[str]) -> None:
    assert list(foreign_writes(source)) == found


class NullListener:
    """Ignores all events of a stream."""

    def on_candidate(self, candidate: IceCandidate | None) -> None: ...

    def on_offer(self, offer: Description) -> None: ...

    def on_media(self, kind: MediaKind, flowing: bool) -> None: ...

    def on_transport(self, state: TransportState) -> None: ...

    def on_closed(self, reason: CloseReason) -> None: ...


@dataclass
class PlainStream:
    """A published stream that has the members of ``PublishedStream`` and no others."""

    session: Session
    key: StreamKey
    publisher: Publisher | None
    stream_type: StreamType = StreamType.VIDEO
    requested_bitrate: int = 0
    bitrate_limit: int = 0
    ceiling: int = 0


async def test_quality_limits_any_published_stream() -> None:
    async with harness_with(room_budget=400_000) as harness:
        alice = await harness.member("alice", backend=backend_with())
        quality, key = harness.media.quality, stream_key(alice.session, alice.session.id, StreamType.VIDEO)
        publisher = FakePublisher(harness.mcu, key, offer(), PublishOptions(), NullListener())
        stream = PlainStream(alice.session, key, publisher)
        plan = quality.plan_codecs(stream, parse(offer()), CodecPreference(), renegotiation=False)
        quality.stream_published(stream, plan, parse(ANSWER))
        await asyncio.sleep(SETTLE_TIME)
        assert publisher.limits == [400_000]
        assert [decision.stream for decision in quality.explain(ROOM)] == [stream]
        quality.stream_unpublished(stream)
        assert quality.explain(ROOM) == []
