"""The steps of the doctor, and how they are taken: in order, a step only after those that it needs.

A step that needs a failed one is "not reached", and names it; a step that needs one that was not tried is not tried
either, for the same reason. So the first failed step of a list is a cause, not a consequence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from msgspec import Struct

STEP_TIMEOUT = 30.0  # seconds for one step

State = Literal["ok", "warning", "failed", "not reached", "not tried"]


class Outcome(Struct, frozen=True):
    """What a step found; ``change`` is what to do, or for ``not tried`` what to pass. The texts have no full stop."""

    state: State
    evidence: str = ""
    cause: str = ""
    change: str = ""


class Result(Struct, frozen=True):
    """The outcome of a step by its name, as it is printed."""

    step: str
    state: State
    evidence: str
    cause: str
    change: str


@dataclass(frozen=True, slots=True)
class DoctorStep:
    """One step; ``needs`` are the names of earlier steps whose failure makes this one pointless."""

    name: str
    run: Callable[[], Awaitable[Outcome]]
    needs: tuple[str, ...] = ()


def ok(evidence: str) -> Outcome:
    """Return the outcome of a step that found nothing."""
    return Outcome("ok", evidence)


def warning(cause: str, change: str, evidence: str = "") -> Outcome:
    """Return the outcome of a step that found something that need not prevent calls."""
    return Outcome("warning", evidence, cause, change)


def failed(cause: str, change: str, evidence: str = "") -> Outcome:
    """Return the outcome of a step that found why calls, or some of them, cannot work."""
    return Outcome("failed", evidence, cause, change)


def not_tried(change: str) -> Outcome:
    """Return the outcome of a step that lacks something; ``change`` says what to pass."""
    return Outcome("not tried", change=change)


async def take(steps: Iterable[DoctorStep], on_result: Callable[[Result], None] = lambda result: None) -> list[Result]:
    """Take the steps one after another; ``on_result`` is called after each one.

    A step that is not finished after ``STEP_TIMEOUT`` seconds has failed.
    """
    outcomes: dict[str, Outcome] = {}
    results = []
    for step in steps:
        outcome = outcomes[step.name] = _prevented(step, outcomes) or await _within_limit(step)
        results.append(Result(step.name, outcome.state, outcome.evidence, outcome.cause, outcome.change))
        on_result(results[-1])
    return results


def _prevented(step: DoctorStep, outcomes: dict[str, Outcome]) -> Outcome | None:
    """Return the outcome of a step whose needs are not met; ``None``: it can be taken."""
    needed = [(name, outcomes[name]) for name in step.needs]
    for name, outcome in needed:
        if outcome.state == "failed":
            return Outcome("not reached", cause=f"because of: {name}")
        if outcome.state == "not reached":
            return outcome
    return next((outcome for _, outcome in needed if outcome.state == "not tried"), None)


async def _within_limit(step: DoctorStep) -> Outcome:
    try:
        async with asyncio.timeout(STEP_TIMEOUT):
            return await step.run()
    except TimeoutError:
        change = "see whether the server, its proxy or a firewall in between holds requests back, and their logs"
        return failed(f"it was not finished within {STEP_TIMEOUT:g} s", change)
