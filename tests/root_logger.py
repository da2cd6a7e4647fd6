"""The root logger, put back after tests of code that configures the log of the whole process."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from gateway import log


@contextmanager
def restored_root_logger() -> Iterator[None]:
    """Put handlers, levels and ``logging.disable`` back afterwards: otherwise later tests would capture no records."""
    root = logging.getLogger()
    handlers, level, disabled = list(root.handlers), root.level, logging.root.manager.disable
    try:
        yield
    finally:
        log.configure()  # no area keeps a level of its own
        root.handlers[:], root.level = handlers, level
        logging.disable(disabled)
