"""RTCP feedback to one publisher: NACK and PLI.

Source: RFC 4585.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from mcu.inprocess.forwarding import rtcp

KEYFRAME_INTERVAL = 0.5  # seconds between two PLI packets to one publisher, for all its RTP streams together


class KeyframeSource(Protocol):
    """A video RTP stream from which keyframes are requested."""

    @property
    def ssrc(self) -> int | None:
        """The publisher's SSRC; ``None`` before it is known."""

    def count_keyframe_request(self) -> None:
        """Count a PLI that was sent."""


class RtcpFeedback:
    """The feedback to one publisher; ``send`` encrypts and sends a compound packet."""

    def __init__(self, sender_ssrc: int, send: Callable[[bytes], bool]) -> None:
        self.sender_ssrc = sender_ssrc
        self._send = send
        self._pending: dict[KeyframeSource, None] = {}  # in the order of the requests
        self._pli_sent_at = -KEYFRAME_INTERVAL

    def nack(self, ssrc: int, sequences: Iterable[int]) -> None:
        """Send a NACK for packets of an SSRC."""
        self._send(rtcp.pack_nack(self.sender_ssrc, ssrc, sequences))

    def request_keyframe(self, stream: KeyframeSource, now: float) -> None:
        """Send a PLI, or leave it to ``tick`` while the last one is less than ``KEYFRAME_INTERVAL`` old."""
        self._pending[stream] = None
        self.tick(now)

    def forget(self, stream: KeyframeSource) -> None:
        """Drop the pending PLI of an RTP stream that ended."""
        self._pending.pop(stream, None)

    def tick(self, now: float) -> None:
        """Send pending PLIs in one compound packet, at most once per ``KEYFRAME_INTERVAL``; to be called often."""
        if not self._pending or now - self._pli_sent_at < KEYFRAME_INTERVAL:
            return
        plis = []
        for stream in list(self._pending):
            if stream.ssrc is not None:
                del self._pending[stream]
                stream.count_keyframe_request()
                plis.append(rtcp.pack_pli(self.sender_ssrc, stream.ssrc))
        if plis:
            self._pli_sent_at = now
            self._send(b"".join(plis))
