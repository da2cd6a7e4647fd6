"""The sequence numbers that one subscriber receives: contiguous, whichever packets and RTP streams are forwarded.

A sent sequence number is the packet's number in its RTP stream plus an offset. The offset changes where packets are
dropped or another RTP stream is forwarded; consecutive packets with one offset are a segment. Segments are kept for as
long as the subscriber may NACK their packets. All sequence numbers are extended: they do not wrap.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from mcu.inprocess.forwarding.rtp_stream import RtpStream

FIRST_SEQUENCE_BOUND = 0x4000  # above the first sent number: else loss of the first packets may hide an SRTP rollover
MIN_SEGMENTS = 512  # segments kept at least: more than can begin while a packet is in the history
MAX_LATE_SEGMENTS = 64  # newest segments to which a late packet may belong: several seconds


class OffsetSegment(NamedTuple):
    """Consecutive packets of one RTP stream that are rewritten by the same offsets."""

    stream: RtpStream
    first_number: int  # the stream's sequence number of the first packet
    sequence_offset: int  # sent sequence number - the stream's
    timestamp_offset: int = 0
    picture_id_offset: int = 0  # VP8
    tl0picidx_offset: int = 0  # VP8


class RtpRewriter:
    """The mapping between sent sequence numbers and packets of RTP streams.

    The down track that owns the rewriter increments ``next_sequence`` itself: a call per packet would cost too much.
    """

    def __init__(self) -> None:
        self.next_sequence = random.randrange(FIRST_SEQUENCE_BOUND)
        self._segments: list[OffsetSegment] = []

    @property
    def newest_segment(self) -> OffsetSegment | None:
        """The segment begun last."""
        return self._segments[-1] if self._segments else None

    def begin_segment(
        self,
        stream: RtpStream,
        first_number: int,
        timestamp_offset: int = 0,
        picture_id_offset: int = 0,
        tl0picidx_offset: int = 0,
    ) -> OffsetSegment:
        """Begin a segment in which packet ``first_number`` of ``stream`` gets the next sent number."""
        sequence_offset = self.next_sequence - first_number
        return self._append(
            OffsetSegment(stream, first_number, sequence_offset, timestamp_offset, picture_id_offset, tl0picidx_offset)
        )

    def skip(self, number: int, pictures: int) -> OffsetSegment:
        """Drop the newest packet, with ``pictures`` picture ids, and return the segment of the packets after it."""
        last = self._segments[-1]
        segment = last._replace(
            first_number=number + 1,
            sequence_offset=last.sequence_offset - 1,
            picture_id_offset=last.picture_id_offset - pictures,
        )
        if last.first_number == number:
            self._segments[-1] = segment
            return segment
        return self._append(segment)

    def _append(self, segment: OffsetSegment) -> OffsetSegment:
        # a segment that begins at or after this one had numbers reserved for packets that never arrived
        while self._segments and _first_sequence(self._segments[-1]) >= _first_sequence(segment):
            self._segments.pop()
        self._segments.append(segment)
        if len(self._segments) > 2 * MIN_SEGMENTS:
            del self._segments[:MIN_SEGMENTS]
        return segment

    def find_late(self, number: int) -> OffsetSegment | None:
        """Return the earlier segment with a free number for a late packet of the current stream, if there is one."""
        stream = self._segments[-1].stream
        end = self.next_sequence
        for segment in reversed(self._segments[-MAX_LATE_SEGMENTS:]):
            if segment.stream is not stream:
                return None
            if segment.first_number <= number:
                return segment if number + segment.sequence_offset < end else None
            end = _first_sequence(segment)
        return None

    def find_sent(self, sequence: int) -> tuple[OffsetSegment, int] | None:
        """Return the segment and the original number of the packet last sent with a 16 bit sequence number."""
        sent = self.next_sequence - ((self.next_sequence - sequence & 0xFFFF) or 0x10000)
        index = bisect_right(self._segments, sent, key=_first_sequence)
        if index == 0:
            return None
        segment = self._segments[index - 1]
        return segment, sent - segment.sequence_offset


def _first_sequence(segment: OffsetSegment) -> int:
    """Return the sent sequence number that a segment begins with."""
    return segment.first_number + segment.sequence_offset
