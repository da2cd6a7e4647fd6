"""A description that a peer made."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Made:
    """An offer or an answer."""

    type: str  # "offer" or "answer"
    sdp: str
    before: str = ""  # the offer that the same PeerConnection made earlier

    def as_json(self) -> dict[str, str]:
        """Return the description as browsers and Janus expect it."""
        return {"type": self.type, "sdp": self.sdp}
