"""The sources of configuration values: a TOML file, environment variables that override it, files with secrets.

Source: docs/operations.md, "Configuration". The caller's schema defines the keys and their types.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, inspect

from gateway.config.problems import ConfigError, Problems, replace_by_stand_in
from gateway.config.toml_lines import KeyPath, find_lines
from gateway.config.variable_text import value_of_text

PREFIX = "PORTUNUS_"
SEPARATOR = "__"  # between the levels of a key in a variable's name: PORTUNUS_HTTP__LISTEN is http.listen
FILE_SUFFIX = "_file"  # secret_file = "path" reads secret from a file

_BYTE_ORDER_MARK = "\ufeff"
_LISTS = inspect.VarTupleType | inspect.ListType
_secret = re.compile(r"secret|token|.+_(?:secret|token|key)")
_missing_field = re.compile(r"Object missing required field `(?P<key>.*)`")
_place = re.compile(r"(?P<text>.*) - at `\$\.?(?P<key>.*)`", re.DOTALL)


class Origin(Struct, frozen=True):
    """The origin of a value; all members are empty for a default."""

    line: int = 0  # line of the configuration file
    variables: tuple[str, ...] = ()  # environment variables
    file: str = ""  # path of the file that the key ``…_file`` names


class Secret(str):
    """A string whose ``repr`` is masked, so that printing a Struct does not reveal it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'" if self else "''"


