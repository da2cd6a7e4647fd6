"""The problems of a configuration, collected so that all are reported, and stand-ins for values of a wrong type."""

from __future__ import annotations

import re
from typing import Any

from msgspec import inspect

_part = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


class ConfigError(Exception):
    """The configuration is invalid; the text is one sentence that names file or variable, and key.

    ``key`` is empty if no key is known, and ``line`` is 0 if the value is not in the file; ``problem`` is the text
    without its origin. ``all`` are the problems that were found, this one first.
    """

    def __init__(self, text: str, key: str = "", line: int = 0, problem: str = "") -> None:
        super().__init__(text)
        self.key = key
        self.line = line
        self.problem = problem or text
        self.all: tuple[ConfigError, ...] = (self,)


class Problems:
    """The problems found so far. A value that was replaced by a stand-in causes no further ones."""

    def __init__(self) -> None:
        self._found: list[ConfigError] = []
        self._replaced: set[str] = set()  # dotted keys

    def add(self, error: ConfigError) -> None:
        """Add a problem, unless it was added already, or follows from a stand-in."""
        follows = any(_contains(error.key, key) or _contains(key, error.key) for key in self._replaced)
        if error not in self._found and not (error.key and follows):
            self._found.append(error)

    def note_replaced(self, key: str) -> None:
        """Note that a value was replaced by a stand-in; its problem has been added."""
        self._replaced.add(key)

    def is_replaced(self, key: str) -> bool:
        """Return whether a value itself was replaced by a stand-in."""
        return key in self._replaced

    def concern(self, key: str) -> bool:
        """Return whether a problem is about a value or a part of it."""
        return any(_contains(key, error.key) for error in self._found)

    def raise_first(self) -> None:
        """Raise the first problem, if there is one; it names all.

        Raises:
            ConfigError: there is a problem.
        """
        if self._found:
            first = self._found[0]
            first.all = tuple(self._found)
            raise first


def _contains(outer: str, inner: str) -> bool:
    """Return whether a dotted key is another one, or that of a section or list which contains it."""
    return inner == outer or inner.startswith((f"{outer}.", f"{outer}["))


def replace_by_stand_in(values: Any, schema: inspect.Type, key: str) -> bool:
    """Replace the value at a dotted key by one of the right type; an optional value is removed.

    Return whether that was possible; ``False`` also for the values as a whole.
    """
    parts = [name or int(index) for name, index in _part.findall(key)]
    node = values
    for part in parts[:-1]:
        schema = _type_below(schema, part)
        try:
            node = node[part]
        except (KeyError, IndexError, TypeError):
            return False
    if not parts or not isinstance(node, dict | list):
        return False
    last = parts[-1]
    if isinstance(schema, inspect.StructType) and isinstance(node, dict) and last in node:
        field = next((field for field in schema.fields if field.encode_name == last), None)
        if field is not None and not field.required:
            del node[last]
            return True
    if isinstance(node, list) and not (isinstance(last, int) and last < len(node)):
        return False
    node[last] = _stand_in(_type_below(schema, last))
    return True


def _type_below(schema: inspect.Type, key: str | int) -> inspect.Type:
    if isinstance(schema, inspect.UnionType):
        schema = next((one for one in schema.types if isinstance(one, inspect.VarTupleType | inspect.ListType)), schema)
    if isinstance(schema, inspect.StructType):
        return next((field.type for field in schema.fields if field.encode_name == key), inspect.AnyType())
    if isinstance(schema, inspect.VarTupleType | inspect.ListType):
        return schema.item_type
    return schema.value_type if isinstance(schema, inspect.DictType) else inspect.AnyType()


def _stand_in(schema: inspect.Type) -> object:
    match schema:
        case inspect.StrType():
            return ""
        case inspect.BoolType():
            return False
        case inspect.IntType() | inspect.FloatType():
            return schema.ge if schema.ge is not None else (schema.gt or 0) + 1
        case inspect.VarTupleType() | inspect.ListType():
            return []
        case inspect.UnionType():
            return _stand_in(schema.types[0])
    return {}
