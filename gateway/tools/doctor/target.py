"""The signaling server that ``portunus doctor`` tests: its URL, and results of steps that later steps use."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from gateway.config import Config, listen_address

_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
_PORTS = {"http": 80, "https": 443}
_ENDPOINT = "/spreed"  # path of the WebSocket, which Talk appends to the URL of its settings


@dataclass(slots=True)
class Target:
    """A signaling server; the steps of the doctor set all attributes but ``url``."""

    url: str  # base URL, as in Talk's settings, without a slash at the end
    addresses: list[str] = field(default_factory=list)  # IP addresses of the host
    header_features: frozenset[str] = frozenset()  # of the response header X-Spreed-Signaling-Features
    clock_offset: float | None = None  # seconds that its clock is ahead of this machine's; None: no valid Date

    @property
    def scheme(self) -> str:
        """The scheme of the URL: ``http`` or ``https``."""
        return urlsplit(self.url).scheme

    @property
    def host(self) -> str:
        """The host of the URL; an IPv6 address has no brackets."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """The port of the URL, by default that of its scheme."""
        return urlsplit(self.url).port or _PORTS[self.scheme]

    @property
    def path(self) -> str:
        """The path of the URL, under which a proxy may serve the server; empty for the root."""
        return urlsplit(self.url).path.rstrip("/")


def parse_target(url: str) -> Target:
    """Return the target for the URL of a signaling server, normalised.

    ``ws`` becomes ``http``; user, password, query and a final ``/spreed`` are removed.

    Raises:
        ValueError: ``url`` has another scheme, no host, or a wrong port.
    """
    parts = urlsplit(url)
    scheme = _SCHEMES.get(parts.scheme.lower())
    if scheme is None or not parts.hostname or parts.port == 0:
        raise ValueError("expected a URL like https://signal.example.com/standalone-signaling/")
    path = parts.path.rstrip("/").removesuffix(_ENDPOINT).rstrip("/")
    return Target(f"{scheme}://{parts.netloc.rpartition('@')[2]}{path}")


def local_url(config: Config) -> str:
    """Return the URL of the first TCP address with a fixed port in ``http.listen``; empty if there is none.

    Empty with TLS, too: the certificate is for a domain name, not for the address.
    """
    if config.http.certificate:
        return ""
    for text in config.http.listen:
        address = listen_address(text)
        if address is None:
            continue
        host, port = address
        if port:
            host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
            return f"http://{f'[{host}]' if ':' in host else host}:{port}"
    return ""
