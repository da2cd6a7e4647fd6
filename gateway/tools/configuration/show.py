"""``portunus config show``: the effective settings, with the origin of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gateway.config import Origin, Setting
from gateway.config.toml_text import toml_value

ORIGIN_COLUMN = 56  # at which the origin begins, behind a setting that is shorter


def show_lines(settings: list[Setting], path: Path) -> list[str]:
    """Return one line for each setting: key, value in TOML's syntax, origin."""
    return [
        f"{f'{setting.key} = {toml_value(setting.value)}':{ORIGIN_COLUMN}}  # {origin_text(setting, path)}"
        for setting in settings
    ]


def show_json(settings: list[Setting], path: Path) -> list[dict[str, Any]]:
    """Return the settings as JSON objects: ``key``, ``value``, ``source`` (one word), ``origin`` (in words)."""
    return [
        {
            "key": setting.key,
            "value": setting.value,
            "source": _source(setting.origin, setting.instead),
            "origin": origin_text(setting, path),
        }
        for setting in settings
    ]


def origin_text(setting: Setting, path: Path) -> str:
    """Return the origin of a setting in words."""
    origin = setting.origin
    places = [f"{path}:{origin.line}"] if origin.line else []
    places += origin.variables
    if origin.file:
        places.append(f"from {origin.file}")
    if setting.instead and not places:
        return f"from {setting.instead}"
    return ", ".join(places) or "default"


def _source(origin: Origin, instead: str) -> str:
    if origin.variables:
        return "environment"
    if origin.line:
        return "file"
    return "derived" if instead else "default"
