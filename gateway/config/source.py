"""Where configuration values come from: one TOML file, the environment over it, secrets from files of their own.

Source: docs/operations.md, "Configuration". Knows no key by name: the keys are those of the type that the caller
describes.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect

PREFIX = "PORTUNUS_"
SEPARATOR = "__"  # between the levels of a key in a variable's name: PORTUNUS_HTTP__LISTEN is http.listen
FILE_SUFFIX = "_file"  # secret_file = "path" reads secret from a file

Keys = tuple[str | int, ...]  # the way to a value: ("backend", 0, "secret")

_booleans = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_secret = re.compile(r"secret|token|.+_(?:secret|token|key)")
_missing = re.compile(r"Object missing required field `(?P<key>.*)`")
_place = re.compile(r"(?P<text>.*) - at `\$\.?(?P<key>.*)`", re.DOTALL)


class ConfigError(Exception):
    """The configuration cannot be used; the text is one clear sentence that names file and key."""


class Secret(str):
    """A text that does not show itself where a Struct is printed."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'" if self else "''"


class ConfigSource:
    """The values of one configuration, as plain data, with the place where each one was set."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            ConfigError: there is none, or it is not TOML.
        """
        self._path = path
        self._schema = inspect.StructType(msgspec.Struct, ())
        self._variables: dict[str, str] = {}  # key -> variable
        self.values = _read_toml(path)

    def read(self, schema: inspect.StructType, environ: Mapping[str, str]) -> None:
        """Put the environment over the file's values and read the files that they name.

        Raises:
            ConfigError: a key or variable that ``schema`` does not know, or a file that cannot be read.
        """
        self._schema = schema
        self._check_keys(self.values, self._schema, ())
        given = [(_keys(name), name) for name in environ if name.startswith(PREFIX) and SEPARATOR in name]
        for keys, name in sorted(given, key=lambda item: [str(key).zfill(9) for key in item[0]]):
            self._override(keys, name, environ[name])
        self._read_files(self.values, self._schema, ())

    def convert(self, values: object, type: Any, *keys: str | int) -> Any:
        """Turn plain data that stands at ``keys`` into its type.

        Raises:
            ConfigError: a value has the wrong type, or one is missing.
        """
        try:
            return msgspec.convert(values, type)
        except msgspec.ValidationError as error:
            match = _place.fullmatch(str(error))
            text, below = (match["text"], match["key"]) if match else (str(error), "")
            missing = _missing.fullmatch(text)
            parts = [_dotted(keys), below, missing["key"] if missing else ""]
            at = ".".join(filter(None, parts)).replace(".[", "[")
            raise self.error(at, "is missing" if missing else _plain(text)) from None

    def error(self, key: str, text: str) -> ConfigError:
        """Return the error that says where ``key`` was set and what is wrong with it."""
        return ConfigError(f"{self._variables.get(key) or f'{self._path}: {key}'}: {text}")

    # --- the environment

    def _override(self, keys: Keys, name: str, text: str) -> None:
        node: Any = self.values
        kind: inspect.Type = self._schema
        for depth, key in enumerate(keys):
            last = depth == len(keys) - 1
            below = _child(kind, key, node)
            if below is None:
                raise ConfigError(f"{name} is unknown; did you mean {self._nearest_variable(keys)}?")
            kind = below
            if last:
                self._set(node, key, _from_text(text, kind, name))
                self._variables[_dotted(keys)] = name
            else:
                node = _descend(node, key, kind, name)

    def _set(self, node: Any, key: str | int, value: object) -> None:
        if isinstance(key, str):  # the variable wins over the file in either form
            node.pop(key.removesuffix(FILE_SUFFIX) if key.endswith(FILE_SUFFIX) else key + FILE_SUFFIX, None)
            node[key] = value
        else:
            node[key : key + 1] = [value]

    def _nearest_variable(self, keys: Keys) -> str:
        names = [
            PREFIX + key.replace(".", SEPARATOR).replace("[]", f"{SEPARATOR}0").upper() for key in _all(self._schema)
        ]
        return _nearest(PREFIX + SEPARATOR.join(map(str, keys)).upper(), names)

    # --- keys

    def _check_keys(self, node: object, kind: inspect.Type, at: Keys) -> None:
        for key, value, below in _children(node, kind):
            if below is None:
                raise ConfigError(
                    f"{self._path}: {_dotted((*at, key))} is unknown; did you mean {self._suggest(at, key, kind)}?"
                )
            self._check_keys(value, below, (*at, key))

    def _suggest(self, at: Keys, key: str | int, kind: inspect.Type) -> str:
        siblings = [field.encode_name for field in kind.fields] if isinstance(kind, inspect.StructType) else []
        close = difflib.get_close_matches(str(key), siblings, 1)
        if close:
            return _dotted((*at, close[0]))
        return _nearest(_dotted((*at, key)), list(_all(self._schema)))

    # --- files

    def _read_files(self, node: object, kind: inspect.Type, at: Keys) -> None:
        for key, value, below in list(_children(node, kind)):
            if isinstance(node, dict) and isinstance(key, str) and _is_file_key(key, kind):
                name = key.removesuffix(FILE_SUFFIX)
                if name in node:
                    raise self.error(_dotted((*at, key)), f"{name} is given as well; one of the two is enough")
                node[name] = self._read_secret((*at, key), value)
                del node[key]
                self._variables.setdefault(_dotted((*at, name)), f"{self._path}: {_dotted((*at, key))}")
            elif below is not None:
                self._read_files(value, below, (*at, key))
        _mask(node)

    def _read_secret(self, keys: Keys, value: object) -> str:
        if not isinstance(value, str):
            raise self.error(_dotted(keys), "expected the path of a file")
        try:
            return (self._path.parent / value).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, ValueError) as error:
            raise self.error(_dotted(keys), f"{value} cannot be read ({_reason(error)})") from None


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: cannot be read ({_reason(error)})") from None


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__


