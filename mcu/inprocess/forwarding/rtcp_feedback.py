"""What we say to a publisher about its packets: what to send again, and where to begin anew.

Source: RFC 4585 (NACK, PLI).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from mcu.inprocess.forwarding import rtcp

KEYFRAME_INTERVAL = 0.5  # seconds between two requests for keyframes to one publisher, whatever they are for


class Picture(Protocol):
    """What keyframes are asked of."""

    source: int | None  # the publisher's SSRC, once known
    keyframe_requests: int  # sent so far


class RtcpFeedback:
    """Feedback to one publisher; ``send`` takes a compound RTCP packet."""

    def __init__(self, reporter: int, send: Callable[[bytes], bool]) -> None:
        self.reporter = reporter  # our SSRC
        self._send = send
        self._wanted: dict[Picture, None] = {}
        self._asked_at = -KEYFRAME_INTERVAL

    def nack(self, ssrc: int, sequences: Iterable[int]) -> None:
        """Ask for packets again."""
        self._send(rtcp.pack_nack(self.reporter, ssrc, sequences))

    def request_keyframe(self, of: Picture, now: float) -> None:
        """Ask for a keyframe, now or as soon as the last request is long enough ago (see ``tick``)."""
        self._wanted[of] = None
        self.tick(now)

    def forget(self, of: Picture) -> None:
        """Ask no more for a picture that is gone."""
        self._wanted.pop(of, None)

    def tick(self, now: float) -> None:
        """Send the requests that had to wait, in one packet; to be called a few times per second."""
        if not self._wanted or now - self._asked_at < KEYFRAME_INTERVAL:
            return
        plis = []
        for picture in list(self._wanted):
            if picture.source is not None:
                del self._wanted[picture]
                picture.keyframe_requests += 1
                plis.append(rtcp.pack_pli(self.reporter, picture.source))
        if plis:
            self._asked_at = now
            self._send(b"".join(plis))
