"""The constraints files, pyproject.toml and its table for uv name the same packages and versions."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.setup.commands import PINNED_OPTIONS
from tests.setup.pins import (
    DEVELOPMENT,
    PYTHONS,
    ROOT,
    RUNTIME,
    TRACING,
    blocks,
    group_requirements,
    pins,
    pyproject,
    required_packages,
)

FILES = [
    pytest.param(RUNTIME, "build", "", id="runtime"),
    pytest.param(TRACING, "build", "tracing", id="tracing"),
    pytest.param(DEVELOPMENT, "dev", "tracing", id="development"),
]


@pytest.mark.parametrize("file", [RUNTIME, TRACING, DEVELOPMENT], ids=lambda file: file.name)
def test_each_package_is_pinned_to_one_version_with_hashes(file: Path) -> None:
    assert len(blocks(file)) == len(pins(file)) > 20
    for block in blocks(file):
        assert re.fullmatch(r"[a-z0-9-]+==[\w.]+( ; [^\n]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+\n", block), block


@pytest.mark.parametrize(("file", "group", "extra"), FILES)
def test_each_requirement_of_pyproject_is_pinned_within_its_range(file: Path, group: str, extra: str) -> None:
    pinned = pins(file)
    for requirement in required_packages(group, extra=extra):
        (specifier,) = pinned[canonicalize_name(requirement.name)].specifier
        assert requirement.specifier.contains(specifier.version), requirement


def test_development_pins_include_the_runtime_pins() -> None:
    assert set(blocks(RUNTIME)) < set(blocks(TRACING)) < set(blocks(DEVELOPMENT))


def test_development_group_has_the_packages_of_the_extra() -> None:
    assert {*pyproject()["project"]["optional-dependencies"]["tracing"]} <= {*group_requirements("dev")}


def test_pins_for_uv_are_those_of_the_constraints_files() -> None:
    table = pyproject()["tool"]["uv"]
    constrained = [Requirement(text) for text in table["constraint-dependencies"]]
    assert constrained == list(pins(DEVELOPMENT).values())
    assert [Requirement(text) for text in table["build-constraint-dependencies"]] == [pins(RUNTIME)["setuptools"]]


@pytest.mark.parametrize("name", ["scripts/venv", "Dockerfile", "docs/install.md"])
def test_each_installation_takes_the_pinned_files_and_builds_with_the_pinned_tools(name: str) -> None:
    commands = re.findall(r"\bpip install .*", (ROOT / name).read_text())
    assert len(commands) == 2
    assert f" {' '.join(PINNED_OPTIONS)} " in commands[0]
    assert " --no-deps --no-build-isolation " in commands[1]


def test_build_group_holds_the_build_system() -> None:
    assert pyproject()["dependency-groups"]["build"] == pyproject()["build-system"]["requires"]


def test_each_place_names_the_same_oldest_python() -> None:
    oldest = PYTHONS[0]
    assert pyproject()["project"]["requires-python"] == f">={oldest}"
    assert pyproject()["tool"]["mypy"]["python_version"] == oldest
    assert pyproject()["tool"]["ruff"]["target-version"] == f"py{oldest.replace('.', '')}"
    assert (ROOT / ".python-version").read_text() == f"{oldest}\n"
    assert f"--python-version {oldest} " in (ROOT / "scripts" / "constraints").read_text()


def test_classifiers_name_the_supported_pythons() -> None:
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(pyproject()["project"]["classifiers"]))
    assert tuple(named) == PYTHONS


def test_image_has_the_newest_supported_python() -> None:
    assert re.findall(r"^FROM python:([\d.]+)-", (ROOT / "Dockerfile").read_text(), re.M) == [PYTHONS[-1]] * 2


def test_lock_of_uv_stays_out_of_the_repository() -> None:
    """It records the address of the package index that it was resolved with."""
    ignored = subprocess.run(["git", "check-ignore", "--quiet", "uv.lock"], cwd=ROOT, check=False)
    assert ignored.returncode == 0
