"""The configured Nextcloud backends, found by URL.

Source: reference 3.1 (canonical form), 3.6 (matching, pseudo backend ``compat``), 1.4 row 8 (all secrets).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from ipaddress import IPv6Address

from gateway.core.limits import Backend

COMPAT = "compat"  # id of the pseudo backend that matches every URL

_ENDPOINT = "/ocs/v2.php/apps/spreed/"  # old clients send the full endpoint, the base ends before it

# No user info, query, fragment, backslash, blank or control character: two URL parsers may read different hosts or
# paths from a URL with one of them.
_absolute_url = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s\x00-\x1f\x7f/?#@:\\\[\]]+)(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[^\s\x00-\x1f\x7f?#\\]*)",
    re.IGNORECASE,
)
_host_name = re.compile(r"[a-z0-9_][a-z0-9._-]*")
_percent_encoded = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_unreserved_character = re.compile(r"[A-Za-z0-9._~-]")
_unsafe_characters = re.compile(r"[^A-Za-z0-9._~/%!$&'()*+,;=:@-]+")  # characters to encode in a path (RFC 3986, 3.3)
_dot_segment = re.compile(r"/\.{1,2}(?:;[^/]*)?/")  # also with parameters, which some servers remove first
_default_ports = {"http": 80, "https": 443}

# Anyone may send a URL, and to encode the host or path of a long one takes a tenth of a second.
MAX_URL_LENGTH = 2048  # characters of a URL, also in canonical form
MAX_HOST_LENGTH = 255  # characters; a name in DNS has at most 253

_CACHE_SIZE = 128  # URLs whose canonical form is kept
_KEPT_LENGTH = 256  # characters of such a URL at most


def canonical(url: str) -> str:
    """Return the base URL in canonical form for comparison: with a final slash, without a default port.

    Scheme and host are in lower case (a host name outside ASCII is encoded by IDNA), and path characters that need no
    percent-encoding are decoded, so that two URLs of one resource are equal (RFC 3986, 6.2.2).

    Raises:
        ValueError: not an absolute http or https URL, or one that two programs may read differently: with a query, user
            info, a dot segment, or an encoded slash, backslash, percent sign or control character; or too long.
    """
    return _canonical_kept(url) if len(url) <= _KEPT_LENGTH else _canonical(url)


def _canonical(url: str) -> str:
    if len(url) > MAX_URL_LENGTH:
        raise ValueError(f"longer than {MAX_URL_LENGTH} characters")
    base = (url if url.endswith("/") else url + "/").partition(_ENDPOINT)[0]
    match = _absolute_url.fullmatch(base if base.endswith("/") else base + "/")
    if match is None:
        raise ValueError("not an absolute http or https URL")
    if len(match["host"]) > MAX_HOST_LENGTH:
        raise ValueError(f"a host with more than {MAX_HOST_LENGTH} characters")
    scheme, port, path = match["scheme"].lower(), int(match["port"] or 0), _normal_path(match["path"])
    if port > 65535:
        raise ValueError("no such port")
    suffix = "" if port in (0, _default_ports[scheme]) else f":{port}"
    base_url = f"{scheme}://{_normal_host(match['host'])}{suffix}{path}"
    if len(base_url) > MAX_URL_LENGTH:
        raise ValueError(f"longer than {MAX_URL_LENGTH} characters")
    return base_url


_canonical_kept = lru_cache(_CACHE_SIZE)(_canonical)


def base_of(backend: Backend, url: str) -> str:
    """Return the longest of the backend's URLs that is a prefix of the canonical ``url``; without one its first URL.

    For the pseudo backend, which has no URLs, return ``url`` itself.
    """
    bases = [canonical(configured) for configured in backend.urls]
    return max((base for base in bases if url.startswith(base)), key=len, default=bases[0] if bases else url)


def _normal_host(host: str) -> str:
    if host.startswith("["):
        return f"[{IPv6Address(host[1:-1])}]"
    name = (host if host.isascii() else host.encode("idna").decode()).lower()
    if _host_name.fullmatch(name) is None:
        raise ValueError("not the name or address of a host")
    return name


def _normal_path(path: str) -> str:
    path = _unsafe_characters.sub(lambda match: _encode(match[0]), path)
    if "%" in _percent_encoded.sub("", path):
        raise ValueError("an incomplete percent-encoding")
    path = _percent_encoded.sub(_normal_encoding, path)
    if _dot_segment.search(path):
        raise ValueError("a dot segment")
    return path


def _normal_encoding(match: re.Match[str]) -> str:
    """Decode the characters of a percent-encoded part that need no encoding."""
    text = bytes.fromhex(match[0].replace("%", "")).decode()
    if any(character in "/\\%\x7f" or character < " " for character in text):
        raise ValueError("an encoded delimiter")
    return "".join(character if _unreserved_character.match(character) else _encode(character) for character in text)


def _encode(text: str) -> str:
    return "".join(f"%{octet:02X}" for octet in text.encode())


class Backends:
    """The configured backends, found by the URL that a client or Nextcloud sends.

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

    @property
    def secrets(self) -> dict[str, str]:
        """The secrets by id of the backend."""
        return {backend.id: backend.secret for backend in self}

    def by_id(self, id: str) -> Backend | None:
        """Return the backend with this id."""
        return self._by_id.get(id)

    def may_continue(self, backend: Backend, url: str) -> bool:
        """Return whether a session may continue that was opened at ``url`` with the old settings ``backend`` (3.6).

        It has to end if another backend has the URL now, or if no backend has the URL and the secret of the backend has
        changed: then the backend's id belongs to another Nextcloud, with users of its own. Sessions of a removed
        backend go on.
        """
        changed, owner = self._by_id.get(backend.id), self.find(url)
        if owner is not None and owner is not self._compat:
            return owner is changed
        return changed is None or changed is self._compat or changed.secret == backend.secret

    def find(self, url: str) -> Backend | None:
        """Return the first backend with a URL that is a prefix of ``url``, else ``compat``.

        ``None``: the URL is invalid, or no backend matches and ``compat`` is not configured.
        """
        found = self.find_with_base_url(url)
        return None if found is None else found[0]

    def find_with_base_url(self, url: str) -> tuple[Backend, str] | None:
        """Return the backend of a URL and its configured base URL, to which the gateway sends its requests (3.6).

        The client chooses the rest of the URL, which could lead to another program on the host. ``compat`` has no
        configured base URL; its requests go to the URL itself. ``None``: as for ``find``.
        """
        try:
            base = canonical(url)
        except ValueError:
            return None
        found: tuple[Backend, str] | None = None
        for prefix, backend in self._by_origin.get(_origin(base), ()):
            if not base.startswith(prefix):
                continue
            if found is None or (found[0] is backend and len(prefix) > len(found[1])):
                found = backend, prefix
        return found or (None if self._compat is None else (self._compat, base))


def _origin(url: str) -> str:
    return url[: url.index("/", len("https://"))]
