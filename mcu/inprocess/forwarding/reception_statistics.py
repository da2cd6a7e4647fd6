"""What arrived of one RTP source and what did not: the figures of a receiver report, and what to ask for again.

Source: RFC 3550 6.4.1, A.3 and A.8 (loss, jitter), RFC 4585 6.2.1 (NACK).
"""

from __future__ import annotations

import math

from mcu.inprocess.forwarding import rtcp

MAX_GAP = 500  # packets missing at once beyond which the source has begun anew
RETRY = 0.06  # seconds between two requests for a packet, and that the first waits at most for one that is only late
CALM = 0.8  # times per report: how soon lateness is forgotten
TRIES = 10  # requests for a packet
BEHIND = 1024  # packets: what is further back is of no use to anybody
MAX_MISSING = BEHIND  # packets looked for at a time; a source that misses more is as good as begun anew


class ReceptionStatistics:
    """Counts packets of one SSRC; ``now`` is monotonic, in seconds."""

    def __init__(self, clock_rate: int) -> None:
        self._clock_rate = clock_rate
        self._first = 0
        self._highest: int | None = None  # extended sequence number
        self._received = 0
        self._jitter = 0.0
        self._transit: float | None = None
        self._expected_before = 0
        self._received_before = 0
        # by sequence number: requests so far, when the next is due, when it was missed
        self._missing: dict[int, tuple[int, float, float]] = {}
        self._due_at = math.inf  # when the first of them may be due; they are not looked through before
        self._patience = 0.0  # seconds before the first request: so late packets came that were not lost
        self.broken = False  # a gap was too wide; the reader resets it

    @property
    def lost(self) -> int:
        """Packets that never arrived on their own."""
        if self._highest is None:
            return 0
        return max(0, self._highest - self._first + 1 - self._received)

    def count(self, sequence: int, timestamp: int, now: float) -> None:
        """Take note of a packet."""
        self._received += 1
        if self._highest is None:
            self._first = self._highest = sequence
            return
        ahead = sequence - self._highest & 0xFFFF
        if ahead == 0:
            return
        if ahead >= 0x8000:
            missed = self._missing.pop(sequence, None)
            if missed is not None:
                self._patience = min(max(self._patience, now - missed[2]), RETRY)
            return
        if ahead > MAX_GAP or len(self._missing) + ahead > MAX_MISSING:
            self._missing.clear()
            self.broken = True
        elif ahead > 1:
            at = now + self._patience
            self._due_at = min(self._due_at, at)
            for step in range(1, ahead):
                self._missing[self._highest + step & 0xFFFF] = (0, at, now)
        self._highest += ahead
        transit = now * self._clock_rate - timestamp
        if self._transit is not None:
            change = abs(transit - self._transit)
            if change < 10 * self._clock_rate:  # beyond, the timestamp wrapped or the source began anew
                self._jitter += (change - self._jitter) / 16
        self._transit = transit

    def repaired(self, sequence: int) -> None:
        """Take note that a packet came as a retransmission."""
        self._missing.pop(sequence, None)

    def due(self, now: float) -> list[int]:
        """Return what is to be asked for now, oldest first, and forget what was asked for too often."""
        if now < self._due_at:
            return []
        wanted = []
        for sequence, (tries, at, missed) in list(self._missing.items()):
            if at > now:
                continue
            if tries >= TRIES:
                del self._missing[sequence]
            else:
                self._missing[sequence] = (tries + 1, now + RETRY, missed)
                wanted.append(sequence)
        self._due_at = min((at for _, at, _ in self._missing.values()), default=math.inf)
        return wanted

    def want(self, sequence: int, now: float) -> bool:
        """Whether to ask for a packet that a subscriber misses too; if so it is taken note of."""
        if self._highest is None or sequence in self._missing or len(self._missing) >= MAX_MISSING:
            return False
        if self._highest - sequence & 0xFFFF >= BEHIND:
            return False
        self._missing[sequence] = (1, now + RETRY, now)
        self._due_at = min(self._due_at, now + RETRY)
        return True

    def block(self, ssrc: int, last_report: int, delay: int, at_least: int) -> rtcp.ReportBlock | None:
        """Return a report block, its recent loss no less than ``at_least``/256; ``None`` before the first packet."""
        if self._highest is None:
            return None
        self._patience *= CALM
        expected = self._highest - self._first + 1
        new, came = expected - self._expected_before, self._received - self._received_before
        self._expected_before, self._received_before = expected, self._received
        fraction = max(0, min(255, (new - came) * 256 // new)) if new > 0 else 0
        jitter = min(int(self._jitter), 0xFFFFFFFF)
        return rtcp.ReportBlock(ssrc, max(fraction, at_least), self.lost, self._highest, jitter, last_report, delay)
