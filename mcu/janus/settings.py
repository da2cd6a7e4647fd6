"""One ``[[mcu.janus]]`` section of the configuration (docs/janus.md, "Configuration")."""

from __future__ import annotations

import math
import re
import secrets
from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

import msgspec

from mcu.janus.labels import INSTANCE_PATTERN

SCHEMES = ("ws://", "wss://")
CONTINENTS = ("AF", "AN", "AS", "EU", "NA", "OC", "SA")
_COUNTRY = re.compile(r"[A-Z]{2}")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,32}")  # no dot or colon: an address must not reach the log


class JanusServerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The address, secrets and placement of one Janus server."""

    url: str  # of its WebSocket API, "ws://…" or "wss://…"
    api_secret: str = ""
    token: str = ""  # an alternative to ``api_secret``
    admin_key: str = ""  # VideoRoom's, required by Janus for creating rooms
    admin_url: str = ""  # of its Admin API over WebSocket: removal of orphans, layers' bit rates, missed hangups
    admin_secret: str = ""
    weight: float = 1.0  # capacity relative to the other servers (docs/mcu.md, "Several Janus")
    country: str = ""  # its location: two letters of ISO 3166, capitals
    continents: tuple[str, ...] = ()  # continents of the clients that it serves: "EU", "NA", …
    remote_streams: bool = False  # whether streams may be forwarded from it to another Janus, and from another to it
    address: str = ""  # destination of streams that another Janus forwards to it; empty: the host of ``url``
    draining: bool = False  # accepts no new streams, and is disconnected when its last one has ended
    name: str = ""  # its name in the log and in ``/readyz``; empty: its number among several

    def __post_init__(self) -> None:
        if not self.url.startswith(SCHEMES):
            raise ValueError("`url` must begin with ws:// or wss://")
        if not _host(self.url):
            raise ValueError("`url` names no host")
        if self.admin_url and not self.admin_url.startswith(SCHEMES):
            raise ValueError("`admin_url` must begin with ws:// or wss://")
        if not 0 < self.weight < math.inf:
            raise ValueError("`weight` must be greater than 0")
        if self.country and not _COUNTRY.fullmatch(self.country):
            raise ValueError('`country` must be two capital letters, like "DE"')
        if self.name and (not _NAME.fullmatch(self.name) or self.name.isdecimal()):
            raise ValueError("`name` must be 1 to 32 letters, digits, hyphens or underscores, and not only digits")
        if unknown := [name for name in self.continents if name not in CONTINENTS]:
            raise ValueError(f"`continents` names {unknown[0]!r}; there are {', '.join(CONTINENTS)}")

    @property
    def forward_host(self) -> str:
        """The host to which another Janus forwards streams."""
        return self.address or _host(self.url)

    @property
    def secrets(self) -> dict[str, str]:
        """The members that authenticate each request."""
        given = {"apisecret": self.api_secret, "token": self.token}
        return {name: value for name, value in given.items() if value}


def check_servers(servers: tuple[JanusServerSettings, ...]) -> None:
    """Check that these Janus servers can be used together.

    Raises:
        ValueError: the list is empty, a URL or name occurs twice, or a server cannot be reached by the others.
    """
    if not servers:
        raise ValueError("there is no [[mcu.janus]]")
    if duplicate := _first_duplicate(server.url for server in servers):
        raise ValueError(f"two [[mcu.janus]] have the url {duplicate}")
    if duplicate := _first_duplicate(server.name for server in servers if server.name):
        raise ValueError(f"two [[mcu.janus]] have the name {duplicate}")
    targets = [server for server in servers if server.remote_streams]
    local = [server for server in targets if _is_loopback(server.forward_host)]
    if local and len(local) < len(targets):  # no media would arrive, and Janus would report no error
        raise ValueError(f"`address` must say where other Janus reach that of {local[0].url}: it is a loopback address")


def instance_name(configured: str) -> str:
    """Return the configured name of this gateway on Janus, or a random one.

    With a random name the rooms and handles of an earlier process are not recognised.

    Raises:
        ValueError: the configured name cannot be part of a label.
    """
    if configured and not INSTANCE_PATTERN.fullmatch(configured):
        raise ValueError("an instance is 1 to 32 letters, digits, dots, hyphens or underscores")
    return configured or secrets.token_hex(6)


def _first_duplicate(names: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:  # a bracket that is not closed
        return ""


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
