"""The effective settings of a configuration: each key with its value and the origin of the value."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from gateway.config.sections import Config
from gateway.config.source import ConfigSource, Origin, is_secret
from gateway.config.toml_lines import KeyPath

REDACTED = "***"


class Setting(Struct, frozen=True):
    """One key of the configuration as it applies."""

    key: str  # "backend[0].urls"
    value: object  # redacted if it is secret
    origin: Origin
    instead: str = ""  # the key or rule that provides the value, if this key has none


def effective_settings(config: Config, source: ConfigSource) -> list[Setting]:
    """Return all settings in the order of the sections, with secrets, and user info and query of URLs, redacted."""
    return list(_settings_below(config, (), config, source))


def _settings_below(node: Struct, at: KeyPath, config: Config, source: ConfigSource) -> Iterator[Setting]:
    for field in msgspec.structs.fields(node):
        value = getattr(node, field.name)
        path: KeyPath = (*at, field.encode_name)
        if path == ("mcu", "settings"):
            path = ("mcu", config.mcu.type)
            if value is None:
                continue
        if isinstance(value, Struct):
            yield from _settings_below(value, path, config, source)
        elif isinstance(value, tuple) and value and isinstance(value[0], Struct):
            for index, item in enumerate(value):
                yield from _settings_below(item, (*path, index), config, source)
        else:
            yield _setting(path, value, config, source)


def _setting(path: KeyPath, value: object, config: Config, source: ConfigSource) -> Setting:
    instead = ""
    if path == ("mcu", "instance") and not value:
        value, instead = config.instance, "sessions.secret and http.listen"
    elif value is None and "quality" in path:  # the backend does not set this rule
        value, instead = getattr(config.quality, str(path[-1])), f"quality.{path[-1]}"
    name = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).removeprefix(".")
    return Setting(name, redacted(str(path[-1]), value), source.origin(path), instead)


def redacted(name: str, value: object) -> object:
    """Return the value of a key without secrets, which include user info and query of a URL."""
    if isinstance(value, str):
        if is_secret(name):
            return REDACTED if value else ""
        return _redacted_url(value) if "://" in value else value
    if isinstance(value, tuple):
        return tuple(redacted(name, item) for item in value)
    return value


def _redacted_url(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return REDACTED
    user, at, host = parts.netloc.rpartition("@")
    query = REDACTED if parts.query else ""
    return parts._replace(netloc=(REDACTED if user else "") + at + host, query=query, fragment="").geturl()
