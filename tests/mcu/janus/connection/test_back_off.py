"""Pauses between attempts to connect to a Janus that is unreachable or cannot be used."""

from __future__ import annotations

import pytest

from mcu.janus.connection.back_off import back_off


@pytest.mark.parametrize(("seconds", "pause"), [(0, 0.25), (29.9, 0.25), (30, 2), (599, 2), (600, 16), (86400, 16)])
def test_connecting_to_an_unreachable_janus_is_tried_often_at_first(seconds: float, pause: float) -> None:
    assert back_off(seconds, 0, 0.5) == pause


def test_the_pause_doubles_for_a_janus_that_cannot_be_used() -> None:
    assert [back_off(0, refusals, 0.5) for refusals in range(1, 8)] == [1, 2, 4, 8, 16, 16, 16]


def test_pauses_have_jitter() -> None:
    assert back_off(0, 3, 0.0) == 2.0
    assert back_off(0, 3, 1.0) == 6.0
    assert (back_off(40, 0, 0.0), back_off(40, 0, 1.0)) == (1.0, 3.0)
