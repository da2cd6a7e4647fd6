"""The sections of the configuration file and their defaults.

Source: docs/operations.md, "Configuration".
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Annotated, Any

from msgspec import Meta, Struct, field

from gateway.config.geoip import GeoIpSection
from gateway.core.backends import COMPAT
from gateway.core.limits import Backend, Bitrate, FederationRules, Limits, QualityRules

NO_MCU = "none"

Positive = Annotated[float, Meta(gt=0)]

_tcp = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]*):(?P<port>[0-9]{1,5})")


class HttpSection(Struct, frozen=True):
    """``[http]``: the addresses to listen on, trusted proxies, and TLS."""

    listen: tuple[str, ...] = ("127.0.0.1:8080",)  # "host:port", "[::1]:port" or "/path" of a unix socket
    trusted_proxies: tuple[str, ...] = ("127.0.0.0/8", "::1")  # addresses and networks
    certificate: str = ""  # path of a PEM file; TLS is on if certificate and key are given
    key: str = ""  # path of a PEM file


class SessionsSection(Struct, frozen=True):
    """``[sessions]``: the key that signs session ids, and the size of an outbox."""

    secret: str  # key that signs session and resume ids
    outbox_bytes: Annotated[int, Meta(ge=65_536)] = 8_388_608  # of the messages that wait for one client


class InternalSection(Struct, frozen=True):
    """``[internal]``: clients that the gateway's operator runs, like a SIP bridge or a recorder."""

    secret: str = ""  # empty: internal clients are refused


class NextcloudSection(Struct, frozen=True):
    """``[nextcloud]``: requests to the backends."""

    timeout: Positive = 10.0  # seconds for a request
    connections_per_host: Annotated[int, Meta(ge=1)] = 8
    allow_any: bool = False  # accept any backend URL with ``secret``: for tests and benchmarks
    secret: str = ""

    @property
    def places(self) -> int:
        """The number of simultaneous requests to one backend: 2 at least, because one place is kept for users."""
        return max(self.connections_per_host, 2)


class McuSection(Struct, frozen=True):
    """``[mcu]``: the SFU; ``settings`` is the decoded section ``[mcu.<type>]``."""

    type: str = NO_MCU
    timeout: Positive = 10.0  # seconds for a request to the SFU, the wait for an SFU included
    instance: str = ""  # name of this gateway on an SFU that several gateways use
    max_stream_bitrate: Bitrate = 1_048_576  # bit/s; 0 = no limit
    max_screen_bitrate: Bitrate = 2_097_152
    allowed_candidates: tuple[str, ...] = ()  # networks
    blocked_candidates: tuple[str, ...] = ()
    allow_subscribe_any: bool = False  # allow requests for streams outside of a call: for tests
    reset_sessions_on_loss: bool = False  # end sessions whose lost stream cannot be republished (docs/mcu.md)
    settings: Any = None


class StatsSection(Struct, frozen=True):
    """``[stats]``: access to statistics and metrics."""

    allowed: tuple[str, ...] = ("127.0.0.1", "::1")  # addresses and networks


class AdminSection(Struct, frozen=True):
    """``[admin]``: the admin socket, and the admin page."""

    socket: str = ""  # path of a unix socket; empty: disabled
    secret: str = ""  # for the page /admin/; empty: disabled


class DrainSection(Struct, frozen=True):
    """``[drain]``: the time that calls go on after a request to end the process."""

    deadline: Annotated[float, Meta(ge=0)] = 60.0  # seconds; 0: the process ends at once


class TracingSection(Struct, frozen=True):
    """``[tracing]``: OpenTelemetry traces; the variables ``OTEL_…`` hold for all that is not set (docs/tracing.md)."""

    enabled: bool = False
    endpoint: str = ""  # base URL of a collector's OTLP over HTTP, "http://collector.example.com:4318"
    service_name: str = ""  # empty: OTEL_SERVICE_NAME, or "portunus"
    sample_ratio: Annotated[float, Meta(ge=0, le=1)] = 1.0  # part of the traces that is recorded


class TurnSection(Struct, frozen=True):
    """``[turn]``: the TURN servers that the gateway creates credentials for."""

    api_key: str = ""  # key that a request for credentials must contain
    secret: str = ""  # secret that is shared with the TURN servers
    servers: tuple[str, ...] = ()  # "turn:turn.example.com:3478?transport=udp"


class Config(Struct, frozen=True):
    """The whole configuration."""

    sessions: SessionsSection
    http: HttpSection = HttpSection()
    internal: InternalSection = InternalSection()
    nextcloud: NextcloudSection = NextcloudSection()
    backends: tuple[Backend, ...] = field(default=(), name="backend")
    mcu: McuSection = McuSection()
    stats: StatsSection = StatsSection()
    quality: QualityRules = QualityRules()
    admin: AdminSection = AdminSection()
    drain: DrainSection = DrainSection()
    limits: Limits = Limits()
    turn: TurnSection = TurnSection()
    tracing: TracingSection = TracingSection()
    federation: FederationRules = FederationRules()
    geoip: GeoIpSection = GeoIpSection()

    @property
    def instance(self) -> str:
        """The name of this gateway on an SFU that several gateways use; the same after a restart."""
        if self.mcu.instance:
            return self.mcu.instance
        identity = f"portunus instance\n{self.http.listen[0]}".encode()
        return hmac.new(self.sessions.secret.encode(), identity, hashlib.sha256).hexdigest()[:12]

    @property
    def test_controls(self) -> bool:
        """Whether the SFU's counters and fault injection are served over HTTP; only SFUs with these have the key."""
        return bool(getattr(self.mcu.settings, "test_controls", False))

    @property
    def compat(self) -> Backend | None:
        """The pseudo backend for all URLs if ``nextcloud.allow_any`` is set, else ``None``."""
        if not self.nextcloud.allow_any:
            return None
        return Backend(id=COMPAT, urls=(), secret=self.nextcloud.secret)


def listen_address(text: str) -> tuple[str, int] | None:
    """Return host and port of an entry of ``http.listen``, or ``None`` for the path of a unix socket.

    Raises:
        ValueError: the entry is neither.
    """
    if text.startswith("/"):
        return None
    match = _tcp.fullmatch(text)
    if match is None or int(match["port"]) > 65535:
        raise ValueError('expected "host:port" or the path of a unix socket')
    return match["host"].strip("[]"), int(match["port"])
