"""Parses ``server.conf``: sections and options (case-insensitive), comments, ``%(option)s``, ``$(VARIABLE)``.

Source: docs/migration.md, "From server.conf".
"""

from __future__ import annotations

import re
from collections.abc import Mapping

# Options in whose values $(NAME) is replaced by a variable of the environment.
EXPANDED_OPTIONS = {
    ("http", "listen"),
    ("https", "listen"),
    ("sessions", "hashkey"),
    ("sessions", "blockkey"),
    ("clients", "internalsecret"),
    ("backend", "secret"),
    ("nats", "url"),
    ("mcu", "url"),
    ("turn", "apikey"),
    ("turn", "secret"),
    ("grpc", "listen"),
}
EXPANDED_OF_BACKENDS = {"url", "urls", "secret"}  # the same, in the section of each backend
MAX_DEPTH = 16  # of nested references %(option)s
TRUE_WORDS = {"true", "yes", "on", "y", "t", "1"}

_header = re.compile(r"\[(?P<name>[^\]]*)\]")
_trailing_comment = re.compile(r"[ \t][#;].*$")
_reference = re.compile(r"%\((?P<name>[^)]*)\)s")
_variable = re.compile(r"\$\((?P<name>[^)]*)\)")


class ServerConfError(Exception):
    """The file cannot be read as ``server.conf``; the text is one sentence."""


class ServerConf:
    """The options of one ``server.conf``."""

    def __init__(self, text: str, environ: Mapping[str, str]) -> None:
        """Read the text.

        Raises:
            ServerConfError: a line is neither section, option nor comment.
        """
        self._environ = environ
        self._options: dict[tuple[str, str], str] = {}
        self.used: set[tuple[str, str]] = set()  # options that were read by ``take``, or to which such an option refers
        self._read(text.removeprefix("\ufeff"))

    def _read(self, text: str) -> None:
        section, option = "", ""
        for number, line in enumerate(text.splitlines(), 1):
            content = line.strip()
            if not content or content[0] in "#;":
                continue
            header = _header.match(content)
            if header:
                section, option = header["name"].strip().lower(), ""
                continue
            content = _trailing_comment.sub("", content)
            # in this section alone an option's name may be an IPv6 address, which contains colons
            match = re.search("=" if section == "geoip-overrides" and "=" in content else "[=:]", content)
            if match and match.start() and section:
                option = content[: match.start()].strip().lower()
                self._options[section, option] = content[match.end() :].strip()
            elif option and not match:  # the value continues on this line
                self._options[section, option] += f"\n{content}"
            else:
                raise ServerConfError(f"line {number} is neither a section, an option nor a comment")

    def options(self, section: str) -> list[str]:
        """Return the names of the options of a section that have a value."""
        return [option for of, option in self._options if of == section.lower() and self.text(section, option)]

    def sections(self) -> list[str]:
        """Return the names of the sections that have options, in lower case."""
        return list(dict.fromkeys(section for section, _ in self._options))

    def text(self, section: str, option: str) -> str:
        """Return the value of an option; empty if there is none.

        Raises:
            ServerConfError: it refers to itself, or to an option or variable that does not exist.
        """
        at = section.lower(), option.lower()
        value = self._resolve(at, self._options.get(at, ""), 0)
        expanded = at in EXPANDED_OPTIONS or (at[1] in EXPANDED_OF_BACKENDS and at[0] in self.backend_sections())
        return _variable.sub(lambda match: self._expand(at, match["name"]), value) if expanded else value

    def take(self, section: str, option: str) -> str:
        """Return the value as ``text`` does, and count the option as used."""
        self.used.add((section.lower(), option.lower()))
        return self.text(section, option)

    def take_list(self, section: str, option: str) -> list[str]:
        """Take a list: return its items, separated by commas or line ends."""
        return [part.strip() for part in re.split(r"[,\n]", self.take(section, option)) if part.strip()]

    def take_number(self, section: str, option: str) -> int:
        """Take a number; 0, for which the Go server uses its default, if the value is no decimal number."""
        text = self.take(section, option)
        return int(text) if text.isascii() and text.isdecimal() else 0

    def take_flag(self, section: str, option: str) -> bool:
        """Take a flag: return whether the option is on."""
        return self.take(section, option).lower() in TRUE_WORDS

    def backend_sections(self) -> list[str]:
        """Return the ids of the static backends, in lower case."""
        listed = self._options.get(("backend", "backends"), "")
        return [part.strip().lower() for part in re.split(r"[,\n]", listed) if part.strip()]

    def _resolve(self, at: tuple[str, str], value: str, depth: int) -> str:
        if depth > MAX_DEPTH:
            raise ServerConfError(f"[{at[0]}] {at[1]} refers to itself")

        def referenced(match: re.Match[str]) -> str:
            for section in (at[0], "default"):
                found = self._options.get((section, match["name"].lower()))
                if found is not None:
                    self.used.add((section, match["name"].lower()))
                    return self._resolve(at, found, depth + 1)
            raise ServerConfError(f"[{at[0]}] {at[1]} refers to the option {match['name']}, which does not exist")

        return _reference.sub(referenced, value)

    def _expand(self, at: tuple[str, str], name: str) -> str:
        if name not in self._environ:
            text = f"[{at[0]}] {at[1]} names the variable {name}, which is not set; set it as the service has it"
            raise ServerConfError(text)
        return self._environ[name]
