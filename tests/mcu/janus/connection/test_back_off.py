"""How often a Janus that is away, or cannot be used, is tried."""

from __future__ import annotations

import pytest

from mcu.janus.connection.back_off import back_off


@pytest.mark.parametrize(("away", "wait"), [(0, 0.25), (29.9, 0.25), (30, 2), (599, 2), (600, 16), (86400, 16)])
def test_a_janus_that_is_away_is_tried_often_at_first(away: float, wait: float) -> None:
    assert back_off(away, 0, 0.5) == wait


def test_a_janus_that_cannot_be_used_is_tried_with_a_wait_that_doubles() -> None:
    assert [back_off(0, refusals, 0.5) for refusals in range(1, 8)] == [1, 2, 4, 8, 16, 16, 16]


def test_attempts_are_spread_by_chance() -> None:
    assert back_off(0, 3, 0.0) == 2.0
    assert back_off(0, 3, 1.0) == 6.0
    assert (back_off(40, 0, 0.0), back_off(40, 0, 1.0)) == (1.0, 3.0)
