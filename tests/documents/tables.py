"""Tables of the documents."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.documents.shell import ROOT


def read(name: str) -> str:
    """Return the text of a document in ``docs/``."""
    return (ROOT / "docs" / name).read_text()


def section(text: str, title: str, level: int = 2) -> str:
    """Return what follows a heading, until the next one of its level or above.

    Raises:
        AssertionError: there is no such heading.
    """
    mark = "#" * level
    found = re.search(rf"^{mark} {re.escape(title)}\n(.*?)(?=^#{{1,{level}}} |\Z)", text, re.M | re.S)
    assert found is not None, title
    return found[1]


def rows(text: str) -> Iterator[list[str]]:
    """Yield the cells of each row of all tables in a text, without header rows and rules."""
    lines = text.splitlines()
    for line, below in zip(lines, [*lines[1:], ""], strict=True):
        if line.startswith("| ") and not below.startswith("|--"):
            yield [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def code(cell: str) -> list[str]:
    """Return the code spans of a cell."""
    return re.findall(r"`([^`]+)`", cell)
