"""The configuration: one TOML file, decoded into typed values; anything unknown or of the wrong type is an error.

Source: docs/operations.md, "Configuration". Only keys whose feature exists are known.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import ssl
from collections.abc import Iterable, Mapping
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct, field, inspect

from gateway import config_geoip
from gateway.config_geoip import GeoIpSection
from gateway.config_source import PREFIX, ConfigError, Source
from gateway.core.backends import COMPAT, Backends
from gateway.core.limits import ANY_CODEC, AUDIO_CODECS, VIDEO_CODECS, Backend, Limits, Quality
from mcu import factory

__all__ = [
    "AdminSection",
    "Config",
    "ConfigError",
    "GeoIpSection",
    "HttpSection",
    "InternalSection",
    "McuSection",
    "NextcloudSection",
    "SessionsSection",
    "StatsSection",
    "listen_address",
    "load",
]

SECRET_BYTES = 32  # least length of sessions.secret
NO_MCU = "none"

Positive = Annotated[float, Meta(gt=0)]
Bitrate = Annotated[int, Meta(ge=0)]

_placeholders = re.compile(
    r"change.?(?:me|this|it)|placeholder|your.?secret|shared.?secret|example|^(?:my)?secret|\.\.\.|…|[<>]", re.I
)
_instance = re.compile(r"[A-Za-z0-9._-]{0,32}")
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
    def compat(self) -> Backend | None:
        """The pseudo backend of ``allow_any``."""
        if not self.nextcloud.allow_any:
            return None
        return Backend(id=COMPAT, urls=(), secret=self.nextcloud.secret)


def load(path: str | Path, environ: Mapping[str, str]) -> Config:
    """Read the configuration.

    Raises:
        ConfigError: it cannot be used; the text is one sentence that names file (or variable) and key.
    """
    source = Source(Path(path))
    types = {name: factory.settings_type(name) for name in factory.names() if _is_named(name, source.values, environ)}
    source.read(_schema(types), environ)
    mcu = source.values.get("mcu")
    sections = {name: mcu.pop(name) for name in types if name in mcu} if isinstance(mcu, dict) else {}
    config: Config = source.convert(source.values, Config)
    settings = {name: source.convert(values, types[name], "mcu", name) for name, values in sections.items()}
    if config.mcu.type != NO_MCU:
        chosen = _settings(config.mcu.type, settings, types, source)
        config = msgspec.structs.replace(config, mcu=msgspec.structs.replace(config.mcu, settings=chosen))
    return _checked(config, source)


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


def _is_named(sfu: str, values: dict[str, Any], environ: Mapping[str, str]) -> bool:
    """Tell whether an SFU occurs in the configuration at all; the others are not even imported."""
    mcu, variable = values.get("mcu"), f"{PREFIX}MCU__"
    if environ.get(f"{variable}TYPE") == sfu or any(name.startswith(variable + sfu.upper()) for name in environ):
        return True
    return isinstance(mcu, dict) and (sfu in mcu or mcu.get("type") == sfu)


def _schema(types: dict[str, Any]) -> inspect.StructType:
    """Return what may stand in the file; ``types`` are those of the SFUs' own sections."""
    own = tuple(
        inspect.Field(
            name, name, inspect.type_info(types[name]) if name in types else inspect.AnyType(), required=False
        )
        for name in factory.names()
    )
    config, mcu = _struct(Config), _struct(McuSection)
    mcu = msgspec.structs.replace(mcu, fields=tuple(f for f in mcu.fields if f.name != "settings") + own)
    fields = tuple(msgspec.structs.replace(f, type=mcu) if f.name == "mcu" else f for f in config.fields)
    return msgspec.structs.replace(config, fields=fields)


def _struct(type: Any) -> inspect.StructType:
    info = inspect.type_info(type)
    if not isinstance(info, inspect.StructType):
        raise TypeError(f"{type} is no Struct")
    return info


def _settings(name: str, given: dict[str, Any], types: dict[str, Any], source: Source) -> Any:
    if name in given:
        try:
            factory.check(name, given[name])
        except ValueError as error:
            raise source.error(f"mcu.{name}", str(error)) from None
        return given[name]
    if name not in types:
        raise source.error("mcu.type", f"expected one of {', '.join(factory.names())}, {NO_MCU}")
    if not isinstance(inspect.type_info(types[name]), inspect.StructType):
        raise source.error("mcu.type", f"is {name}, but there is no [[mcu.{name}]]")
    return source.convert({}, types[name], "mcu", name)


# --- what types do not say


def _checked(config: Config, source: Source) -> Config:
    _check_http(config.http, source)
    _check_secrets(config, source)
    _check_backends(config, source)
    _check_turn(config.turn, source)
    _check_quality(config, source)
    _check_test_controls(config, source)
    http, mcu, stats = config.http, config.mcu, config.stats
    if not _instance.fullmatch(mcu.instance):
        raise source.error("mcu.instance", "may have up to 32 letters, digits, dots, hyphens and underscores")
    return msgspec.structs.replace(
        config,
        http=msgspec.structs.replace(
            http, trusted_proxies=_networks(http.trusted_proxies, "http.trusted_proxies", source)
        ),
        mcu=msgspec.structs.replace(
            mcu,
            allowed_candidates=_networks(mcu.allowed_candidates, "mcu.allowed_candidates", source),
            blocked_candidates=_networks(mcu.blocked_candidates, "mcu.blocked_candidates", source),
        ),
        stats=msgspec.structs.replace(stats, allowed=_networks(stats.allowed, "stats.allowed", source)),
        geoip=config_geoip.checked(config.geoip, source),
    )


