"""The keys of one ``[[mcu.janus]]`` (docs/janus.md, "Configuration")."""

from __future__ import annotations

import math
import re
import secrets
from ipaddress import ip_address
from urllib.parse import urlsplit

import msgspec

from mcu.janus.labels import INSTANCE

SCHEMES = ("ws://", "wss://")
CONTINENTS = ("AF", "AN", "AS", "EU", "NA", "OC", "SA")
_COUNTRY = re.compile(r"[A-Z]{2}")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,32}")  # no dot or colon: no address is to reach the log


class JanusServerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One Janus: where it is and what it asks for."""

    url: str  # of its WebSocket API, "ws://…" or "wss://…"
    api_secret: str = ""
    token: str = ""  # an alternative to ``api_secret``
    admin_key: str = ""  # VideoRoom's, asked for when a room is created
    admin_url: str = ""  # of its Admin API over WebSocket; with it, handles that nobody owns are found and detached
    admin_secret: str = ""
    weight: float = 1.0  # how much it can carry compared with the others (docs/mcu.md, "Several Janus")
    country: str = ""  # where it stands: two letters of ISO 3166, capitals
    continents: tuple[str, ...] = ()  # whose clients it serves: "EU", "NA", …
    remote_streams: bool = False  # whether streams may go on from it, and to it, over another Janus
    address: str = ""  # where other Janus send such streams: an address or a host name; the host of ``url`` without it
    draining: bool = False  # takes no new streams, and is left when its last one has ended
    name: str = ""  # what the log and ``/readyz`` call it; its number among several without

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
    def host(self) -> str:
        """Where another Janus sends streams to."""
        return self.address or _host(self.url)

    @property
    def secrets(self) -> dict[str, str]:
        """What goes into every request."""
        given = {"apisecret": self.api_secret, "token": self.token}
        return {name: value for name, value in given.items() if value}


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


def check(servers: tuple[JanusServerSettings, ...]) -> None:
    """Look whether these Janus can be used together.

    Raises:
        ValueError: there is none, two have the same address or name, or one could not be reached by the others.
    """
    if not servers:
        raise ValueError("there is no [[mcu.janus]]")
    urls = [server.url for server in servers]
    if twice := next((url for place, url in enumerate(urls) if url in urls[:place]), None):
        raise ValueError(f"two [[mcu.janus]] have the url {twice}")
    names = [server.name for server in servers if server.name]
    if twice := next((name for place, name in enumerate(names) if name in names[:place]), None):
        raise ValueError(f"two [[mcu.janus]] have the name {twice}")
    targets = [server for server in servers if server.remote_streams]
    here = [server for server in targets if _is_loopback(server.host)]
    if here and len(here) < len(targets):  # no picture would come, and nobody be told
        raise ValueError(f"`address` must say where other Janus reach that of {here[0].url}: it is a loopback address")


def instance(configured: str) -> str:
    """Return the configured name of this gateway on Janus, or one that is drawn.

    With one that is drawn nothing of an earlier process is recognised.

    Raises:
        ValueError: it cannot stand in a label.
    """
    if configured and not INSTANCE.fullmatch(configured):
        raise ValueError("an instance is 1 to 32 letters, digits, dots, hyphens or underscores")
    return configured or secrets.token_hex(6)
