"""The steps of the doctor, and their execution in order, each only after the steps that it needs.

A step that needs a failed step is "not reached", and its outcome names the failed step. A step that needs a step that
was "not tried" is not tried either, and has the same outcome. So each failed step is a cause, not a consequence.
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
    """The outcome of a step; ``change``: remedy, or for ``not tried`` an option to pass. Texts have no full stop."""

    state: State
    evidence: str = ""
    cause: str = ""
    change: str = ""


class Result(Struct, frozen=True):
    """The outcome of a step, and its name, as the command prints them."""

    step: str
    state: State
    evidence: str
    cause: str
    change: str


@dataclass(frozen=True, slots=True)
class DoctorStep:
    """One step; it runs only if each of the earlier steps named in ``needs`` ended with ``ok`` or ``warning``."""

    name: str
    run: Callable[[], Awaitable[Outcome]]
    needs: tuple[str, ...] = ()


def ok(evidence: str) -> Outcome:
    """Return the outcome of a step that found no problem."""
    return Outcome("ok", evidence)


def warning(cause: str, change: str, evidence: str = "") -> Outcome:
    """Return the outcome of a step that found a problem with which calls may still work."""
    return Outcome("warning", evidence, cause, change)


def failed(cause: str, change: str, evidence: str = "") -> Outcome:
    """Return the outcome of a step that found a problem with which all or some calls fail."""
    return Outcome("failed", evidence, cause, change)


def not_tried(change: str) -> Outcome:
    """Return the outcome of a step that lacks an option or a setting; ``change`` names it."""
    return Outcome("not tried", change=change)


async def run_steps(
    steps: Iterable[DoctorStep], on_result: Callable[[Result], None] = lambda result: None
) -> list[Result]:
    """Run the steps one after another; ``on_result`` is called after each one.

    A step that is not finished after ``STEP_TIMEOUT`` seconds has failed.
    """
    outcomes: dict[str, Outcome] = {}
    results = []
    for step in steps:
        outcome = outcomes[step.name] = _outcome_without_run(step, outcomes) or await _run_within_limit(step)
        results.append(Result(step.name, outcome.state, outcome.evidence, outcome.cause, outcome.change))
        on_result(results[-1])
    return results


def _outcome_without_run(step: DoctorStep, outcomes: dict[str, Outcome]) -> Outcome | None:
    """Return the outcome of a step that cannot run because of a step that it needs; ``None``: it can run."""
    needed = [(name, outcomes[name]) for name in step.needs]
    for name, outcome in needed:
        if outcome.state == "failed":
            return Outcome("not reached", cause=f"because of: {name}")
        if outcome.state == "not reached":
            return outcome
    return next((outcome for _, outcome in needed if outcome.state == "not tried"), None)


async def _run_within_limit(step: DoctorStep) -> Outcome:
    try:
        async with asyncio.timeout(STEP_TIMEOUT):
            return await step.run()
    except TimeoutError:
        change = "see whether the server, its proxy or a firewall in between holds requests back, and their logs"
        return failed(f"it was not finished within {STEP_TIMEOUT:g} s", change)
