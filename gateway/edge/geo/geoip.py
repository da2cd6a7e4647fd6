"""The country and continent of IP addresses.

Source: reference 14.3: in this order the operator's overrides, loopback, a database in MaxMind's format, unknown. The
database is read again once a day; an unreadable database never replaces a usable one. Lookups are in memory, and no
address is logged.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, Protocol

import maxminddb

from gateway.core.geolocation import LOOPBACK, UNKNOWN_COUNTRY, GeoLocation
from gateway.core.throttle import Address
from gateway.edge.geo.continents import continent_of
from gateway.edge.geo.database import DAMAGED_DATABASE_ERRORS, UnusableDatabase, database_source

REFRESH_PERIOD = 86_400.0  # seconds between two reads of the source
FIRST_RETRY_DELAY = 1.0  # seconds; doubled after each further failure
MAX_RETRY_DELAY = 300.0  # seconds
START_TIMEOUT = 5.0  # seconds that ``start`` waits for the first read

log = logging.getLogger("portunus.geoip")
_country_code = re.compile(r"[A-Z]{2}")


class GeoIpSettings(Protocol):
    """The part of the configuration about countries."""

    @property
    def database(self) -> str:
        """Path or URL of the database; empty: none."""

    @property
    def license_key(self) -> str:
        """MaxMind's licence key, for a download of its database."""

    @property
    def overrides(self) -> Mapping[str, str]:
        """Country by address or network."""

    @property
    def continents(self) -> Mapping[str, str]:
        """Continent by country, where it differs from the usual one."""


class DatabaseSource(Protocol):
    """A source of GeoIP databases."""

    async def read(self) -> maxminddb.Reader | None:
        """Return the database, or ``None`` if it has not changed since the last call.

        Raises:
            UnusableDatabase: no usable database could be read.
        """


@dataclass(frozen=True, slots=True)
class LocationRules:
    """The settings about countries, ready for lookups."""

    database: str
    license_key: str
    overrides: tuple[tuple[IPv4Network | IPv6Network, str], ...]  # the narrowest network first
    continents: Mapping[str, str]

    @staticmethod
    def of(settings: GeoIpSettings) -> LocationRules:
        """Parse the networks of settings.

        Raises:
            ValueError: an override is neither for an address nor for a network.
        """
        overrides = ((ip_network(text, strict=False), code.upper()) for text, code in settings.overrides.items())
        narrowest_first = sorted(overrides, key=lambda override: override[0].prefixlen, reverse=True)
        return LocationRules(settings.database, settings.license_key, tuple(narrowest_first), settings.continents)


class GeoIp:
    """Looks up locations of addresses; ``find_source`` returns the source for a path or URL and a licence key."""

    def __init__(
        self, rules: LocationRules, find_source: Callable[[str, str], DatabaseSource | None] = database_source
    ) -> None:
        self._find_source = find_source
        self._rules = rules
        self._database: maxminddb.Reader | None = None
        self._task: asyncio.Task[None] | None = None
        self._cancelled: set[asyncio.Task[None]] = set()  # tasks of earlier rules
        self._first_read = asyncio.Event()

    async def start(self) -> None:
        """Begin to read the database, and wait up to ``START_TIMEOUT`` seconds for the first read."""
        self._begin()
        await self.wait_for_first_read()

    def _begin(self) -> None:
        source = self._find_source(self._rules.database, self._rules.license_key)
        if source is not None:
            self._first_read.clear()
            self._task = asyncio.create_task(self._read_repeatedly(source), name="geoip")

    async def wait_for_first_read(self) -> None:
        """Wait up to ``START_TIMEOUT`` seconds until the database of the present rules, if any, was read once."""
        if self._task is None:
            return
        try:
            async with asyncio.timeout(START_TIMEOUT):
                await self._first_read.wait()
        except TimeoutError:
            pass

    async def stop(self) -> None:
        """Stop reading new databases. Idempotent."""
        self._end()
        if self._cancelled:
            await asyncio.wait(self._cancelled)

    def _end(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            self._cancelled.add(task)
            task.add_done_callback(self._cancelled.discard)

    def apply(self, rules: LocationRules) -> None:
        """Replace the rules and read the database again; if its path, URL or key changed, drop the one in use first."""
        before, self._rules = self._rules, rules
        if (rules.database, rules.license_key) != (before.database, before.license_key):
            self._database = None
        self._end()
        self._begin()

    def locate(self, address: Address) -> GeoLocation:
        """Return the location of an address."""
        continents = self._rules.continents
        for network, country in self._rules.overrides:
            if address in network:
                return GeoLocation(country, continents.get(country) or continent_of(country))
        if address.is_loopback:
            return LOOPBACK
        return UNKNOWN_COUNTRY if self._database is None else self._look_up(self._database, address)

    def _look_up(self, database: maxminddb.Reader, address: Address) -> GeoLocation:
        try:
            record = database.get(address)
        except DAMAGED_DATABASE_ERRORS:  # also an IPv6 address in a database without IPv6
            return UNKNOWN_COUNTRY
        country = _text_at(record, "country", "iso_code")
        if not _country_code.fullmatch(country):
            return UNKNOWN_COUNTRY
        continent = (
            self._rules.continents.get(country) or _text_at(record, "continent", "code") or continent_of(country)
        )
        return GeoLocation(country, continent)

    async def _read_repeatedly(self, source: DatabaseSource) -> None:
        failed, retry_delay = False, FIRST_RETRY_DELAY
        while True:
            try:
                database = await source.read()
            except UnusableDatabase as error:
                level = logging.INFO if failed else logging.WARNING
                kept = "the old one stays in use" if self._database is not None else "countries are unknown"
                log.log(level, "no new GeoIP database: %s; %s", error, kept)
                failed, delay, retry_delay = True, retry_delay, min(retry_delay * 2, MAX_RETRY_DELAY)
            else:
                if database is not None:
                    self._database = database
                    metadata = database.metadata()
                    log.info("GeoIP database %s, built at %d, is in use", metadata.database_type, metadata.build_epoch)
                failed, delay, retry_delay = False, REFRESH_PERIOD, FIRST_RETRY_DELAY
            self._first_read.set()
            await asyncio.sleep(delay)


def _text_at(record: Any, *names: str) -> str:
    for name in names:
        record = record.get(name) if isinstance(record, dict) else None
    return record if isinstance(record, str) else ""
