"""The table of the benchmarks: medians, ratios of the same round, and missed targets."""

from __future__ import annotations

from typing import Any, cast

from bench.report import Machine, Row, Targets, as_json, markdown

MACHINE = Machine("CPU", 2, "6.1", "CPython 3.11", "0.1.0", "2.0.2", {"uvloop": "1"}, "gcc 12", 0.5, "2026-12-01 06:10")


def row(**targets: float) -> Row:
    figures = {"portunus": [2.0, 4.0, 9.0], "incumbent": [4.0, 4.0, 10.0], "floor": [1.0, 2.0, 3.0]}
    return Row("relay", "2 clients", "µs", Targets(**targets), figures)


def test_ratio_is_the_median_of_the_ratios_of_the_rounds() -> None:
    assert row().ratios("incumbent") == [0.5, 1.0, 0.9]
    assert "| 4.00 µs | 4.00 µs | 0.90 (0.50-1.00) | - | 2.00 µs | 2.00 (2.00-3.00) | - |" in markdown(
        MACHINE, [row()], 1.0
    )


def test_target_is_missed_if_the_median_misses_it() -> None:
    assert row(ratio=0.9, floor=2.0, value=4.0).missed == []
    assert row(ratio=0.89, floor=1.99, value=3.9).missed == ["ratio", "floor", "value"]
    text = markdown(MACHINE, [row(ratio=0.89, value=5)], 1.0)
    assert "| 4.00 µs (≤ 5) |" in text
    assert "≤ 0.89, **missed**" in text


def test_server_that_was_not_measured_has_no_figures_and_misses_no_target() -> None:
    alone = Row("relay", "2 clients", "µs", Targets(ratio=0.1), {"portunus": [2.0]})
    assert alone.missed == []
    assert "| 2.00 µs | - | - | ≤ 0.1 | - | - | - |" in markdown(MACHINE, [alone], 1.0)


def test_report_has_the_reason_of_a_void_measurement() -> None:
    text = markdown(MACHINE, [Row("relay", "", "", void="a client received too much")], 1.0)
    assert "void: a client received too much" in text


def test_json_has_the_figures_of_each_round_and_the_machine() -> None:
    written = as_json(MACHINE, [row(ratio=0.5)], 1.5)
    (only,) = cast(list[dict[str, Any]], written["rows"])
    assert only["figures"]["portunus"] == [2.0, 4.0, 9.0]
    assert only["medians"] == {"portunus": 4.0, "incumbent": 4.0, "floor": 2.0}
    assert only["missed"] == ["ratio"]
    assert written["load_average_after"] == 1.5
