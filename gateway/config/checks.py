"""Checks of configuration values beyond their types."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from pathlib import Path

import msgspec

from gateway.config import geoip, tracing
from gateway.config.sections import Config, HttpSection, TurnSection, listen_address
from gateway.config.source import ConfigSource
from gateway.core.backends import COMPAT, Backends, canonical
from gateway.core.limits import ANY_CODEC, AUDIO_CODECS, VIDEO_CODECS, FederationRules

MIN_SECRET_BYTES = 32  # of sessions.secret
MIN_ADMIN_SECRET = 16  # characters of admin.secret

_placeholders = re.compile(
    r"change.?(?:me|this|it)|placeholder|your.?secret|shared.?secret|example|^(?:my)?secret|^the.(?:secret|api.?key)"
    r"|\.\.\.|…|[<>]",
    re.I,
)
_instance = re.compile(r"[A-Za-z0-9._-]{0,32}")


def check_config(config: Config, source: ConfigSource) -> Config:
    """Check all values and return the configuration with networks and country codes in canonical form.

    Values that are not allowed are reported to ``source``.
    """
    _check_http(config.http, source)
    _check_secrets(config, source)
    _check_backends(config, source)
    _check_turn(config.turn, source)
    _check_quality(config, source)
    _check_test_controls(config, source)
    _check_federation(config.federation, source)
    tracing.check_section(config.tracing, source)
    http, mcu, stats = config.http, config.mcu, config.stats
    if not _instance.fullmatch(mcu.instance):
        source.report("mcu.instance", "may contain only letters, digits, dots, hyphens and underscores, at most 32")
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
        federation=msgspec.structs.replace(
            config.federation, allowed=_networks(config.federation.allowed, "federation.allowed", source)
        ),
        geoip=geoip.check_section(config.geoip, source),
    )


def _networks(texts: Iterable[str], key: str, source: ConfigSource) -> tuple[str, ...]:
    """Return addresses and networks in the form ``network/prefix length``."""
    found = []
    for index, text in enumerate(texts):
        try:
            found.append(str(ip_network(text, strict=False)))
        except ValueError:
            source.report(f"{key}[{index}]", f'"{text}" is neither an IP address nor a network')
    return tuple(found)


def _check_http(http: HttpSection, source: ConfigSource) -> None:
    if not http.listen:
        source.report("http.listen", "needs at least one address")
    for index, text in enumerate(http.listen):
        try:
            listen_address(text)
        except ValueError as error:
            source.report(f"http.listen[{index}]", f'"{text}": {error}')
    if bool(http.certificate) != bool(http.key):
        missing, given = ("key", "certificate") if http.certificate else ("certificate", "key")
        source.report(f"http.{missing}", f"is missing, http.{given} is given; TLS needs both")
    elif http.certificate:
        _check_tls(http, source)


def _check_tls(http: HttpSection, source: ConfigSource) -> None:
    for key, path in (("http.certificate", http.certificate), ("http.key", http.key)):
        try:
            Path(path).read_bytes()
        except OSError as error:
            source.report(key, f"{path} cannot be read ({error.strerror})")
            return
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(http.certificate, http.key)
    except (ssl.SSLError, ValueError):
        source.report("http.certificate", "this file and http.key are not a PEM certificate and its key")


def _check_federation(federation: FederationRules, source: ConfigSource) -> None:
    path = federation.certificate_authorities
    if not path:
        return
    try:
        ssl.create_default_context().load_verify_locations(path)
    except (OSError, ssl.SSLError, ValueError):
        source.report("federation.certificate_authorities", f"{path} is not a readable PEM file")


def is_placeholder(secret: str) -> bool:
    """Return whether a secret looks like the placeholder of an example."""
    return _placeholders.search(secret) is not None


def session_secret_problem(secret: str) -> str:
    """Return why a text cannot be used as ``sessions.secret``; empty if it can."""
    if len(secret.encode()) < MIN_SECRET_BYTES:
        return f"needs {MIN_SECRET_BYTES} bytes or more"
    return "is a placeholder" if is_placeholder(secret) or len(set(secret)) < 8 else ""


def _check_secrets(config: Config, source: ConfigSource) -> None:
    problem = session_secret_problem(config.sessions.secret)
    if problem:
        source.report("sessions.secret", f"{problem}; make one with: openssl rand -hex 32")
    shared = [(f"backend[{index}].secret", backend.secret) for index, backend in enumerate(config.backends)]
    if config.nextcloud.allow_any:
        shared.append(("nextcloud.secret", config.nextcloud.secret))
    if is_placeholder(config.internal.secret):
        source.report("internal.secret", "is a placeholder; make one with: openssl rand -hex 32")
    admin = config.admin.secret
    if admin and (len(admin) < MIN_ADMIN_SECRET or is_placeholder(admin)):
        problem = f"needs {MIN_ADMIN_SECRET} characters or more, and is no placeholder"
        source.report("admin.secret", f"{problem}; make one with: openssl rand -hex 32")
    for key, secret in shared:
        if not secret or is_placeholder(secret):
            source.report(key, "is empty or a placeholder; it must be the secret of that Nextcloud")


def _check_test_controls(config: Config, source: ConfigSource) -> None:
    """Refuse test controls if the gateway listens on more than loopback addresses."""
    if not config.test_controls:
        return
    for text in () if source.problems.concern("http.listen") else config.http.listen:
        address = listen_address(text)
        if address is not None and not _is_loopback(address[0]):
            problem = f"may only be true if all addresses of http.listen are loopback addresses; {text} is none"
            source.report(f"mcu.{config.mcu.type}.test_controls", problem)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _check_turn(turn: TurnSection, source: ConfigSource) -> None:
    for name, value in (("api_key", turn.api_key), ("secret", turn.secret)):
        if turn.servers and not value:
            source.report(f"turn.{name}", "is missing; turn.servers needs it")
        if is_placeholder(value):
            source.report(f"turn.{name}", "is a placeholder")
    for index, server in enumerate(turn.servers):
        if not server.startswith(("turn:", "turns:", "stun:", "stuns:")):
            source.report(
                f"turn.servers[{index}]", f'"{server}" is not the URI of a TURN or STUN server, like turn:host:3478'
            )


def _check_quality(config: Config, source: ConfigSource) -> None:
    """Check the quality rules of all backends, each with the defaults of ``[quality]``, and those defaults."""
    of_backends = [
        (f"backend[{index}].quality", backend.quality.with_defaults(config.quality))
        for index, backend in enumerate(config.backends)
    ]
    for section, quality in [("quality", config.quality), *of_backends]:
        if section != "quality" and quality == config.quality:  # it has no rules of its own
            continue
        for name in ("room_budget", "ceiling", "screen"):
            if 0 < getattr(quality, name) < quality.floor:
                source.report(f"{section}.{name}", f"is less than the floor, {quality.floor}")
        for name, known in (("audiocodecs", AUDIO_CODECS), ("videocodecs", VIDEO_CODECS)):
            for index, codec in enumerate(getattr(quality, name)):
                if codec not in known and codec != ANY_CODEC:
                    expected = ", ".join(sorted(known))
                    source.report(f"{section}.{name}[{index}]", f'"{codec}" is none of {expected}, {ANY_CODEC}')


def _check_backends(config: Config, source: ConfigSource) -> None:
    if not config.backends and not config.nextcloud.allow_any:
        source.report("backend", "is missing; add a [[backend]] with id, urls and secret")
    for index, backend in enumerate(config.backends):
        section = f"backend[{index}]"
        if not backend.id or backend.id == COMPAT:
            source.report(f"{section}.id", f'must not be empty or "{COMPAT}"')
        if not backend.urls:
            source.report(f"{section}.urls", "needs at least one URL")
        for number, url in enumerate(backend.urls):
            try:
                canonical(url)
            except ValueError as error:
                text = f"{error}; write it like https://cloud.example.com/"
                source.report(f"{section}.urls[{number}]", text)
        for name in ("session_limit", "max_stream_bitrate", "max_screen_bitrate"):
            if getattr(backend, name) < 0:
                source.report(f"{section}.{name}", "must not be negative")
    if source.problems.concern("backend"):
        return
    try:
        Backends(config.backends)
    except ValueError as error:
        source.report("backend", str(error))