def _mask(node: object) -> None:
    if isinstance(node, dict):
        for key, value in node.items():
            if isinstance(value, str) and _secret.fullmatch(key):
                node[key] = Secret(value)


# --- walking values and their types side by side


def _child(kind: inspect.Type, key: str | int, node: object) -> inspect.Type | None:
    """Return the type of what stands at ``key``; ``None``: there is no such key."""
    if isinstance(kind, inspect.StructType) and isinstance(key, str):
        for field in kind.fields:
            if field.encode_name == key:
                return field.type
        return inspect.StrType() if _is_file_key(key, kind) else None
    if isinstance(kind, inspect.DictType) and isinstance(key, str):
        return kind.value_type
    if isinstance(kind, inspect.VarTupleType | inspect.ListType) and isinstance(key, int):
        return kind.item_type if not isinstance(node, list) or key <= len(node) else None
    return None


def _children(node: object, kind: inspect.Type) -> Iterator[tuple[str | int, object, inspect.Type | None]]:
    """Yield key, value and type of what stands below; a value of the wrong form is left to the conversion."""
    if isinstance(node, dict) and isinstance(kind, inspect.StructType):
        for key, value in node.items():
            yield key, value, _child(kind, key, node)
    elif isinstance(node, list) and isinstance(kind, inspect.VarTupleType | inspect.ListType):
        for index, value in enumerate(node):
            yield index, value, kind.item_type
    elif isinstance(node, dict) and isinstance(kind, inspect.DictType):
        for key, value in node.items():
            yield key, value, kind.value_type


def _is_file_key(key: str, kind: inspect.Type) -> bool:
    if not isinstance(kind, inspect.StructType) or not key.endswith(FILE_SUFFIX):
        return False
    fields = {field.encode_name: field.type for field in kind.fields}
    return key not in fields and isinstance(fields.get(key.removesuffix(FILE_SUFFIX)), inspect.StrType)


def _descend(node: Any, key: str | int, kind: inspect.Type, name: str) -> Any:
    empty: Any = [] if isinstance(kind, inspect.VarTupleType | inspect.ListType) else {}
    if isinstance(key, int):
        if key == len(node):
            node.append(empty)
        below = node[key]
    else:
        below = node.setdefault(key, empty)
    if type(below) is not type(empty):
        raise ConfigError(f"{name}: the file has a single value where this variable names a part of it")
    return below


def _all(kind: inspect.Type, at: str = "") -> Iterator[str]:
    """Yield every key that takes a value, dotted, ``[]`` for an index."""
    if isinstance(kind, inspect.StructType):
        for field in kind.fields:
            yield from _all(field.type, f"{at}.{field.encode_name}" if at else field.encode_name)
    elif isinstance(kind, inspect.VarTupleType | inspect.ListType) and isinstance(kind.item_type, inspect.StructType):
        yield from _all(kind.item_type, at + "[]")
    else:
        yield at


def _nearest(key: str, keys: list[str]) -> str:
    return difflib.get_close_matches(key, keys, 1, cutoff=0.0)[0]


def _keys(variable: str) -> Keys:
    parts = variable.removeprefix(PREFIX).lower().split(SEPARATOR)
    return tuple(int(part) if part.isdecimal() and len(part) < 6 else part for part in parts)


def _dotted(keys: Keys) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).removeprefix(".")


# --- texts


def _from_text(text: str, kind: inspect.Type, name: str) -> object:
    """Read a variable's text as its key's type asks."""
    if isinstance(kind, inspect.UnionType):  # a text or a list of them: what it looks like
        types = [one for one in kind.types if not isinstance(one, inspect.NoneType)]
        if len(types) == 1:
            return _from_text(text, types[0], name)
        lists = [one for one in types if isinstance(one, inspect.VarTupleType | inspect.ListType)]
        return _from_text(text, lists[0], name) if lists and ("," in text or text.startswith("[")) else text
    if isinstance(kind, inspect.BoolType):
        if text.lower() not in _booleans:
            raise ConfigError(f"{name}: expected true or false")
        return _booleans[text.lower()]
    if isinstance(kind, inspect.IntType | inspect.FloatType):
        try:
            return int(text) if isinstance(kind, inspect.IntType) else float(text)
        except ValueError:
            raise ConfigError(f"{name}: expected a number") from None
    if isinstance(kind, inspect.VarTupleType | inspect.ListType):
        return _list_from_text(text, name)
    if isinstance(kind, inspect.DictType):
        return _table_from_text(text, name)
    if isinstance(kind, inspect.StructType):
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


_words = {
    "`str`": "a text",
    "`int`": "an integer",
    "`float`": "a number",
    "`bool`": "true or false",
    "`array`": "a list",
    "`object`": "a table",
}


def _plain(text: str) -> str:
    for word, plain in _words.items():
        text = text.replace(word, plain)
    return text[:1].lower() + text[1:]
