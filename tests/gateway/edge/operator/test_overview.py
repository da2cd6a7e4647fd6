"""The sentence of ``/readyz`` about SFUs that are unavailable or restricted."""

from __future__ import annotations

import pytest

from gateway.edge.operator.overview import restrictions
from mcu.base import SfuState, SfuStatus

WORKS = SfuStatus("ws://one", SfuState.READY)
AWAY = SfuStatus("ws://two", SfuState.CONNECTING, reason="it does not answer", log_name="Janus 2")
RESTRICTED = SfuStatus("ws://three", SfuState.READY, restriction="labels are lost", log_name="Janus 3")


@pytest.mark.parametrize(
    ("sfus", "sentence"),
    [
        ((), ""),
        ((WORKS, WORKS), ""),
        ((RESTRICTED,), "labels are lost"),
        ((WORKS, RESTRICTED), "Janus 3, ws://three: labels are lost"),
        (
            (AWAY, RESTRICTED),
            "1 of 2 SFUs take no streams: Janus 2, ws://two: it does not answer; Janus 3, ws://three: labels are lost",
        ),
    ],
)
def test_unavailable_and_restricted_sfus_are_named(sfus: tuple[SfuStatus, ...], sentence: str) -> None:
    assert restrictions(sfus) == sentence
