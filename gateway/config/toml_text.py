"""Writes values as TOML.

Source: TOML 1.0, toml.io.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

_bare_key = re.compile(r"[A-Za-z0-9_-]+")


def toml_value(value: object) -> str:
    """Return a string, number, boolean, array or table in the syntax of TOML, on one line.

    Raises:
        TypeError: the value has another type.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        # JSON's escapes are TOML's; TOML also wants DEL escaped
        return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{toml_key(key)} = {toml_value(item)}" for key, item in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    raise TypeError(f"{type(value).__name__} has no form in a configuration file")


def toml_key(key: str) -> str:
    """Return one part of a key, in quotes if it needs them."""
    return key if _bare_key.fullmatch(key) else toml_value(key)
