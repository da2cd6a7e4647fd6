"""The settings of the flows that a reload of the configuration changes."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.core.backends import Backends
from gateway.core.limits import FederationRules, Limits, QualityRules
from sdp.candidates import CandidateFilter


@dataclass(frozen=True, slots=True)
class MediaLimits:
    """The limits of streams under ``[mcu]``, for all backends."""

    stream_bitrate: int = 0  # bit/s of a camera, 0 = no limit
    screen_bitrate: int = 0  # bit/s of a screen, 0 = no limit
    timeout: float = 10.0  # seconds for a request to the SFU
    subscribe_any: bool = False  # whether sessions that share no call may subscribe, too (9.3); for tests


@dataclass(frozen=True, slots=True)
class FlowSettings:
    """The settings of the flows; a reload replaces the whole object, so that old and new settings never mix."""

    backends: Backends
    internal_secret: str = ""  # shared with the internal clients; empty: they are refused
    limits: Limits = field(default_factory=Limits)
    quality: QualityRules = field(default_factory=QualityRules)  # defaults of the rules of backends
    media_limits: MediaLimits = field(default_factory=MediaLimits)
    candidate_filter: CandidateFilter = field(default_factory=CandidateFilter)
    federation: FederationRules = field(default_factory=FederationRules)
    drain_deadline: float = 60.0  # seconds of a drain for which the request names none
    reset_sessions_on_loss: bool = False  # of clients that cannot be asked to offer a lost stream again (docs/mcu.md)
