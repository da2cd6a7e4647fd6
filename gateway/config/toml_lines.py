"""Finds the line of each key in a TOML text; ``tomllib`` reads the values but reports no positions.

Source: TOML 1.0, toml.io. The text must be valid, which ``tomllib`` has checked before.
"""

from __future__ import annotations

import re
import tomllib

KeyPath = tuple[str | int, ...]  # ("backend", 0, "secret")

_skip = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_part = re.compile(r'[ \t]*(?:(?P<quoted>"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\')|(?P<bare>[A-Za-z0-9_-]+))[ \t]*')
_string = re.compile(
    r'"""(?:[^\\]|\\.)*?"""(?:"{0,2})|\'\'\'.*?\'\'\'(?:\'{0,2})|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'', re.DOTALL
)
_scalar = re.compile(r"[^,\]}#\n]+")


def find_lines(text: str) -> dict[KeyPath, int]:
    """Return the line, counted from 1, on which each key, section and item of a list begins."""
    return _Scanner(text).scan()


class _Scanner:
    """Goes through a valid TOML text once."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line, self._line_at = 1, 0  # line of the character at the position _line_at
        self._lines: dict[KeyPath, int] = {}
        self._last_index: dict[KeyPath, int] = {}  # index of the last [[section]] of that name

    def scan(self) -> dict[KeyPath, int]:
        section: KeyPath = ()
        while self._skip() < len(self._text):
            if self._text[self._at] == "[":
                section = self._scan_header()
            else:
                self._scan_pair(section)
        return self._lines

    def _skip(self) -> int:
        """Pass blanks, ends of lines and comments; return the position."""
        match = _skip.match(self._text, self._at)
        self._at = match.end() if match else self._at
        return self._at

    def _record(self, path: KeyPath) -> None:
        self._line += self._text.count("\n", self._line_at, self._at)
        self._line_at = self._at
        self._lines.setdefault(path, self._line)

    def _scan_header(self) -> KeyPath:
        start, brackets = self._at, 2 if self._text.startswith("[[", self._at) else 1
        self._at += brackets
        names = self._scan_names()
        path: KeyPath = ()
        for depth, name in enumerate(names):
            path = (*path, name)
            if depth == len(names) - 1 and brackets == 2:
                self._last_index[path] = self._last_index.get(path, -1) + 1
            if path in self._last_index:
                path = (*path, self._last_index[path])
        end, self._at = self._at + brackets, start
        if brackets == 2:
            self._record(path[:-1])  # the list begins with its first section
        self._record(path)
        self._at = end
        return path

    def _scan_names(self) -> list[str]:
        names = []
        while True:
            match = _part.match(self._text, self._at)
            if match is None:
                raise ValueError("not TOML")
            self._at = match.end()
            quoted = match["quoted"]
            names.append(tomllib.loads(f"key = {quoted}")["key"] if quoted else match["bare"])
            if not self._text.startswith(".", self._at):
                return names
            self._at += 1

    def _scan_pair(self, section: KeyPath) -> None:
        start = self._at
        path = (*section, *self._scan_names())
        end, self._at = self._at, start
        self._record(path)
        self._at = end + 1  # the equals sign
        self._skip()
        self._scan_value(path)

    def _scan_value(self, path: KeyPath) -> None:
        first = self._text[self._at]
        if first in "[{":
            self._scan_items(path, first)
            return
        match = (_string if first in "\"'" else _scalar).match(self._text, self._at)
        if match is None:
            raise ValueError("not TOML")
        self._at = match.end()

    def _scan_items(self, path: KeyPath, bracket: str) -> None:
        self._at += 1
        index = 0
        while self._text[self._skip()] not in "]}":
            if bracket == "{":
                self._scan_pair(path)
            else:
                self._record((*path, index))
                self._scan_value((*path, index))
            index += 1
            if self._text[self._skip()] == ",":
                self._at += 1
        self._at += 1
