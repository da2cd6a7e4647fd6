"""The findings of ``portunus config check``: problems with keys of a configuration, and their remedies."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from gateway.config import ConfigError
from gateway.config.source import ConfigSource

# error: the setting does not work; warning: it is probably a mistake; note: no problem if a condition is met
Level = Literal["error", "warning", "note"]
# file: the problem depends on the configuration alone; world: also on the machine and the network
Area = Literal["file", "world"]

DEFAULT_REMEDY = 'docs/operations.md, "Configuration", says which values the key takes'


class Finding(Struct, frozen=True):
    """One problem, its place in the configuration, and its remedy."""

    level: Level
    area: Area
    place: str  # "FILE:12", the name of an environment variable, or the path of the file
    key: str  # "http.listen[0]"; empty: the file as a whole
    line: int  # of the file; 0 if the value is not in the file
    problem: str
    remedy: str

    def __str__(self) -> str:
        key = f"{self.key}: " if self.key else ""
        return f"{self.level}: {self.place}: {key}{self.problem}\n    {self.remedy}"


class Findings:
    """Collects the findings about one configuration."""

    def __init__(self, source: ConfigSource) -> None:
        """Start without findings; ``source`` finds the place of a key."""
        self._source = source
        self.found: list[Finding] = []

    def add(self, level: Level, area: Area, key: str, problem: str, remedy: str) -> None:
        """Add a problem with the value of a key."""
        line = self._source.error(key, problem).line
        self.found.append(Finding(level, area, self._source.place(key), key, line, problem, remedy))


def loading_failure(error: ConfigError, path: str) -> Finding:
    """Return the finding for a configuration that cannot be loaded."""
    problem, _, remedy = error.problem.partition("; ")
    # without a line, the text of the error begins with the path or the name of a variable
    place = f"{path}:{error.line}" if error.line else str(error).partition(": ")[0] if error.key else path
    problem = problem.removeprefix(f"{path}: ")
    return Finding("error", "file", place, error.key, error.line, problem, remedy or DEFAULT_REMEDY)
