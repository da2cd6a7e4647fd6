"""The configuration of a gateway: its sections, and ``load``, which reads them from a TOML file."""

from gateway.config.effective import Setting, effective_settings
from gateway.config.geoip import GeoIpSection
from gateway.config.loading import load, load_with_source
from gateway.config.problems import ConfigError
from gateway.config.schema import json_schema
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
    TracingSection,
    TurnSection,
    listen_address,
)
from gateway.config.source import Origin

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
    "Origin",
    "SessionsSection",
    "Setting",
    "StatsSection",
    "TracingSection",
    "TurnSection",
    "effective_settings",
    "json_schema",
    "listen_address",
    "load",
    "load_with_source",
]
