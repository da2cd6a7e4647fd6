"""The configuration of a gateway: its sections, and ``load``, which reads them from a TOML file."""

from gateway.config.geoip import GeoIpSection
from gateway.config.loading import load
from gateway.config.sections import (
    NO_MCU,
    AdminSection,
    Config,
    HttpSection,
    InternalSection,
    McuSection,
    NextcloudSection,
    SessionsSection,
    StatsSection,
    TurnSection,
    listen_address,
)
from gateway.config.source import ConfigError

__all__ = [
    "NO_MCU",
    "AdminSection",
    "Config",
    "ConfigError",
    "GeoIpSection",
    "HttpSection",
    "InternalSection",
    "McuSection",
    "NextcloudSection",
    "SessionsSection",
    "StatsSection",
    "TurnSection",
    "listen_address",
    "load",
]
