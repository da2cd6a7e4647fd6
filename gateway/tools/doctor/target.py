"""The signaling server that the doctor tests; earlier steps set what later steps check."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from gateway.config import Config, listen_address

_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
_PORTS = {"http": 80, "https": 443}
_ENDPOINT = "/spreed"  # Talk appends it to the URL of its settings


@dataclass(slots=True)
class Target:
    """A signaling server by its base URL, as in Talk's settings, without a slash at the end."""

    url: str
    addresses: list[str] = field(default_factory=list)  # of the host, numeric
    header_features: frozenset[str] = frozenset()  # listed in a header of its HTTP responses
    clock_offset: float | None = None  # seconds by which its clock is ahead of this machine's; None: it has no date

    @property
    def scheme(self) -> str:
        """``http`` or ``https``."""
        return urlsplit(self.url).scheme

    @property
    def host(self) -> str:
        """Its host, without brackets."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """Its port."""
        return urlsplit(self.url).port or _PORTS[self.scheme]

    @property
    def path(self) -> str:
        """The path below which a proxy serves it; empty for the root."""
        return urlsplit(self.url).path.rstrip("/")


def target(url: str) -> Target:
    """Return the target for a URL as people write it: also with ``ws``, or with ``/spreed`` at the end.

    Raises:
        ValueError: it is no such URL.
    """
    parts = urlsplit(url)
    scheme = _SCHEMES.get(parts.scheme.lower())
    if scheme is None or not parts.hostname or parts.port == 0:
        raise ValueError("expected a URL like https://signal.example.com/standalone-signaling/")
    path = parts.path.rstrip("/").removesuffix(_ENDPOINT).rstrip("/")
    return Target(f"{scheme}://{parts.netloc.rpartition('@')[2]}{path}")


def local_url(config: Config) -> str:
    """Return the URL of the first TCP address that a configuration listens on; empty if there is none.

    Empty with TLS, too: the certificate is for a domain name, not for the address.
    """
    for text in () if config.http.certificate else config.http.listen:
        address = listen_address(text)
        if address is not None and address[1]:
            host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(address[0], address[0])
            return f"http://{f'[{host}]' if ':' in host else host}:{address[1]}"
    return ""
