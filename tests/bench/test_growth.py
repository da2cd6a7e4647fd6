"""The plots of growth, and a very small run whose figures mean nothing."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import growth, report
from bench.__main__ import open_bench
from bench.plot import BOTTOM, HEIGHT, WIDTH, Panel, render

SVG = "{http://www.w3.org/2000/svg}"


def pixels(panel: Panel) -> list[tuple[float, float]]:
    """Return the positions of a panel's points in its image."""
    circles = ElementTree.fromstring(render([panel])).iter(f"{SVG}circle")
    return [(float(circle.attrib["cx"]), float(circle.attrib["cy"])) for circle in circles]


def labels(panel: Panel) -> list[str | None]:
    return [text.text for text in ElementTree.fromstring(render([panel])).iter(f"{SVG}text")]


def test_equal_ratios_are_equal_distances_on_logarithmic_axes() -> None:
    first, second, third = pixels(Panel("t", "x", [(10, 1), (100, 10), (1000, 100)]))
    assert second[0] - first[0] == pytest.approx(third[0] - second[0], abs=0.2)
    assert first[1] - second[1] == pytest.approx(second[1] - third[1], abs=0.2)


def test_values_of_one_size_have_a_linear_axis_that_begins_at_zero() -> None:
    panel = Panel("t", "x", [(2, 6.0), (10, 12.0)])
    low, high = pixels(panel)
    assert {"0", "5", "10", "15"} <= set(labels(panel))
    bottom = 2 * low[1] - high[1]  # the position of 0
    lines = ElementTree.fromstring(render([panel])).iter(f"{SVG}line")
    assert max(float(line.attrib["y2"]) for line in lines) == pytest.approx(bottom, abs=0.2)


def test_points_are_within_their_panel_and_titles_are_escaped() -> None:
    panel = Panel("a < b", "x", [(2, 0.0), (9000, 3.5)])
    assert all(0 < x < WIDTH and 0 < y < HEIGHT for x, y in pixels(panel))
    assert "a < b" in labels(panel)


def test_curve_of_zeros_lies_on_the_lower_end_of_its_axis() -> None:
    low, high = pixels(Panel("t", "x", [(2, 0.0), (10, 0.0)]))
    assert low[1] == high[1] == HEIGHT - BOTTOM


@pytest.mark.full
def test_small_growth_is_measured_and_written(tmp_path: Path) -> None:
    with (
        open_bench(None, rounds=1, seconds=0.05, scale=0.02) as bench,
        bench.site.run(report.PORTUNUS) as server,
    ):
        rooms = growth.measure_rooms(bench, server, (2, 4))
        sessions = growth.measure_sessions(bench, server, (2, 4))
    assert [size for size, _ in rooms["message"]] == [count for count, _ in sessions["memory"]] == [2, 4]
    assert all(value > 0 for curve in (*rooms.values(), sessions["memory"], sessions["message"]) for _, value in curve)
    growth.write(tmp_path, rooms, sessions, {})
    assert json.loads((tmp_path / "growth.json").read_text())["rooms"]["delivery"]
    for name in ("rooms", "sessions"):
        assert list(ElementTree.parse(tmp_path / f"growth-{name}.svg").iter(f"{SVG}circle"))
