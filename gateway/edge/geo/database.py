"""GeoIP databases: read from a file or downloaded, decompressed, opened and checked with sample lookups.

Source: reference 14.3; MaxMind DB file format specification 2.0. A database is wholly in memory, so its file
may be overwritten while it is in use.
"""

from __future__ import annotations

import asyncio
import gzip
import io
import struct
import tarfile
import zlib
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit

import aiohttp
import maxminddb
from yarl import URL

MAX_SIZE = 536_870_912  # bytes, compressed or not; the largest known database of cities has a quarter of that

_MAXMIND = "https://download.maxmind.com/app/geoip_download"
_GEOLITE = {"edition_id": "GeoLite2-Country", "suffix": "tar.gz"}
_GZIP = b"\x1f\x8b"
_timeout = aiohttp.ClientTimeout(total=600, sock_connect=10, sock_read=30)
_SAMPLES = 64  # addresses that are looked up before a database is accepted

# Exceptions of maxminddb for a damaged database, or for data of another format; InvalidDatabaseError is a RuntimeError.
DAMAGED_DATABASE_ERRORS = (RuntimeError, ValueError, LookupError, TypeError, struct.error)
_DAMAGED_ARCHIVE_ERRORS = (tarfile.TarError, zlib.error, EOFError, OSError)


class UnusableDatabase(Exception):
    """No usable database could be read; the text names neither its path or URL nor an address."""


class DatabaseDownload:
    """A database at a URL; downloaded again only if its ETag has changed."""

    def __init__(self, url: str, license_key: str = "") -> None:
        """Use the URL, or if it is empty MaxMind's GeoLite2 Country database, which needs a licence key."""
        self._url = url or _MAXMIND
        self._query = None if url else _GEOLITE | {"license_key": license_key}
        self._etag = ""

    async def read(self) -> maxminddb.Reader | None:
        """Return the database, or ``None`` if it has not changed since the last call.

        Raises:
            UnusableDatabase: the download failed, or is not a database.
        """
        headers = {"If-None-Match": self._etag} if self._etag else {}
        body = io.BytesIO()
        try:
            async with (
                aiohttp.ClientSession(timeout=_timeout, auto_decompress=False) as session,
                session.get(URL(self._url), params=self._query, headers=headers) as response,
            ):
                if response.status == 304 and self._etag:
                    return None
                if response.status != 200:
                    raise UnusableDatabase(f"the server answered with status {response.status}")
                async for chunk in response.content.iter_chunked(65_536):
                    body.write(chunk)
                    if body.tell() > MAX_SIZE:
                        raise UnusableDatabase("it is too large")
                etag = response.headers.get("ETag", "")
        except (aiohttp.ClientError, OSError, ValueError) as error:  # TimeoutError is an OSError
            raise UnusableDatabase(f"it cannot be downloaded ({type(error).__name__})") from error
        database = await asyncio.to_thread(_open, body)
        self._etag = etag
        return database


class DatabaseFile:
    """A database file; read again only if it has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._state: tuple[int, int, int] | None = None

    async def read(self) -> maxminddb.Reader | None:
        """Return the database, or ``None`` if it has not changed since the last call.

        Raises:
            UnusableDatabase: the file cannot be read, or is not a database.
        """
        return await asyncio.to_thread(self._read)

    def _read(self) -> maxminddb.Reader | None:
        try:
            status = self._path.stat()
            state = (status.st_ino, status.st_size, status.st_mtime_ns)
            if state == self._state:
                return None
            if status.st_size > MAX_SIZE:
                raise UnusableDatabase("it is too large")
            data = self._path.read_bytes()
        except OSError as error:
            raise UnusableDatabase(f"the file cannot be read ({error.strerror})") from error
        database = _open(io.BytesIO(data))
        self._state = state
        return database


def database_source(database: str, license_key: str) -> DatabaseDownload | DatabaseFile | None:
    """Return the source for a path or URL, or MaxMind's for a licence key alone; ``None`` if both are empty."""
    parts = urlsplit(database)
    if parts.scheme in ("http", "https") or (license_key and not database):
        return DatabaseDownload(database, license_key)
    if not database:
        return None
    return DatabaseFile(Path(unquote(parts.path) if parts.scheme == "file" else database))


def _open(data: io.BytesIO) -> maxminddb.Reader:
    """Decompress and open a database and look sample addresses up; slow, to be called in a thread."""
    data.seek(0)
    try:
        if data.getvalue().startswith(_GZIP):
            data = _decompressed(data)
        database = maxminddb.open_database(data, maxminddb.MODE_FD)
        for number in range(_SAMPLES):
            database.get(IPv4Address(number << 26 | 1 << 24 | 1))
            if database.metadata().ip_version == 6:
                database.get(IPv6Address(0x2000 + (number << 7) << 112 | 1))
    except (*DAMAGED_DATABASE_ERRORS, *_DAMAGED_ARCHIVE_ERRORS) as error:
        raise UnusableDatabase(f"it is not a database ({type(error).__name__})") from error
    return database


def _decompressed(data: io.BytesIO) -> io.BytesIO:
    content = _read_limited(gzip.GzipFile(fileobj=data))
    if not tarfile.is_tarfile(content):
        content.seek(0)
        return content
    content.seek(0)
    with tarfile.open(fileobj=content) as archive:
        for member in archive:
            found = archive.extractfile(member) if member.name.endswith(".mmdb") else None
            if found is not None:
                return _read_limited(found)
    raise UnusableDatabase("the archive contains no database")


def _read_limited(compressed: IO[bytes] | gzip.GzipFile) -> io.BytesIO:
    content = compressed.read(MAX_SIZE + 1)
    if len(content) > MAX_SIZE:
        raise UnusableDatabase("it is too large")
    return io.BytesIO(content)
