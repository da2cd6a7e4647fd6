"""The configured Nextcloud backends, found by URL.

Source: reference 3.1 (canonical form), 3.6 (matching, pseudo backend ``compat``), 1.4 row 8 (all secrets).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from gateway.core.limits import Backend

COMPAT = "compat"  # id of the pseudo backend that matches every URL

_ENDPOINT = "/ocs/v2.php/apps/spreed/"  # old clients send the full endpoint, the base ends before it

# No user info, query, fragment, backslash, blank or control character: two URL parsers may read different hosts or
# paths from a URL with one of them.
_absolute = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s\x00-\x1f\x7f/?#@:\\\[\]]+)(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[^\s\x00-\x1f\x7f?#\\]*)",
    re.IGNORECASE,
)
_dot_segment = re.compile(r"/(?:\.|%2e){1,2}/", re.IGNORECASE)
_default_ports = {"http": 80, "https": 443}


def canonical(url: str) -> str:
    """Return the base URL in canonical form for comparison: with a final slash, without a default port.

    Raises:
        ValueError: not an absolute http or https URL, or a URL with a query or ``..``.
    """
    base = (url if url.endswith("/") else url + "/").partition(_ENDPOINT)[0]
    match = _absolute.fullmatch(base if base.endswith("/") else base + "/")
    if match is None or _dot_segment.search(match["path"]):
        raise ValueError("not an absolute http or https URL")
    scheme, port = match["scheme"].lower(), int(match["port"] or 0)
    if port > 65535:
        raise ValueError("no such port")
    suffix = "" if port in (0, _default_ports[scheme]) else f":{port}"
    return f"{scheme}://{match['host']}{suffix}{match['path']}"


class Backends:
    """The configured backends, found by the URL that a client or Nextcloud names.

    ``compat``, if given, matches any other URL, also http (configuration ``[nextcloud] allow_any``).
    Iterating yields every backend in the order of the configuration, ``compat`` last.
    """

    def __init__(self, backends: Iterable[Backend], compat: Backend | None = None) -> None:
        """Index the backends.

        Raises:
            ValueError: an invalid URL, or an id or URL that two backends share; the text names both.
        """
        self._compat = compat
        self._by_id: dict[str, Backend] = {}
        self._by_origin: dict[str, list[tuple[str, Backend]]] = {}
        owners: dict[str, Backend] = {}
        for backend in (*backends, compat) if compat else tuple(backends):
            if backend.id in self._by_id:
                raise ValueError(f'two backends have the id "{backend.id}"')
            self._by_id[backend.id] = backend
            for url in map(canonical, backend.urls):
                if url in owners:
                    raise ValueError(f'backends "{owners[url].id}" and "{backend.id}" have the same URL {url}')
                owners[url] = backend
                self._by_origin.setdefault(_origin(url), []).append((url, backend))

    def __iter__(self) -> Iterator[Backend]:
        return iter(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)

    def by_id(self, id: str) -> Backend | None:
        """Return the backend with this id."""
        return self._by_id.get(id)

    def find(self, url: str) -> Backend | None:
        """Return the first backend with a URL that is a prefix of ``url``; ``None`` for an invalid URL."""
        try:
            base = canonical(url)
        except ValueError:
            return None
        for prefix, backend in self._by_origin.get(_origin(base), ()):
            if base.startswith(prefix):
                return backend
        return self._compat


def _origin(url: str) -> str:
    return url[: url.index("/", len("https://"))]
