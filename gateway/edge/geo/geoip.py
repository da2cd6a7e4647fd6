"""Which country an address is in.

Source: reference 14.3: what the operator says, loopback, a database in MaxMind's format, unknown. The
database is read anew once a day, and one that cannot be had or used never takes the place of one that can. Addresses
are looked up in memory and reach no log.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, Protocol

import maxminddb

from gateway.core.geolocation import LOOPBACK, UNKNOWN, GeoLocation
from gateway.core.throttle import Address
from gateway.edge.geo import database as geoip_source
from gateway.edge.geo.continents import continent_of
from gateway.edge.geo.database import DAMAGE, UnusableDatabase

REFRESH = 86_400.0  # seconds between two looks at the source
FIRST_RETRY = 1.0  # seconds; doubled by each further failure
LAST_RETRY = 300.0  # seconds
PATIENCE = 5.0  # seconds that the start waits for a database

log = logging.getLogger("portunus.geoip")
_code = re.compile(r"[A-Z]{2}")


class GeoIpSettings(Protocol):
    """What the operator says of countries."""

    @property
    def database(self) -> str:
        """A path or URL; empty: none."""

    @property
    def license_key(self) -> str:
        """MaxMind's, to get the database from there."""

    @property
    def overrides(self) -> Mapping[str, str]:
        """Country by address or network."""

    @property
    def continents(self) -> Mapping[str, str]:
        """Continent by country, where it is another one than the usual one."""


class DatabaseSource(Protocol):
    """Where the database comes from."""

    async def read(self) -> maxminddb.Reader | None:
        """Return the database; ``None``: it is the one returned before.

        Raises:
            UnusableDatabase: there is none.
        """


class GeoIp:
    """Knows countries; ``start`` and ``stop`` it. ``find`` tells the source by path or URL, and licence key."""

    def __init__(
        self, settings: GeoIpSettings, find: Callable[[str, str], DatabaseSource | None] = geoip_source.source
    ) -> None:
        self._find = find
        self._take(settings)
        self._database: maxminddb.Reader | None = None
        self._task: asyncio.Task[None] | None = None
        self._tried = asyncio.Event()

    async def start(self) -> None:
        """Get the database, and wait for it a little."""
        source = self._find(self._settings.database, self._settings.license_key)
        if source is None:
            return
        self._tried.clear()
        self._task = asyncio.create_task(self._keep(source), name="geoip")
        try:
            async with asyncio.timeout(PATIENCE):
                await self._tried.wait()
        except TimeoutError:
            pass

    async def stop(self) -> None:
        """Look no more for new databases. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def reconfigure(self, settings: GeoIpSettings) -> None:
        """Take changed settings; a database that goes on is looked at again, one that is named no more is dropped."""
        same = (settings.database, settings.license_key) == (self._settings.database, self._settings.license_key)
        self._take(settings)
        await self.stop()
        if not same:
            self._database = None
        await self.start()

    def locate(self, address: Address) -> GeoLocation:
        """Return where an address is."""
        for network, country in self._overrides:
            if address in network:
                return GeoLocation(country, self._continents.get(country) or continent_of(country))
        if address.is_loopback:
            return LOOPBACK
        return UNKNOWN if self._database is None else self._look_up(self._database, address)

    def _look_up(self, database: maxminddb.Reader, address: Address) -> GeoLocation:
        try:
            record = database.get(address)
        except DAMAGE:  # or it has no IPv6
            return UNKNOWN
        country = _member(record, "country", "iso_code")
        if not _code.fullmatch(country):
            return UNKNOWN
        continent = self._continents.get(country) or _member(record, "continent", "code") or continent_of(country)
        return GeoLocation(country, continent)

    def _take(self, settings: GeoIpSettings) -> None:
        self._settings = settings
        named = ((ip_network(text, strict=False), code.upper()) for text, code in settings.overrides.items())
        self._overrides: list[tuple[IPv4Network | IPv6Network, str]] = sorted(
            named, key=lambda it: it[0].prefixlen, reverse=True
        )  # the narrowest first
        self._continents = settings.continents

    async def _keep(self, source: DatabaseSource) -> None:
        failures = 0
        while True:
            try:
                database = await source.read()
            except UnusableDatabase as error:
                level = logging.INFO if failures else logging.WARNING
                kept = "the old one stays in use" if self._database is not None else "countries are unknown"
                log.log(level, "no new GeoIP database: %s; %s", error, kept)
                delay = min(FIRST_RETRY * 2**failures, LAST_RETRY)
                failures += 1
            else:
                if database is not None:
                    self._database = database
                    metadata = database.metadata()
                    log.info("GeoIP database %s, built at %d, is in use", metadata.database_type, metadata.build_epoch)
                delay, failures = REFRESH, 0
            self._tried.set()
            await asyncio.sleep(delay)


def _member(record: Any, *names: str) -> str:
    for name in names:
        record = record.get(name) if isinstance(record, dict) else None
    return record if isinstance(record, str) else ""