class ConfigSource:
    """The values of one configuration as plain data, and the origin of each: a key of the file or a variable."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            ConfigError: the file cannot be read, or is not TOML.
        """
        self.path = path
        self._schema = inspect.StructType(msgspec.Struct, ())
        self._origins: dict[str, str] = {}  # dotted key -> environment variable, or file and ``…_file`` key
        self._overridden: dict[KeyPath, str] = {}  # environment variables by path of the key
        self._lines: dict[KeyPath, int] | None = None  # None: not searched for yet
        self.problems = Problems()
        self.files: dict[KeyPath, Path] = {}  # path of a value -> the file from which it was read
        self._text, self.values = _read_toml(path)

    def read(self, schema: inspect.StructType, environ: Mapping[str, str]) -> None:
        """Override the file's values from the environment, and read the files that ``…_file`` keys name.

        Problems are collected: keys or variables that are not in ``schema``, wrong values of variables, and files that
        cannot be read.
        """
        self._schema = schema
        self._check_keys(self.values, self._schema, ())
        given = [(_key_path(name), name) for name in environ if name.startswith(PREFIX) and SEPARATOR in name]
        # indices of a list in numeric order, since each may append one item
        for keys, name in sorted(given, key=lambda item: [str(key).zfill(9) for key in item[0]]):
            try:
                self._override(keys, name, environ[name])
            except ConfigError as error:
                self.problems.add(error)
        self._read_files(self.values, self._schema, ())

    def convert(self, values: object, type: Any, *keys: str | int) -> Any:
        """Convert the plain data at the path ``keys`` to a type; problems are collected, with stand-ins in their place.

        Raises:
            ConfigError: a value is missing or of the wrong type, and there is no stand-in for it.
        """
        while True:
            try:
                return msgspec.convert(values, type)
            except msgspec.ValidationError as error:
                self._replace(values, inspect.type_info(type), keys, error)

    def _replace(self, values: object, schema: inspect.Type, keys: KeyPath, error: msgspec.ValidationError) -> None:
        match = _place.fullmatch(str(error))
        text, below = (match["text"], match["key"]) if match else (str(error), "")
        missing = _missing_field.fullmatch(text)
        parts = [_dotted_key(keys), below, missing["key"] if missing else ""]
        at = ".".join(filter(None, parts)).replace(".[", "[")
        problem = self.error(at, "is missing" if missing else _in_toml_terms(text))
        self.problems.add(problem)
        within = ".".join(filter(None, parts[1:])).replace(".[", "[")
        if self.problems.is_replaced(at) or not replace_by_stand_in(values, schema, within):
            raise problem from None
        self.problems.note_replaced(at)

    def report(self, key: str, text: str) -> None:
        """Collect a problem with the value of ``key``."""
        self.problems.add(self.error(key, text))

    def error(self, key: str, text: str) -> ConfigError:
        """Return an error that names the origin of ``key`` and the problem with its value."""
        origin = self._origins.get(_nearest_above(key, self._origins)) or f"{self.path}: {key}"
        return ConfigError(f"{origin}: {text}", key, self.line_of(key), text)

    def place(self, key: str) -> str:
        """Return the place of a value: ``FILE:LINE``, or the name of a variable; the file for a default."""
        origin = self._origins.get(_nearest_above(key, self._origins), "")
        line = self.line_of(key)
        return origin if origin.startswith(PREFIX) else f"{self.path}:{line}" if line else str(self.path)

    def origin(self, keys: KeyPath) -> Origin:
        """Return the origin of the value at a path; the origin of a list or table includes that of its items."""
        names = {keys, _file_key_path(keys)}
        variables = [name for at, name in self._overridden.items() if at in names or at[: len(keys)] == keys]
        line = next((self.lines[at] for at in (keys, _file_key_path(keys)) if at in self.lines), 0)
        if any(at in names for at in self._overridden):
            line = 0  # the whole value is the variable's
        return Origin(line, tuple(variables), str(self.files.get(keys, "")))

    @property
    def lines(self) -> dict[KeyPath, int]:
        """The line of each key of the file."""
        if self._lines is None:
            try:
                self._lines = find_lines(self._text)
            except RecursionError:  # too deeply nested lists
                self._lines = {}
        return self._lines

    def line_of(self, key: str) -> int:
        """Return the line of a key, or of the nearest section that contains it; 0 if the value is not in the file."""
        if self._origins.get(_nearest_above(key, self._origins), "").startswith(PREFIX):
            return 0
        lines = {_dotted_key(at): line for at, line in self.lines.items()}
        return lines.get(f"{key}{FILE_SUFFIX}") or lines.get(_nearest_above(key, lines), 0)

    # --- the environment

    def _override(self, keys: KeyPath, name: str, text: str) -> None:
        node: Any = self.values
        schema: inspect.Type = self._schema
        for depth, key in enumerate(keys):
            last = depth == len(keys) - 1
            below = _child(schema, key, node)
            if below is None:
                raise ConfigError(f"{name} is unknown; did you mean {self._nearest_variable(keys)}?")
            schema = below
            if last:
                self._set(node, key, value_of_text(text, schema, name))
                self._origins[_dotted_key(keys)] = name
                self._overridden[keys] = name
            else:
                node = _descend(node, key, schema, name)

    def _set(self, node: Any, key: str | int, value: object) -> None:
        if isinstance(key, str):  # a variable also overrides the other form of the key, with or without ``_file``
            node.pop(key.removesuffix(FILE_SUFFIX) if key.endswith(FILE_SUFFIX) else key + FILE_SUFFIX, None)
            node[key] = value
        else:
            node[key : key + 1] = [value]

    def _nearest_variable(self, keys: KeyPath) -> str:
        names = [
            PREFIX + key.replace(".", SEPARATOR).replace("[]", f"{SEPARATOR}0").upper()
            for key in _dotted_key_paths(self._schema)
        ]
        return _nearest_key(PREFIX + SEPARATOR.join(map(str, keys)).upper(), names)

    # --- keys

    def _check_keys(self, node: object, schema: inspect.Type, at: KeyPath) -> None:
        for key, value, below in list(_children(node, schema)):
            if below is None and isinstance(node, dict):
                problem = f"is unknown; did you mean {self._suggest(at, key, schema)}?"
                name, line = _dotted_key((*at, key)), self.lines.get((*at, key), 0)
                self.problems.add(ConfigError(f"{self.path}: {name} {problem}", name, line, problem))
                del node[key]
            elif below is not None:
                self._check_keys(value, below, (*at, key))

    def _suggest(self, at: KeyPath, key: str | int, schema: inspect.Type) -> str:
        siblings = [field.encode_name for field in schema.fields] if isinstance(schema, inspect.StructType) else []
        close = difflib.get_close_matches(str(key), siblings, 1)
        if close:
            return _dotted_key((*at, close[0]))
        return _nearest_key(_dotted_key((*at, key)), list(_dotted_key_paths(self._schema)))

    # --- files

    def _read_files(self, node: object, schema: inspect.Type, at: KeyPath) -> None:
        """Replace each ``…_file`` key by its key with the text of the file, and mask secrets."""
        for key, value, below in list(_children(node, schema)):
            if isinstance(node, dict) and isinstance(key, str) and _is_file_key(key, schema):
                name = key.removesuffix(FILE_SUFFIX)
                if name in node:
                    self.report(_dotted_key((*at, key)), f"{name} is given as well; one of the two is enough")
                else:
                    node[name] = self._read_value_file((*at, key), value)
                del node[key]
                self._origins.setdefault(_dotted_key((*at, name)), f"{self.path}: {_dotted_key((*at, key))}")
            elif below is not None:
                self._read_files(value, below, (*at, key))
        _mask(node)

    def _read_value_file(self, keys: KeyPath, value: object) -> str:
        """Return the text of the file that a ``…_file`` key names; empty, and a problem, if it cannot be read."""
        problem = "expected the path of a file"
        if isinstance(value, str):
            path = self.path.parent / value
            self.files[_value_key_path(keys)] = path
            try:
                return path.read_text(encoding="utf-8").rstrip("\r\n")
            except (OSError, ValueError) as error:
                problem = f"{value} cannot be read ({_reason(error)})"
        self.report(_dotted_key(keys), problem)
        self.problems.note_replaced(_dotted_key(_value_key_path(keys)))
        return ""


