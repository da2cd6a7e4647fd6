"""The section ``[geoip]``.

Source: reference 14.3, 15.
"""

from __future__ import annotations

import re
from ipaddress import ip_network
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct, field

from gateway.config.source import ConfigSource

CONTINENTS = ("AF", "AN", "AS", "EU", "NA", "OC", "SA")

_country = re.compile(r"[A-Za-z]{2}")


class GeoIpSection(Struct, frozen=True):
    """``[geoip]``: the sources of the countries of clients."""

    database: str = ""  # path or URL of a database in MaxMind's format; empty: none
    license_key: str = ""  # MaxMind's licence key; without ``database`` GeoLite2 Country is downloaded with it
    overrides: dict[str, str] = field(default_factory=dict)  # address or network -> country
    continents: dict[str, str] = field(default_factory=dict)  # country -> continent, where the default is wrong


def check_section(geoip: GeoIpSection, source: ConfigSource) -> GeoIpSection:
    """Check the section, report values that are not allowed, and return it with codes in upper case."""
    if not is_path_or_url(geoip.database):
        source.report("geoip.database", "is neither a path nor a file, http or https URL")
    for key, code in geoip.overrides.items():
        if not is_network(key):
            source.report("geoip.overrides", f'"{key}" is neither an IP address nor a network')
        if not _country.fullmatch(code):
            source.report(f"geoip.overrides.{key}", f'"{code}" is not a country code of two letters')
    for key, code in geoip.continents.items():
        if not _country.fullmatch(key) or code.upper() not in CONTINENTS:
            source.report(f"geoip.continents.{key}", f"expected country = one of {', '.join(CONTINENTS)}")
    return msgspec.structs.replace(
        geoip,
        overrides={key: code.upper() for key, code in geoip.overrides.items()},
        continents={key.upper(): code.upper() for key, code in geoip.continents.items()},
    )


def is_path_or_url(text: str) -> bool:
    """Return whether a text is a path, or a complete file, http or https URL."""
    if "://" not in text:
        return True
    try:
        parts = urlsplit(text)
        return bool(parts.path if parts.scheme == "file" else parts.scheme in ("http", "https") and parts.hostname)
    except ValueError:
        return False


def is_network(text: str) -> bool:
    """Return whether a text is an address or a network."""
    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    return True
