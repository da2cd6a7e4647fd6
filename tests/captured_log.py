"""The lines of the operator's log that a test causes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from gateway import log


@contextmanager
def captured_lines(level: int = logging.INFO) -> Iterator[list[str]]:
    """Collect every record of ``level`` and above, formatted as in the operator's log."""
    lines: list[str] = []
    collector, root = _LineCollector(lines), logging.getLogger()
    before = root.level
    root.addHandler(collector)
    root.setLevel(level)
    try:
        yield lines
    finally:
        root.setLevel(before)
        root.removeHandler(collector)


class _LineCollector(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self._lines = lines
        self.setFormatter(log._formatter("logfmt"))

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(self.format(record))