def _read_toml(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
        if text.startswith(_BYTE_ORDER_MARK):
            raise ConfigError(f"{path}: begins with a byte order mark; save it as UTF-8 without one (BOM)")
        return text, tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: cannot be read ({_reason(error)}); {_unreadable_remedy(error)}") from None


def _unreadable_remedy(error: Exception) -> str:
    match error:
        case FileNotFoundError():
            return "give the path of the gateway's configuration"
        case PermissionError():
            return "let the user of this command read it, or run the command as the gateway's user"
    return "give the path of a file of TOML in UTF-8"


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__


def is_secret(key: str) -> bool:
    """Return whether the value of a key is secret, by the key's own name without its section."""
    return _secret.fullmatch(key) is not None


def _mask(node: object) -> None:
    if isinstance(node, dict):
        for key, value in node.items():
            if isinstance(value, str) and is_secret(key):
                node[key] = Secret(value)


# --- traversing values together with their types


def _child(schema: inspect.Type, key: str | int, node: object) -> inspect.Type | None:
    """Return the type of the value at ``key``, or ``None`` for an unknown key."""
    if isinstance(schema, inspect.StructType) and isinstance(key, str):
        for field in schema.fields:
            if field.encode_name == key:
                return field.type
        return inspect.StrType() if _is_file_key(key, schema) else None
    if isinstance(schema, inspect.DictType) and isinstance(key, str):
        return schema.value_type
    if isinstance(schema, _LISTS) and isinstance(key, int):
        return schema.item_type if not isinstance(node, list) or key <= len(node) else None
    return None


def _children(node: object, schema: inspect.Type) -> Iterator[tuple[str | int, object, inspect.Type | None]]:
    """Yield key, value and type of each child; nothing for a value of the wrong type, which ``convert`` reports."""
    if isinstance(node, dict) and isinstance(schema, inspect.StructType):
        for key, value in node.items():
            yield key, value, _child(schema, key, node)
    elif isinstance(node, list) and isinstance(schema, _LISTS):
        for index, value in enumerate(node):
            yield index, value, schema.item_type
    elif isinstance(node, dict) and isinstance(schema, inspect.DictType):
        for key, value in node.items():
            yield key, value, schema.value_type


def _is_file_key(key: str, schema: inspect.Type) -> bool:
    if not isinstance(schema, inspect.StructType) or not key.endswith(FILE_SUFFIX):
        return False
    fields = {field.encode_name: field.type for field in schema.fields}
    return key not in fields and isinstance(fields.get(key.removesuffix(FILE_SUFFIX)), inspect.StrType)


def _nearest_above(key: str, known: Mapping[str, object]) -> str:
    """Return the longest known prefix of a dotted key; empty if there is none."""
    while key and key not in known:
        key = key[: max(key.rfind("."), key.rfind("["), 0)]
    return key


def _file_key_path(keys: KeyPath) -> KeyPath:
    """Return the path of the ``…_file`` key for the value at ``keys``."""
    return (*keys[:-1], f"{keys[-1]}{FILE_SUFFIX}")


def _value_key_path(keys: KeyPath) -> KeyPath:
    """Return the path of the value that the ``…_file`` key at ``keys`` provides."""
    return (*keys[:-1], str(keys[-1]).removesuffix(FILE_SUFFIX))


def _descend(node: Any, key: str | int, schema: inspect.Type, name: str) -> Any:
    empty: Any = [] if isinstance(schema, _LISTS) else {}
    if isinstance(key, int):
        if key == len(node):
            node.append(empty)
        below = node[key]
    else:
        below = node.setdefault(key, empty)
    if type(below) is not type(empty):
        raise ConfigError(f"{name}: the file has a single value at a part of this path")
    return below


def _dotted_key_paths(schema: inspect.Type, at: str = "") -> Iterator[str]:
    """Yield the dotted path of each key that is not a section; an index is ``[]``."""
    if isinstance(schema, inspect.StructType):
        for field in schema.fields:
            yield from _dotted_key_paths(field.type, f"{at}.{field.encode_name}" if at else field.encode_name)
    elif isinstance(schema, _LISTS) and isinstance(schema.item_type, inspect.StructType):
        yield from _dotted_key_paths(schema.item_type, at + "[]")
    else:
        yield at


def _nearest_key(key: str, keys: list[str]) -> str:
    return difflib.get_close_matches(key, keys, 1, cutoff=0.0)[0]


def _key_path(variable: str) -> KeyPath:
    parts = variable.removeprefix(PREFIX).lower().split(SEPARATOR)
    return tuple(int(part) if part.isdecimal() and len(part) < 6 else part for part in parts)


def _dotted_key(keys: KeyPath) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).removeprefix(".")


_toml_type_names = {
    "`str`": "a text",
    "`int`": "an integer",
    "`float`": "a number",
    "`bool`": "true or false",
    "`array`": "a list",
    "`object`": "a table",
}


def _in_toml_terms(text: str) -> str:
    for word, plain in _toml_type_names.items():
        text = text.replace(word, plain)
    return text[:1].lower() + text[1:]
