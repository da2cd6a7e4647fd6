"""The settings of the flows that a reload of the configuration changes."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.core.backends import Backends
from gateway.core.limits import FederationRules, Limits, QualityRules
from sdp.candidates import CandidateFilter


@dataclass(frozen=True, slots=True)
class MediaLimits:
    """The SFU's own limits of a stream."""

    stream_bitrate: int = 0  # bit/s of a camera, 0 = no limit
    screen_bitrate: int = 0
    timeout: float = 10.0  # seconds
    subscribe_any: bool = False  # whether streams may be requested outside of a call, too (9.3); for tests


@dataclass(frozen=True, slots=True)
class FlowSettings:
    """The settings of the flows; a reload replaces the whole object, so that old and new settings never mix."""

    backends: Backends
    internal_secret: str = ""  # shared with the internal clients; empty: they are refused
    limits: Limits = field(default_factory=Limits)
    quality: QualityRules = field(default_factory=QualityRules)  # of backends that have none of their own
    media_limits: MediaLimits = field(default_factory=MediaLimits)
    candidate_filter: CandidateFilter = field(default_factory=CandidateFilter)
    federation: FederationRules = field(default_factory=FederationRules)
    reset_sessions_on_loss: bool = False  # of clients that cannot be asked to offer a lost stream again (docs/mcu.md)
