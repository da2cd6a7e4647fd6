"""Countries of addresses: overrides, lookups in databases, and sources of databases."""

from __future__ import annotations

import gzip
import io
import logging
import random
import re
import tarfile
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from string import ascii_uppercase

import aiohttp
import msgspec
import pytest
from aiohttp import web

from gateway.app import Gateway
from gateway.config import Config, GeoIpSection, HttpSection, SessionsSection
from gateway.core.geolocation import LOOPBACK, UNKNOWN_COUNTRY, GeoLocation
from gateway.edge.geo import database
from gateway.edge.geo.continents import continent_of
from gateway.edge.geo.database import DatabaseDownload, DatabaseFile, UnusableDatabase
from gateway.edge.geo.geoip import GeoIp
from gateway.tools.fake_nextcloud import FakeNextcloud
from tests.captured_log import captured_lines
from tests.gateway.edge.geo import mmdb
from tests.gateway.edge.geo.sources import DATABASE, ELSEWHERE, JAPANESE, OTHER, SWISS, country, rules
from tests.gateway.edge.serving import served_routes


def archived(data: bytes, name: str = "GeoLite2-Country_20261122/GeoLite2-Country.mmdb") -> bytes:
    """Return a tar archive in the form of MaxMind's downloads."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for member, content in (("GeoLite2-Country_20261122/README.txt", b"read me"), (name, data)):
            entry = tarfile.TarInfo(member)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return archive.getvalue()


@pytest.fixture
def log_lines() -> Iterator[list[str]]:
    """Capture the formatted log records of the test."""
    with captured_lines(logging.DEBUG) as lines:
        yield lines


# -- overrides


# reference 14.3-c
def test_narrowest_override_applies_and_precedes_loopback() -> None:
    overrides = {"10.0.0.0/8": "de", "10.1.0.0/16": "ch", "10.1.2.3": "fr", "127.0.0.2": "at", "fd00::/8": "it"}
    geoip = GeoIp(rules(overrides=overrides))
    found = {
        address: country(geoip, address) for address in ("10.9.9.9", "10.1.9.9", "10.1.2.3", "127.0.0.2", "fd01::")
    }
    assert found == {"10.9.9.9": "DE", "10.1.9.9": "CH", "10.1.2.3": "FR", "127.0.0.2": "AT", "fd01::": "IT"}


# reference 14.3-a
@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1"])
def test_loopback_has_no_country(address: str) -> None:
    assert GeoIp(rules()).locate(ip_address(address)) == LOOPBACK


def test_country_is_unknown_without_a_database() -> None:
    assert GeoIp(rules()).locate(ip_address(ELSEWHERE)) == UNKNOWN_COUNTRY


def test_continent_of_an_override_is_the_usual_or_the_configured_one() -> None:
    overrides = {"10.0.0.0/8": "TR", "10.1.0.0/16": "BR", "10.2.0.0/16": "ZZ"}
    geoip = GeoIp(rules(overrides=overrides, continents={"TR": "EU"}))
    assert geoip.locate(ip_address("10.0.0.1")) == GeoLocation("TR", "EU")
    assert geoip.locate(ip_address("10.1.0.1")) == GeoLocation("BR", "SA")
    assert geoip.locate(ip_address("10.2.0.1")) == GeoLocation("ZZ", "")


# reference 14.3-c
def test_each_country_is_on_one_continent() -> None:
    countries = [first + second for first in ascii_uppercase for second in ascii_uppercase]
    assert sum(bool(continent_of(code)) for code in countries) == 250  # the codes of ISO 3166-1, and Kosovo
    assert (continent_of("TR"), continent_of("US"), continent_of("AU")) == ("AS", "NA", "OC")


# -- lookups


async def test_start_waits_until_the_database_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "countries of the world.mmdb"
    path.write_bytes(DATABASE)
    for location in (str(path), path.as_uri()):
        geoip = GeoIp(rules(location, continents={"JP": "OC"}, overrides={"192.0.2.9": "DE"}))
        await geoip.start()
        try:
            assert geoip.locate(ip_address(SWISS)) == GeoLocation("CH", "EU")
            assert geoip.locate(ip_address(JAPANESE)) == GeoLocation("JP", "OC")
            assert geoip.locate(ip_address("192.0.2.9")) == GeoLocation("DE", "EU")
            assert geoip.locate(ip_address(ELSEWHERE)) == UNKNOWN_COUNTRY
            assert geoip.locate(ip_address("::1")) == LOOPBACK
        finally:
            await geoip.stop()
            await geoip.stop()


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"country": {"iso_code": "CH"}}, GeoLocation("CH", "EU")),  # continent from continents.py
        ({"country": {"iso_code": "ch"}}, UNKNOWN_COUNTRY),
        ({"country": {"iso_code": "unknown"}}, UNKNOWN_COUNTRY),
        ({"country": {"iso_code": 7}}, UNKNOWN_COUNTRY),
        ({"country": "CH"}, UNKNOWN_COUNTRY),
        ({"continent": {"code": "EU"}}, UNKNOWN_COUNTRY),
        ("CH", UNKNOWN_COUNTRY),
    ],
)
async def test_malformed_record_has_no_country(tmp_path: Path, record: object, expected: GeoLocation) -> None:
    path = tmp_path / "x.mmdb"
    path.write_bytes(mmdb.write({"192.0.2.0/24": record}, version=4))
    geoip = GeoIp(rules(str(path)))
    await geoip.start()
    await geoip.stop()
    assert geoip.locate(ip_address(SWISS)) == expected
    assert geoip.locate(ip_address(JAPANESE)) == UNKNOWN_COUNTRY  # a database of IPv4 addresses only


async def test_damaged_database_raises_only_unusable_database(tmp_path: Path) -> None:
    """A database with some random bytes is refused, or each lookup in it returns."""
    rng = random.Random(20261122)
    path = tmp_path / "x.mmdb"
    geoip, refused = GeoIp(rules(str(path))), 0
    for _ in range(300):
        data = bytearray(DATABASE)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data)
        try:
            geoip._database = await DatabaseFile(path).read()
        except UnusableDatabase:
            refused += 1
        for address in (SWISS, JAPANESE, ELSEWHERE):
            assert len(country(geoip, address)) in (2, len(UNKNOWN_COUNTRY.country))
    assert 0 < refused < 300


# -- sources


async def test_changed_file_is_read_again_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.mmdb"
    path.write_bytes(DATABASE)
    file = DatabaseFile(path)
    assert await file.read() is not None
    assert await file.read() is None
    for bad in (b"", b"no database", DATABASE[:-40], gzip.compress(DATABASE)[:-200], archived(b"no database")):
        path.write_bytes(bad)
        with pytest.raises(UnusableDatabase):
            await file.read()
    path.write_bytes(OTHER)
    again = await file.read()
    assert again is not None
    path.unlink()
    with pytest.raises(UnusableDatabase, match="the file cannot be read"):
        await file.read()


@pytest.mark.parametrize("body", [DATABASE, gzip.compress(DATABASE), archived(DATABASE)], ids=["plain", "gz", "tar.gz"])
async def test_database_is_downloaded_and_decompressed(body: bytes) -> None:
    async def handle(request: web.Request) -> web.Response:
        return web.Response(body=body)

    async with served_routes([web.get("/countries", handle)]) as (host, port):
        database = await DatabaseDownload(f"http://{host}:{port}/countries").read()
    assert database is not None
    assert database.get(SWISS) == mmdb.country_record("CH", "EU")


async def test_unchanged_database_is_not_downloaded_again() -> None:
    asked = []

    async def handle(request: web.Request) -> web.Response:
        asked.append(request.headers.get("If-None-Match"))
        same = asked[-1] == '"1"'
        return web.Response(status=304) if same else web.Response(body=DATABASE, headers={"ETag": '"1"'})

    async with served_routes([web.get("/", handle)]) as (host, port):
        download = DatabaseDownload(f"http://{host}:{port}/")
        assert await download.read() is not None
        assert await download.read() is None
    assert asked == [None, '"1"']


async def test_failed_download_is_an_error_without_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [
        web.Response(body=DATABASE),
        web.Response(status=304),
        web.Response(status=500, body=OTHER),
        web.Response(body=OTHER[:-40]),
        web.Response(body=b"<html>Log in</html>"),
        web.Response(body=archived(OTHER, "x/README.md")),
        web.Response(body=gzip.compress(b"x" * 5000)),
        web.Response(body=b"x" * 5000),
        "cut",
        web.Response(body=OTHER),
    ]
    monkeypatch.setattr(database, "MAX_SIZE", 4096)

    async def handle(request: web.Request) -> web.StreamResponse:
        answer = answers.pop(0)
        if isinstance(answer, web.Response):
            return answer
        cut = web.StreamResponse(headers={"Content-Length": str(len(OTHER))})
        await cut.prepare(request)
        await cut.write(OTHER[:100])
        assert request.transport is not None
        request.transport.abort()
        return cut

    async with served_routes([web.get("/", handle)]) as (host, port):
        download = DatabaseDownload(f"http://{host}:{port}/")
        assert await download.read() is not None
        for _ in range(8):
            with pytest.raises(UnusableDatabase) as caught:
                await download.read()
            assert host not in str(caught.value)
        assert await download.read() is not None
    for unreachable in (download, DatabaseDownload("http://127.0.0.1:99999/")):
        with pytest.raises(UnusableDatabase, match="cannot be downloaded"):
            await unreachable.read()


def test_licence_key_alone_selects_maxmind() -> None:
    found = database.database_source("", "abc")
    assert isinstance(found, DatabaseDownload)
    assert found._url.startswith("https://download.maxmind.com/")
    assert found._query == {"edition_id": "GeoLite2-Country", "license_key": "abc", "suffix": "tar.gz"}
    assert isinstance(database.database_source("https://mirror.example/x.mmdb", "abc"), DatabaseDownload)
    assert isinstance(database.database_source("/x.mmdb", "abc"), DatabaseFile)
    assert database.database_source("", "") is None


# -- updates


async def test_changed_configuration_applies_at_once(tmp_path: Path, log_lines: list[str]) -> None:
    first, other = tmp_path / "first.mmdb", tmp_path / "other.mmdb"
    first.write_bytes(DATABASE)
    other.write_bytes(OTHER)
    geoip = GeoIp(rules(str(first), overrides={ELSEWHERE: "US"}))
    await geoip.start()
    try:
        assert (country(geoip), country(geoip, ELSEWHERE)) == ("CH", "US")
        geoip.apply(rules(str(other)))
        assert country(geoip) == UNKNOWN_COUNTRY.country
        await geoip.wait_for_first_read()
        assert (country(geoip), country(geoip, ELSEWHERE)) == ("FR", UNKNOWN_COUNTRY.country)
        other.write_bytes(b"broken meanwhile")
        geoip.apply(rules(str(other), overrides={ELSEWHERE: "US"}))
        await geoip.wait_for_first_read()
        assert (country(geoip), country(geoip, ELSEWHERE)) == ("FR", "US")
        geoip.apply(rules())
        assert country(geoip) == UNKNOWN_COUNTRY.country
    finally:
        await geoip.stop()
    assert any("no new GeoIP database" in line for line in log_lines)
    assert not any(part in line for line in log_lines for part in (SWISS, ELSEWHERE, str(tmp_path)))


async def test_gateway_counts_clients_by_country(tmp_path: Path, log_lines: list[str]) -> None:
    """The address is that in a proxy's header, and no address is logged."""
    path = tmp_path / "x.mmdb"
    path.write_bytes(DATABASE)
    async with FakeNextcloud() as nextcloud, aiohttp.ClientSession() as http:
        base = Config(
            sessions=SessionsSection(secret="6f1b0c7d9ae24835b6cf01d27e9a4488"),
            http=HttpSection(listen=("127.0.0.1:0",)),
            backends=(nextcloud.backend(),),
            geoip=GeoIpSection(str(path), overrides={ELSEWHERE: "US"}),
        )
        gateway = Gateway(base)
        (url,) = await gateway.start()
        nextcloud.gateway = url
        try:
            for address in (SWISS, SWISS, JAPANESE, ELSEWHERE, "198.51.100.1", "127.0.0.1"):
                auth = {"url": nextcloud.url, "params": nextcloud.ticket("anna")}
                async with http.ws_connect(f"{url}/spreed", headers={"X-Real-IP": address}) as client:
                    await client.receive()
                    await client.send_json({"type": "hello", "hello": {"version": "1.0", "auth": auth}})
                    assert (await client.receive_json())["type"] == "hello"
            assert await gateway.reload(msgspec.structs.replace(base, geoip=GeoIpSection())) == []
            async with http.get(f"{url}/metrics") as response:
                counts = re.findall(r'signaling_client_countries_total{country="(\w+)"} (\S+)', await response.text())
        finally:
            await gateway.stop()
    assert sorted(counts) == [("CH", "2.0"), ("JP", "1.0"), ("US", "1.0")]
    assert not any(address in line for line in log_lines for address in (SWISS, JAPANESE, ELSEWHERE, "198.51.100.1"))
