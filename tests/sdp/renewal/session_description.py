"""An offer or answer as a peer returns it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SessionDescription:
    """An offer or an answer, like W3C's ``RTCSessionDescription``."""

    type: str  # "offer" or "answer"
    sdp: str
    before: str = ""  # an earlier offer of the same PeerConnection

    def as_json(self) -> dict[str, str]:
        """Return the description as browsers and Janus expect it."""
        return {"type": self.type, "sdp": self.sdp}
