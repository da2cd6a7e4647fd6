"""The values that environment variables have as text.

Source: docs/operations.md, "Configuration".
"""

from __future__ import annotations

import msgspec
from msgspec import inspect

from gateway.config.problems import ConfigError

_LISTS = inspect.VarTupleType | inspect.ListType
_booleans = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def value_of_text(text: str, schema: inspect.Type, name: str) -> object:
    """Parse the text of a variable according to the type of its key.

    Raises:
        ConfigError: the text has another form; the error begins with ``name``, that of the variable.
    """
    if isinstance(schema, inspect.UnionType):  # a string or a list: the text decides
        types = [member for member in schema.types if not isinstance(member, inspect.NoneType)]
        if len(types) == 1:
            return value_of_text(text, types[0], name)
        lists = [member for member in types if isinstance(member, _LISTS)]
        return value_of_text(text, lists[0], name) if lists and ("," in text or text.startswith("[")) else text
    if isinstance(schema, inspect.BoolType):
        if text.lower() not in _booleans:
            raise ConfigError(f"{name}: expected true or false")
        return _booleans[text.lower()]
    if isinstance(schema, inspect.IntType | inspect.FloatType):
        try:
            return int(text) if isinstance(schema, inspect.IntType) else float(text)
        except ValueError:
            raise ConfigError(f"{name}: expected a number") from None
    if isinstance(schema, _LISTS):
        return _list_from_text(text, name)
    if isinstance(schema, inspect.DictType):
        return _table_from_text(text, name)
    if isinstance(schema, inspect.StructType):
        raise ConfigError(f"{name}: names a whole section, not a value")
    return text


def _list_from_text(text: str, name: str) -> object:
    if not text.lstrip().startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        raise ConfigError(f"{name}: expected a JSON list, or values with commas between them") from None


def _table_from_text(text: str, name: str) -> object:
    pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
    if not all(separator for _, separator, _ in pairs):
        raise ConfigError(f"{name}: expected key=value pairs with commas between them")
    return {key.strip(): value.strip() for key, _, value in pairs}
