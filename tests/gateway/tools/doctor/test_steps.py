"""Steps of the doctor: which ones run, and the states of the others."""

from __future__ import annotations

import asyncio

import pytest

from gateway.tools.doctor import steps
from gateway.tools.doctor.steps import DoctorStep, Outcome, Result, failed, not_tried, ok, run_steps, warning


def step(name: str, outcome: Outcome, *needs: str) -> DoctorStep:
    async def run() -> Outcome:
        return outcome

    return DoctorStep(name, run, needs)


async def test_step_that_needs_a_failed_one_is_not_reached() -> None:
    bad = failed("no answer", "start the server")
    reported: list[Result] = []
    given = [step("a", bad), step("b", ok("fine"), "a"), step("c", ok("fine"), "b"), step("d", ok("fine"))]
    results = await run_steps(given, reported.append)
    assert [result.state for result in results] == ["failed", "not reached", "not reached", "ok"]
    assert [result.cause for result in results] == ["no answer", "because of: a", "because of: a", ""]
    assert reported == results


async def test_step_that_needs_an_untried_step_is_not_tried() -> None:
    results = await run_steps([step("a", not_tried("-c FILE")), step("b", ok("fine"), "a")])
    assert [(result.state, result.change) for result in results] == [("not tried", "-c FILE")] * 2


async def test_failed_step_is_named_before_an_untried_step() -> None:
    given = [step("a", not_tried("-c FILE")), step("b", failed("no answer", "wait")), step("c", ok("fine"), "a", "b")]
    assert (await run_steps(given))[-1].cause == "because of: b"


async def test_step_that_needs_one_with_a_warning_runs() -> None:
    results = await run_steps([step("a", warning("it expires soon", "renew it")), step("b", ok("fine"), "a")])
    assert [result.state for result in results] == ["warning", "ok"]


async def test_step_that_does_not_end_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "STEP_TIMEOUT", 0.01)

    async def never() -> Outcome:
        await asyncio.Event().wait()
        raise AssertionError

    results = await run_steps([DoctorStep("a", never), step("b", ok("fine"), "a")])
    assert [result.state for result in results] == ["failed", "not reached"]
    assert "not finished within 0.01 s" in results[0].cause
