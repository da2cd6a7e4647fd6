"""Databases, settings and sources of the GeoIP tests."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address

import maxminddb

from gateway.edge.geo import database
from gateway.edge.geo.database import UnusableDatabase
from gateway.edge.geo.geoip import GeoIp, LocationRules
from tests.gateway.edge.geo import mmdb

SWISS, JAPANESE, ELSEWHERE = "192.0.2.7", "2001:db8::1", "203.0.113.1"
DATABASE = mmdb.write(
    {"192.0.2.0/24": mmdb.country_record("CH", "EU"), "2001:db8::/32": mmdb.country_record("JP", "AS")}
)
OTHER = mmdb.write({"192.0.2.0/24": mmdb.country_record("FR", "EU")})


@dataclass
class FakeGeoIpSettings:
    """Settings of the section ``[geoip]``."""

    database: str = ""
    license_key: str = ""
    overrides: dict[str, str] = field(default_factory=dict)
    continents: dict[str, str] = field(default_factory=dict)


def rules(
    database: str = "",
    license_key: str = "",
    overrides: Mapping[str, str] | None = None,
    continents: Mapping[str, str] | None = None,
) -> LocationRules:
    """Return the rules of a section ``[geoip]``."""
    return LocationRules.of(FakeGeoIpSettings(database, license_key, dict(overrides or {}), dict(continents or {})))


def country(geoip: GeoIp, address: str = SWISS) -> str:
    """Return the country of an address."""
    return geoip.locate(ip_address(address)).country


class ScriptedSource:
    """Database source that answers each read with the next of the given results."""

    def __init__(self, *answers: bytes | str | None) -> None:
        self.answers = list(answers)
        self.times: list[float] = []  # of the reads
        self.empty = asyncio.Event()

    async def read(self) -> maxminddb.Reader | None:
        self.times.append(asyncio.get_running_loop().time())
        answer = self.answers.pop(0)
        if not self.answers:
            self.empty.set()
        if isinstance(answer, str):
            raise UnusableDatabase(answer)
        return None if answer is None else database._open(io.BytesIO(answer))
