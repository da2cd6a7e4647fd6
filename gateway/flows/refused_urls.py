"""Descriptions of refused backend URLs for the log: the refused URL, the nearest configured one, and the difference.

A URL in a request may contain anything: only scheme, host, port and a part of the path are shown.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from gateway.core.backends import Backends, canonical
from gateway.core.limits import Backend

LONGEST_SHOWN = 200  # characters of a URL
LONGEST_SEGMENT = 40  # characters of one part of its path

_http_url = re.compile(r"https?://[\w.:\[\]-]+(?:/[\w.~%+-]*)*", re.ASCII | re.IGNORECASE)
_long_segment = re.compile(rf"(?<=/)[^/]{{{LONGEST_SEGMENT + 1},}}")

_HINTS = {
    "host": "if both are one Nextcloud, add the refused URL to urls of [[backend]] {id}, or correct overwritehost and"
    " overwrite.cli.url in Nextcloud's config.php",
    "path": "urls of [[backend]] {id} must end with the folder in which Nextcloud is installed, without index.php",
    "port": "correct urls of [[backend]] {id}, or overwritehost in Nextcloud's config.php",
    "scheme": "correct urls of [[backend]] {id}, or overwriteprotocol in Nextcloud's config.php, which a reverse proxy"
    " with TLS requires",
}


def shown(url: str) -> str:
    """Return scheme, host, port and path of a URL; if it has user information, or is no URL, a description."""
    if not url:
        return "no URL"
    if "@" in url:
        return "a URL with user information"
    with contextlib.suppress(ValueError):  # shown as far as it can be read
        url = canonical(url[:LONGEST_SHOWN])
    match = _http_url.match(url[:LONGEST_SHOWN])
    return "a text that is no http or https URL" if match is None else _long_segment.sub("…", match[0])


def origin(url: str) -> str:
    """Return the part of ``shown`` before the path."""
    return "/".join(shown(url).split("/")[:3])


@dataclass(frozen=True, slots=True)
class UnknownUrl:
    """The sentence about a URL that no backend has; ``str`` computes it only for the few that are logged."""

    url: str
    backends: Backends

    def __str__(self) -> str:
        sentence, bases = f"no backend is configured for {shown(self.url)}", list(_bases(self.backends))
        try:
            refused = canonical(self.url[:LONGEST_SHOWN])
        except ValueError:
            return f"{sentence}, which is not the base URL of a Nextcloud"
        if not bases:
            return sentence
        nearest, backend = max(bases, key=lambda base: _similarity(refused, base[0]))
        parts = _differences(refused, nearest)
        verb = "differs" if len(parts) == 1 else "differ"
        hint = _HINTS[parts[0]].format(id=backend.id) if parts else ""
        sentence += f"; the nearest URL is {nearest} of backend {backend.id}, the {' and '.join(parts)} {verb}"
        return f"{sentence}: {hint}"


def _bases(backends: Backends) -> Iterator[tuple[str, Backend]]:
    return ((canonical(url), backend) for backend in backends for url in backend.urls)


def _similarity(refused: str, configured: str) -> tuple[bool, int]:
    """Return a sort key: whether the hosts are equal, and the number of characters that agree at start and end.

    Computed for each configured URL when a line is logged: ``difflib`` would need a millisecond for each.
    """
    same_host = urlsplit(refused).hostname == urlsplit(configured).hostname
    return same_host, _prefix_length(refused, configured) + _prefix_length(reversed(refused), reversed(configured))


def _prefix_length(one: Iterable[str], other: Iterable[str]) -> int:
    """Return the length of the common prefix of two texts."""
    count = 0
    for character, expected in zip(one, other, strict=False):
        if character != expected:
            break
        count += 1
    return count


def _differences(refused: str, configured: str) -> list[str]:
    """Return the parts in which a canonical URL differs from a configured base URL, the most probable mistake first."""
    (scheme, netloc, path), (known_scheme, known_netloc, known_path) = (_parts(url) for url in (refused, configured))
    (host, port), (known_host, known_port) = ((it.hostname, it.port) for it in map(urlsplit, (refused, configured)))
    differs = {
        "host": host != known_host,
        "path": not path.startswith(known_path),
        "port": netloc != known_netloc and host == known_host and port != known_port,
        "scheme": scheme != known_scheme,
    }
    return [part for part, different in differs.items() if different]


def _parts(url: str) -> tuple[str, str, str]:
    """Return scheme, host with port, and path of a URL; the path ends with a slash."""
    split = urlsplit(url)
    return split.scheme, split.netloc, split.path if split.path.endswith("/") else split.path + "/"
