"""The numbers that a subscriber sees: without a break, whatever is left out and wherever the packets come from.

Our numbers are those of a source, shifted. Where the shift changes, since packets are left out or another source goes
on, a new run begins. Runs are kept for as long as somebody may ask for their packets again. All numbers are extended:
they do not wrap.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mcu.inprocess.forwarding.rtp_stream import RtpStream

FIRST_SEQUENCE = 0x4000  # start below: a receiver that misses the first packets cannot mistake the SRTP rollover
RUNS = 512  # kept at least: more than begin in the time that packets are kept for
LATE = 64  # runs back that a packet may come late: several seconds


class OffsetSegment(NamedTuple):
    """Packets whose numbers are shifted by the same."""

    source: RtpStream
    first: int  # the source's number of its first packet
    shift: int  # from the source's numbers to ours
    time_shift: int = 0  # of timestamps
    picture_shift: int = 0  # of VP8's picture numbers
    level_shift: int = 0  # of VP8's TL0PICIDX


class RtpRewriter:
    """Hands out numbers, and finds what a number stands for."""

    def __init__(self) -> None:
        self.next = random.randrange(FIRST_SEQUENCE)
        self._runs: list[OffsetSegment] = []

    @property
    def last(self) -> OffsetSegment | None:
        """The newest run."""
        return self._runs[-1] if self._runs else None

    def begin(self, source: RtpStream, first: int, times: int = 0, pictures: int = 0, levels: int = 0) -> OffsetSegment:
        """Go on with the packet ``first`` of a source where our numbers ended."""
        return self._add(OffsetSegment(source, first, self.next - first, times, pictures, levels))

    def skip(self, number: int, pictures: int) -> OffsetSegment:
        """Leave out a packet of the newest run, the newest that came, and so many pictures with it."""
        last = self._runs[-1]
        run = last._replace(first=number + 1, shift=last.shift - 1, picture_shift=last.picture_shift - pictures)
        if last.first == number:
            self._runs[-1] = run
            return run
        return self._add(run)

    def _add(self, run: OffsetSegment) -> OffsetSegment:
        while self._runs and _first(self._runs[-1]) >= _first(run):  # numbers that were kept for what never came
            self._runs.pop()
        self._runs.append(run)
        if len(self._runs) > 2 * RUNS:
            del self._runs[:RUNS]
        return run

    def late(self, number: int) -> OffsetSegment | None:
        """Return the run with a place for a packet that came late; ``None`` if there is none."""
        source = self._runs[-1].source
        end = self.next
        for run in reversed(self._runs[-LATE:]):
            if run.source is not source:
                return None
            if run.first <= number:
                return run if number + run.shift < end else None
            end = run.first + run.shift
        return None

    def find(self, sequence: int) -> tuple[OffsetSegment, int] | None:
        """Return the run and the source's number of a 16 bit number of ours, of the last that were handed out."""
        ours = self.next - ((self.next - sequence & 0xFFFF) or 0x10000)
        place = bisect_right(self._runs, ours, key=_first)
        if place == 0:
            return None
        run = self._runs[place - 1]
        return run, ours - run.shift


def _first(run: OffsetSegment) -> int:
    """Return the number of ours that a run begins with."""
    return run.first + run.shift
