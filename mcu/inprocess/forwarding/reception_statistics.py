"""Reception statistics of one RTP source: loss and jitter for receiver reports, and the NACK schedule.

Source: RFC 3550 6.4.1, A.3 and A.8 (loss, jitter), RFC 4585 6.2.1 (NACK).
"""

from __future__ import annotations

import math

from mcu.inprocess.forwarding import rtcp

MAX_GAP = 500  # consecutive missing packets beyond which the source counts as restarted
NACK_INTERVAL = 0.06  # seconds between two NACKs for one packet, and the longest wait before the first
REORDER_DECAY = 0.8  # factor per receiver report by which the measured reordering delay shrinks
MAX_NACKS = 10  # NACKs for one packet
MAX_AGE = 1024  # packets behind the newest beyond which a retransmission is of no use
MAX_MISSING = MAX_AGE  # missing packets tracked at a time; a source with more counts as restarted


class ReceptionStatistics:
    """The received and missing packets of one SSRC; ``now`` is monotonic, in seconds."""

    def __init__(self, clock_rate: int) -> None:
        self._clock_rate = clock_rate
        self._first = 0
        self._highest: int | None = None  # extended sequence number
        self._received = 0
        self._jitter = 0.0
        self._transit: float | None = None
        self._expected_before = 0  # as of the last receiver report
        self._received_before = 0
        # by sequence number: NACKs sent, when the next one is due, when the packet was found missing
        self._missing: dict[int, tuple[int, float, float]] = {}
        self._due_at = math.inf  # when the first NACK may be due; ``_missing`` is not scanned before
        self._reorder_delay = 0.0  # seconds before the first NACK: how late reordered packets arrived
        self.interrupted = False  # a gap was too wide for NACKs; see ``clear_interruption``

    @property
    def lost(self) -> int:
        """Number of packets that did not arrive, or only as a retransmission."""
        if self._highest is None:
            return 0
        return max(0, self._highest - self._first + 1 - self._received)

    def count(self, sequence: int, timestamp: int, now: float) -> None:
        """Count a received packet, update the jitter, and record the packets missing before it."""
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
                self._reorder_delay = min(max(self._reorder_delay, now - missed[2]), NACK_INTERVAL)
            return
        if ahead > MAX_GAP or len(self._missing) + ahead > MAX_MISSING:
            self._missing.clear()
            self.interrupted = True
        elif ahead > 1:
            at = now + self._reorder_delay
            self._due_at = min(self._due_at, at)
            for step in range(1, ahead):
                self._missing[self._highest + step & 0xFFFF] = (0, at, now)
        self._highest += ahead
        transit = now * self._clock_rate - timestamp
        if self._transit is not None:
            change = abs(transit - self._transit)
            if change < 10 * self._clock_rate:  # a larger one is a timestamp that wrapped or a restarted source
                self._jitter += (change - self._jitter) / 16
        self._transit = transit

    def clear_interruption(self) -> None:
        """Reset ``interrupted``, once a keyframe has been requested for it."""
        self.interrupted = False

    def remove_missing(self, sequence: int) -> None:
        """Stop the NACKs for a packet that arrived as a retransmission."""
        self._missing.pop(sequence, None)

    def due_nacks(self, now: float) -> list[int]:
        """Return the sequence numbers to NACK now, oldest first; give up packets NACKed ``MAX_NACKS`` times."""
        if now < self._due_at:
            return []
        due = []
        for sequence, (nacks, at, missed_at) in list(self._missing.items()):
            if at > now:
                continue
            if nacks >= MAX_NACKS:
                del self._missing[sequence]
            else:
                self._missing[sequence] = (nacks + 1, now + NACK_INTERVAL, missed_at)
                due.append(sequence)
        self._due_at = min((at for _, at, _ in self._missing.values()), default=math.inf)
        return due

    def add_missing(self, sequence: int, now: float) -> bool:
        """Return whether to NACK a packet that a subscriber misses; if so, count its NACK as sent."""
        if self._highest is None or sequence in self._missing or len(self._missing) >= MAX_MISSING:
            return False
        if self._highest - sequence & 0xFFFF >= MAX_AGE:
            return False
        self._missing[sequence] = (1, now + NACK_INTERVAL, now)
        self._due_at = min(self._due_at, now + NACK_INTERVAL)
        return True

    def report_block(self, ssrc: int, last_report: int, delay: int, min_fraction_lost: int) -> rtcp.ReportBlock | None:
        """Return the next report block, its fraction lost at least ``min_fraction_lost``/256.

        ``None`` before the first packet. Each call begins a new interval for the fraction lost.
        """
        if self._highest is None:
            return None
        self._reorder_delay *= REORDER_DECAY
        expected = self._highest - self._first + 1
        expected_interval, received_interval = expected - self._expected_before, self._received - self._received_before
        self._expected_before, self._received_before = expected, self._received
        lost_interval = expected_interval - received_interval
        fraction = max(0, min(255, lost_interval * 256 // expected_interval)) if expected_interval > 0 else 0
        return rtcp.ReportBlock(
            ssrc=ssrc,
            fraction_lost=max(fraction, min_fraction_lost),
            lost=self.lost,
            highest_sequence=self._highest,
            jitter=min(int(self._jitter), 0xFFFFFFFF),
            last_report=last_report,
            delay=delay,
        )
