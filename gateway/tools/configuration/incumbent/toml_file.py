"""Builds the text of a TOML file with comments, section by section."""

from __future__ import annotations

import re
import textwrap

from gateway.config.toml_text import toml_key, toml_value

WIDTH = 110  # characters of a comment line, at most

_control = re.compile(r"[\x00-\x1f\x7f]")


class TomlFile:
    """The text of a configuration that is being written."""

    def __init__(self) -> None:
        """Start with an empty file."""
        self._lines: list[str] = []
        self._header = ""  # of the section whose header is not written yet

    def section(self, header: str) -> None:
        """Begin a section, such as ``"[http]"``; its header is written with the first key or comment."""
        self._header = header

    def set(self, key: str, value: object, comment: str = "") -> None:
        """Add a key and its value, below the comment if there is one."""
        self._begin()
        if comment:
            self.comment(comment)
        self._lines.append(f"{toml_key(key)} = {toml_value(value)}")

    def comment(self, text: str) -> None:
        """Add a comment to the section."""
        self._begin()
        text = _control.sub(" ", text)  # TOML allows no control characters in comments
        self._lines += textwrap.wrap(text, WIDTH, initial_indent="# ", subsequent_indent="#   ", break_long_words=False)

    def blank(self) -> None:
        """Add an empty line."""
        self._lines.append("")

    def _begin(self) -> None:
        if self._header:
            self._lines += ["", self._header] if self._lines else [self._header]
            self._header = ""

    def __str__(self) -> str:
        return "\n".join(self._lines) + "\n"
