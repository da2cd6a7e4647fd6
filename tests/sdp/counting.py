"""Counts how often descriptions are parsed and serialised, by a profile hook: no module is patched."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from sdp.document import Description, parse


@dataclass(slots=True)
class Counts:
    """The calls in this thread since the counting began."""

    parsed: int = 0
    serialised: int = 0


@contextmanager
def counted_calls() -> Iterator[Counts]:
    """Count the calls of ``sdp.document.parse`` and ``str(Description)`` until the end of the block."""
    counts = Counts()

    def profile(frame: FrameType, event: str, argument: object) -> None:
        if event != "call":
            return
        if frame.f_code is parse.__code__:
            counts.parsed += 1
        elif frame.f_code is Description.__str__.__code__:
            counts.serialised += 1

    sys.setprofile(profile)
    try:
        yield counts
    finally:
        sys.setprofile(None)
