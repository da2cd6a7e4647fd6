"""The sections of the configuration file and their defaults.

Source: design, configuration contract. Only keys whose feature exists are known.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Annotated, Any

from msgspec import Meta, Struct, field

from gateway.config.geoip import GeoIpSection
from gateway.core.backends import COMPAT
from gateway.core.limits import Backend, Limits, Quality

NO_MCU = "none"

Positive = Annotated[float, Meta(gt=0)]
Bitrate = Annotated[int, Meta(ge=0)]

_tcp = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]*):(?P<port>[0-9]{1,5})")


class HttpSection(Struct, frozen=True):
    """Where the gateway listens."""

    listen: tuple[str, ...] = ("127.0.0.1:8080",)  # "host:port", "[::1]:port" or "/path" of a unix socket
    trusted_proxies: tuple[str, ...] = ("127.0.0.0/8", "::1")  # addresses and networks
    certificate: str = ""  # path of a PEM file; both paths turn TLS on
    key: str = ""


class SessionsSection(Struct, frozen=True):
    """What every session shares."""

    secret: str  # signs session and resume ids
    outbox_bytes: Annotated[int, Meta(ge=65_536)] = 8_388_608


class InternalSection(Struct, frozen=True):
    """Clients that work for the gateway's operator: SIP bridge, recorder."""

    secret: str = ""  # empty: they are refused


class NextcloudSection(Struct, frozen=True):
    """Requests to the backends."""

    timeout: Positive = 10.0  # seconds
    connections_per_host: Annotated[int, Meta(ge=1)] = 8
    allow_any: bool = False  # any URL is a backend, with ``secret``: for tests and benchmarks
    secret: str = ""


class McuSection(Struct, frozen=True):
    """The SFU. ``settings`` is what stands under ``[mcu].<type>``, of the type that ``mcu.factory`` names."""

    type: str = NO_MCU
    timeout: Positive = 10.0  # seconds
    instance: str = ""  # names this gateway on an SFU that others use as well
    max_stream_bitrate: Bitrate = 1_048_576  # bit/s; 0 = no limit
    max_screen_bitrate: Bitrate = 2_097_152
    allowed_candidates: tuple[str, ...] = ()  # networks
    blocked_candidates: tuple[str, ...] = ()
    allow_subscribe_any: bool = False  # streams may be requested outside of a call, too: for tests
    reset_sessions_on_loss: bool = False  # of clients that cannot be asked to offer again (docs/mcu.md)
    settings: Any = None


class StatsSection(Struct, frozen=True):
    """Who may read statistics and metrics."""

    allowed: tuple[str, ...] = ("127.0.0.1", "::1")


class AdminSection(Struct, frozen=True):
    """What the operator asks a running gateway."""

    socket: str = ""  # path of a unix socket; empty: none


class TurnSection(Struct, frozen=True):
    """TURN servers whose credentials are handed out."""

    api_key: str = ""  # who may ask for credentials
    secret: str = ""  # shared with the servers
    servers: tuple[str, ...] = ()  # "turn:turn.example.com:3478?transport=udp"


class Config(Struct, frozen=True):
    """Everything an operator may set."""

    sessions: SessionsSection
    http: HttpSection = HttpSection()
    internal: InternalSection = InternalSection()
    nextcloud: NextcloudSection = NextcloudSection()
    backends: tuple[Backend, ...] = field(default=(), name="backend")
    mcu: McuSection = McuSection()
    stats: StatsSection = StatsSection()
    quality: Quality = Quality()
    admin: AdminSection = AdminSection()
    limits: Limits = Limits()
    turn: TurnSection = TurnSection()
    geoip: GeoIpSection = GeoIpSection()

    @property
    def instance(self) -> str:
        """How this gateway is named on an SFU that others use as well: the same after a restart."""
        if self.mcu.instance:
            return self.mcu.instance
        place = f"portunus instance\n{self.http.listen[0]}".encode()
        return hmac.new(self.sessions.secret.encode(), place, hashlib.sha256).hexdigest()[:12]

    @property
    def test_controls(self) -> bool:
        """Whether the SFU's counters and fault injection are served over HTTP; only SFUs with these have the key."""
        return bool(getattr(self.mcu.settings, "test_controls", False))

    @property
    def compat(self) -> Backend | None:
        """The pseudo backend of ``allow_any``."""
        if not self.nextcloud.allow_any:
            return None
        return Backend(id=COMPAT, urls=(), secret=self.nextcloud.secret)


def listen_address(text: str) -> tuple[str, int] | None:
    """Return host and port of an entry of ``http.listen``; ``None``: it is the path of a unix socket.

    Raises:
        ValueError: neither.
    """
    if text.startswith("/"):
        return None
    match = _tcp.fullmatch(text)
    if match is None or int(match["port"]) > 65535:
        raise ValueError('expected "host:port" or the path of a unix socket')
    return match["host"].strip("[]"), int(match["port"])
