"""The settings of a gateway that a reload changes: one immutable snapshot of a configuration.

A snapshot is prepared before anything changes, so that a configuration that cannot be used has no effect.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from gateway.config import Config
from gateway.core.backends import Backends
from gateway.edge.federation.connections import authorities_context
from gateway.edge.geo.geoip import LocationRules
from gateway.edge.http.address import Networks
from gateway.edge.http.tls import create_context
from gateway.flows.settings import FlowSettings, MediaLimits
from sdp.candidates import CandidateFilter


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """The settings; parts that have to be read or parsed are ready for use."""

    config: Config
    flows: FlowSettings
    tls: ssl.SSLContext | None  # of the listening addresses; None: they have no TLS
    remote_authorities: ssl.SSLContext | None  # of ``federation.certificate_authorities``; None: the system's
    trusted_proxies: Networks
    stats_allowed: Networks
    locations: LocationRules


def prepare(config: Config, sfu_timeout: float) -> GatewaySettings:
    """Read the files that a configuration names, and return its settings.

    ``sfu_timeout`` is that of the running process, in seconds.

    Raises:
        OSError: a file of certificates or keys cannot be used.
        ValueError: an address or network is malformed.
    """
    http = config.http
    return GatewaySettings(
        config,
        _flow_settings(config, sfu_timeout),
        tls=create_context(http.certificate, http.key) if http.certificate else None,
        remote_authorities=authorities_context(config.federation),
        trusted_proxies=Networks(http.trusted_proxies),
        stats_allowed=Networks(config.stats.allowed),
        locations=LocationRules.of(config.geoip),
    )


def _flow_settings(config: Config, sfu_timeout: float) -> FlowSettings:
    mcu = config.mcu
    return FlowSettings(
        Backends(config.backends, config.compat),
        internal_secret=config.internal.secret,
        limits=config.limits,
        quality=config.quality,
        media_limits=MediaLimits(mcu.max_stream_bitrate, mcu.max_screen_bitrate, sfu_timeout, mcu.allow_subscribe_any),
        federation=config.federation,
        candidate_filter=CandidateFilter(mcu.allowed_candidates, mcu.blocked_candidates),
        drain_deadline=config.drain.deadline,
        reset_sessions_on_loss=mcu.reset_sessions_on_loss,
    )