def _networks(texts: Iterable[str], key: str, source: Source) -> tuple[str, ...]:
    """Return addresses and networks in the form ``network/bits``."""
    found = []
    for index, text in enumerate(texts):
        try:
            found.append(str(ip_network(text, strict=False)))
        except ValueError:
            raise source.error(f"{key}[{index}]", f'"{text}" is neither an IP address nor a network') from None
    return tuple(found)


def _check_http(http: HttpSection, source: Source) -> None:
    if not http.listen:
        raise source.error("http.listen", "needs at least one address")
    for index, text in enumerate(http.listen):
        try:
            listen_address(text)
        except ValueError as error:
            raise source.error(f"http.listen[{index}]", f'"{text}": {error}') from None
    if bool(http.certificate) != bool(http.key):
        missing, given = ("key", "certificate") if http.certificate else ("certificate", "key")
        raise source.error(f"http.{missing}", f"is missing, http.{given} is given; TLS needs both")
    if http.certificate:
        _check_tls(http, source)


def _check_tls(http: HttpSection, source: Source) -> None:
    for key, path in (("http.certificate", http.certificate), ("http.key", http.key)):
        try:
            Path(path).read_bytes()
        except OSError as error:
            raise source.error(key, f"{path} cannot be read ({error.strerror})") from None
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(http.certificate, http.key)
    except (ssl.SSLError, ValueError):
        raise source.error("http.certificate", "and http.key are no PEM certificate and its key") from None


def _check_secrets(config: Config, source: Source) -> None:
    secret, key = config.sessions.secret, "sessions.secret"
    if len(secret.encode()) < SECRET_BYTES:
        raise source.error(key, f"needs {SECRET_BYTES} bytes or more; make one with: openssl rand -hex 32")
    if _placeholders.search(secret) or len(set(secret)) < 8:
        raise source.error(key, "is a placeholder; make one with: openssl rand -hex 32")
    shared = [(f"backend[{index}].secret", backend.secret) for index, backend in enumerate(config.backends)]
    if config.nextcloud.allow_any:
        shared.append(("nextcloud.secret", config.nextcloud.secret))
    if config.internal.secret and _placeholders.search(config.internal.secret):
        raise source.error("internal.secret", "is a placeholder; make one with: openssl rand -hex 32")
    for key, secret in shared:
        if not secret or _placeholders.search(secret):
            raise source.error(key, "is empty or a placeholder; it must be the one that Nextcloud has")


def _check_test_controls(config: Config, source: Source) -> None:
    """Refuse to serve switches for tests to others than this machine."""
    if not getattr(config.mcu.settings, "test_controls", False):
        return
    for text in config.http.listen:
        address = listen_address(text)
        if address is not None and not _is_loopback(address[0]):
            problem = f"may only be true where http.listen has nothing but loopback addresses, and {text} is none"
            raise source.error(f"mcu.{config.mcu.type}.test_controls", problem)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _check_turn(turn: TurnSection, source: Source) -> None:
    for name, value in (("api_key", turn.api_key), ("secret", turn.secret)):
        if turn.servers and not value:
            raise source.error(f"turn.{name}", "is missing; turn.servers needs it")
        if _placeholders.search(value):
            raise source.error(f"turn.{name}", "is a placeholder")
    for index, server in enumerate(turn.servers):
        if not server.startswith(("turn:", "turns:", "stun:", "stuns:")):
            raise source.error(f"turn.servers[{index}]", f'"{server}" is no URI of a TURN server, like turn:host:3478')


def _check_quality(config: Config, source: Source) -> None:
    """Check what counts for each backend, and name the place where it stands."""
    own = [(f"backend[{index}].quality", backend.quality) for index, backend in enumerate(config.backends)]
    for at, quality in [("quality", config.quality), *((at, given.with_defaults(config.quality)) for at, given in own)]:
        for name in ("room_budget", "ceiling", "screen"):
            if 0 < getattr(quality, name) < quality.floor:
                raise source.error(f"{at}.{name}", f"is less than the floor, {quality.floor}")
        for name, known in (("audiocodecs", AUDIO_CODECS), ("videocodecs", VIDEO_CODECS)):
            for index, codec in enumerate(getattr(quality, name)):
                if codec not in known and codec != ANY_CODEC:
                    expected = ", ".join(sorted(known))
                    raise source.error(f"{at}.{name}[{index}]", f'"{codec}" is none of {expected}, {ANY_CODEC}')


def _check_backends(config: Config, source: Source) -> None:
    if not config.backends and not config.nextcloud.allow_any:
        raise source.error("backend", "there is none; add a [[backend]] with id, urls and secret")
    for index, backend in enumerate(config.backends):
        at = f"backend[{index}]"
        if not backend.id or backend.id == COMPAT:
            raise source.error(f"{at}.id", f'must not be empty or "{COMPAT}"')
        if not backend.urls:
            raise source.error(f"{at}.urls", "needs at least one URL")
        for name in ("session_limit", "max_stream_bitrate", "max_screen_bitrate"):
            if getattr(backend, name) < 0:
                raise source.error(f"{at}.{name}", "must not be negative")
    try:
        Backends(config.backends)
    except ValueError as error:
        raise source.error("backend", str(error)) from None
