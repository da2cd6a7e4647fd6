"""Time limits of requests to Janus, in virtual time over real sockets (reference 9.8; docs/janus.md)."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from mcu.base import McuLost, McuTimeout, PublishOptions
from mcu.janus.backend import JanusMcu
from mcu.janus.connection.back_off import QUICK_PERIOD, STEADY_PERIOD, back_off
from mcu.janus.settings import JanusServerSettings
from tests.gateway.flows.virtual_time import VirtualLoop
from tests.mcu.descriptions import parse_frozen
from tests.mcu.janus.conftest import CAMERA, RecordedStates, WaitableListener
from tests.mcu.janus.fake_janus import OFFER, FakeJanus

TIMEOUT = 10.0  # seconds: the default
TOLERANCE = 0.5  # seconds that the sockets may take


def in_virtual_time(scenario: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await scenario()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())


def now() -> float:
    return asyncio.get_running_loop().time()


class TimedFakeJanus(FakeJanus):
    """A fake Janus that records the time of each request."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[tuple[str, float]] = []

    def _default_answer(self, janus: str) -> dict[str, Any] | None:
        self.times.append((janus, now()))
        return super()._default_answer(janus)

    def times_of(self, janus: str) -> list[float]:
        return [time for name, time in self.times if name == janus]


# reference 9.8-b
def test_janus_gets_a_keepalive_every_3_seconds() -> None:
    async def scenario() -> None:
        states = RecordedStates()
        async with (janus := TimedFakeJanus()):
            mcu = JanusMcu((JanusServerSettings(janus.url),), timeout=TIMEOUT, clock=now)
            await mcu.start(states)
            await states.until(lambda status: status.ready)
            start = now()
            await asyncio.sleep(15.5)
            assert [time - start for time in janus.times_of("keepalive")] == pytest.approx(
                [3, 6, 9, 12, 15], abs=TOLERANCE
            )
            await mcu.stop()

    in_virtual_time(scenario)


# reference 9.8-a
def test_a_request_that_janus_does_not_answer_fails_after_10_seconds() -> None:
    async def scenario() -> None:
        states = RecordedStates()
        async with (janus := TimedFakeJanus()):
            mcu = JanusMcu((JanusServerSettings(janus.url),), timeout=TIMEOUT, clock=now)
            await mcu.start(states)
            await states.until(lambda status: status.ready)
            janus.answers["attach"] = None
            start = now()
            with pytest.raises((McuTimeout, McuLost)):
                await mcu.publish(CAMERA, parse_frozen(OFFER), PublishOptions(), WaitableListener())
            assert now() - start == pytest.approx(10, abs=TOLERANCE)
            await mcu.stop()

    in_virtual_time(scenario)


# reference 9.8-a
def test_the_gateway_connects_again_to_a_janus_that_refuses_it_after_1_to_16_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mcu.janus.connection.connector.random.random", lambda: 0.5)  # no jitter

    async def scenario() -> None:
        async with (janus := TimedFakeJanus()):
            janus.answers["create"] = {"janus": "error", "error": {"code": 403, "reason": "no"}}
            mcu = JanusMcu((JanusServerSettings(janus.url),), timeout=TIMEOUT, clock=now)
            await mcu.start(RecordedStates())
            await asyncio.sleep(66)
            times = janus.times_of("create")
            pauses = [after - before for before, after in itertools.pairwise(times)]
            assert pauses == pytest.approx([1, 2, 4, 8, 16, 16, 16], abs=TOLERANCE)
            await mcu.stop()

    in_virtual_time(scenario)


def test_the_gateway_connects_to_a_janus_unreachable_for_long_every_16_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcu.janus.connection.connector.random.random", lambda: 0.5)

    async def scenario() -> None:
        times: list[float] = []
        with socket.socket() as taken:  # bound, but not listening
            taken.bind(("127.0.0.1", 0))
            mcu = JanusMcu(
                (JanusServerSettings(f"ws://127.0.0.1:{taken.getsockname()[1]}"),), timeout=TIMEOUT, clock=now
            )
            monkeypatch.setattr("mcu.janus.connection.connector.back_off", recording(back_off, times))
            await mcu.start(RecordedStates())
            start = now()
            await asyncio.sleep(QUICK_PERIOD + STEADY_PERIOD + 100)
            late = [time - start for time in times if time - start > STEADY_PERIOD + 16]
            pauses = [after - before for before, after in itertools.pairwise(late)]
            assert pauses == pytest.approx([16] * len(pauses), abs=TOLERANCE)
            assert len(pauses) > 2
            await mcu.stop()

    in_virtual_time(scenario)


def recording(
    back_off_of: Callable[[float, int, float], float], times: list[float]
) -> Callable[[float, int, float], float]:
    """Record the time of each failed attempt, when its pause begins."""

    def recorded(away: float, refusals: int, jitter: float) -> float:
        times.append(now())
        return back_off_of(away, refusals, jitter)

    return recorded
