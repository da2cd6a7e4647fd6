"""Requirements of pyproject.toml and the pinned versions of the constraints files."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
RUNTIME, DEVELOPMENT = ROOT / "constraints.txt", ROOT / "constraints-dev.txt"
TRACING = ROOT / "constraints-tracing.txt"  # RUNTIME and the extra
PYTHONS = ("3.11", "3.12", "3.13", "3.14")  # supported


@cache
def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def blocks(file: Path) -> list[str]:
    """Return the text of each pin: its requirement and its hashes."""
    return re.findall(r"^[^#\s].*\n(?: .*\n)*", file.read_text(), re.M)


def pins(file: Path) -> dict[str, Requirement]:
    """Return the pinned requirements of a constraints file by package name."""
    requirements = [Requirement(block.partition("\\\n")[0]) for block in blocks(file)]
    return {canonicalize_name(requirement.name): requirement for requirement in requirements}


def pinned_version(pin: Requirement) -> str:
    (specifier,) = pin.specifier
    assert specifier.operator == "=="
    return specifier.version


def required_packages(*groups: str, extra: str = "") -> list[Requirement]:
    """Return the project's dependencies and those of an extra and of dependency groups, with the groups in these."""
    texts = list(pyproject()["project"]["dependencies"])
    if extra:
        texts += pyproject()["project"]["optional-dependencies"][extra]
    for group in groups:
        texts += group_requirements(group)
    return [Requirement(text) for text in texts]


def group_requirements(group: str) -> list[str]:
    texts: list[str] = []
    for entry in pyproject()["dependency-groups"][group]:
        texts += [entry] if isinstance(entry, str) else group_requirements(entry["include-group"])
    return texts
