"""States of the dependencies in ``/readyz``, and the state of the gateway that follows from them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from gateway.core.limits import Backend
from gateway.edge.operator.readiness import NO_SFU, Dependency, DependencyState, readiness
from mcu.base import McuStatus, SfuState, SfuStatus

OK, DEGRADED, AWAY = DependencyState.OK, DependencyState.DEGRADED, DependencyState.AWAY
CLOUD = Backend("cloud", ("https://cloud.example/",), "secret")
WORKING_SFU = SfuStatus("ws://one", SfuState.READY, log_name="Janus 1")
LOST_SFU = SfuStatus("ws://two", SfuState.CONNECTING, reason="it does not answer", log_name="Janus 2")
WRONG_KEY = SfuStatus("ws://two", SfuState.REFUSED, reason="another admin_key", log_name="Janus 2")
RESTRICTED_SFU = SfuStatus("ws://three", SfuState.READY, restriction="labels are lost", log_name="Janus 3")
DRAINING_SFU = SfuStatus("ws://four", SfuState.DRAINING, reason="accepts no new streams", log_name="Janus 4")
STOPPED_SFU = SfuStatus("", SfuState.STOPPED)


@dataclass(frozen=True)
class FakeProblem:
    """Problem of a backend."""

    answered: bool
    reason: str


def mcu_status(*sfus: SfuStatus) -> McuStatus:
    return McuStatus("janus", sfus)


@pytest.mark.parametrize(
    ("sfus", "serving", "state", "entries"),
    [
        ((WORKING_SFU,), True, OK, [Dependency("sfu Janus 1", OK, "", "ws://one")]),
        ((RESTRICTED_SFU,), True, DEGRADED, [Dependency("sfu Janus 3", DEGRADED, "labels are lost", "ws://three")]),
        ((WRONG_KEY,), False, AWAY, [Dependency("sfu Janus 2", AWAY, "another admin_key", "ws://two")]),
        ((DRAINING_SFU,), False, AWAY, [Dependency("sfu Janus 4", DEGRADED, "accepts no new streams", "ws://four")]),
        ((STOPPED_SFU,), False, AWAY, [Dependency("sfu", AWAY, "stopped")]),
        (
            (WORKING_SFU, LOST_SFU),
            True,
            DEGRADED,
            [
                Dependency("sfu Janus 1", OK, "", "ws://one"),
                Dependency("sfu Janus 2", AWAY, "it does not answer", "ws://two"),
            ],
        ),
    ],
)
def test_gateway_serves_calls_as_long_as_one_sfu_accepts_streams(
    sfus: tuple[SfuStatus, ...], serving: bool, state: DependencyState, entries: list[Dependency]
) -> None:
    found = readiness(mcu_status(*sfus), (), lambda backend: None)
    assert (found.serving, found.state, list(found.dependencies)) == (serving, state, entries)


def test_gateway_that_drains_serves_no_new_calls() -> None:
    found = readiness(mcu_status(WORKING_SFU), (), lambda backend: None, draining=True)
    assert (found.serving, found.state) == (False, AWAY)
    assert found.document(complete=False) == {"state": "away", "draining": True}
    assert found.document(complete=True) == {
        "state": "away",
        "draining": True,
        "dependencies": [{"name": "sfu Janus 1", "url": "ws://one", "state": "ok"}],
    }


def test_gateway_without_an_sfu_is_degraded() -> None:
    found = readiness(None, (CLOUD,), lambda backend: None)
    assert (found.serving, found.state) == (True, DEGRADED)
    assert found.dependencies == (
        Dependency("sfu", DEGRADED, NO_SFU),
        Dependency("backend cloud", OK, "", CLOUD.urls[0]),
    )


@pytest.mark.parametrize(("answered", "state"), [(True, DEGRADED), (False, AWAY)])
def test_backend_that_refuses_or_does_not_answer_leaves_the_gateway_serving(
    answered: bool, state: DependencyState
) -> None:
    found = readiness(mcu_status(WORKING_SFU), (CLOUD,), lambda backend: FakeProblem(answered, "error invalid_request"))
    assert (found.serving, found.state) == (True, DEGRADED)
    assert found.dependencies[1] == Dependency("backend cloud", state, "error invalid_request", CLOUD.urls[0])
    assert found.document(complete=False) == {"state": "degraded"}
    assert found.document(complete=True)["dependencies"][1] == {
        "name": "backend cloud",
        "url": "https://cloud.example/",
        "state": state.value,
        "reason": "error invalid_request",
    }
