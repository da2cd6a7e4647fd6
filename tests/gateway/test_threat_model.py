"""Each attack in the table of docs/threat-model.md, "Federation", is tested: its row names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def rows() -> list[str]:
    """Return the rows of the table, without its header row."""
    text = (ROOT / "docs" / "threat-model.md").read_text()
    section = text.partition("\n## Federation\n")[2].partition("\n## ")[0]
    return [line for line in section.splitlines() if line.startswith("| ") and not line.startswith("| Attack")]


def test_each_attack_on_federation_has_tests_that_exist() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "tests" / "gateway").rglob("test_*.py"))
    defined = set(re.findall(r"^(?:async )?def (test_\w+)", sources, re.MULTILINE))
    named = [set(re.findall(r"`(test_\w+)`", row)) for row in rows()]
    assert len(named) >= 20
    assert all(named)
    assert set().union(*named) <= defined
