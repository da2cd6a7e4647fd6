"""Set-up installs the pinned files and nothing else, whichever other releases the package index has."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from tests.setup.commands import PINNED_OPTIONS, attempt, copy_tree, run
from tests.setup.index import NEWER_VERSION, make_wheel, metadata, serving_index, write_pages
from tests.setup.pins import DEVELOPMENT, PYTHONS, RUNTIME, pinned_version, pins, required_packages

CURRENT_PIP = Path(__file__).with_name("current-pip.txt")
UV = Path(sys.executable).with_name("uv")

pytestmark = [pytest.mark.full, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Download the pinned wheels for this Python from the index that this machine is configured with."""
    folder = tmp_path_factory.mktemp("wheels")
    run(sys.executable, "-m", "pip", "download", *PINNED_OPTIONS, "--dest", folder, "-r", DEVELOPMENT, cwd=folder)
    return {parse_wheel_filename(wheel.name)[0]: wheel for wheel in folder.iterdir()}


@pytest.fixture
def index_folder(wheels: dict[str, Path], tmp_path: Path) -> Path:
    """Lay out an index with a newer release beside each pinned one, with the same extras."""
    files = tmp_path / "index" / "files"
    files.mkdir(parents=True)
    for name, pin in pins(DEVELOPMENT).items():
        extras: list[str] = []
        if name in wheels:
            shutil.copy2(wheels[name], files)
            extras = metadata(wheels[name]).get_all("Provides-Extra", [])
        else:  # excluded by its marker on this system; uv locks for all systems
            make_wheel(files, name, pinned_version(pin))
        make_wheel(files, name, NEWER_VERSION, extras)
    write_pages(files.parent)
    return files.parent


@pytest.fixture
def index(index_folder: Path) -> Iterator[str]:
    with serving_index(index_folder) as address:
        yield address


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return copy_tree(tmp_path / "tree")


def environment(index: str, home: Path) -> dict[str, str]:
    """Return environment variables with which pip and uv know this Python and this index only."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_", "VIRTUAL_ENV"))}
    return kept | {
        "PYTHON": sys.executable,
        "NO_PROXY": "127.0.0.1",
        "XDG_CONFIG_HOME": str(home / "config"),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": index,
        "PIP_NO_CACHE_DIR": "1",
        "UV_DEFAULT_INDEX": index,
        "UV_CACHE_DIR": str(home / "uv-cache"),
        "UV_PYTHON": sys.executable,
        "UV_PYTHON_DOWNLOADS": "never",
    }


def installed_versions(tree: Path) -> dict[str, str]:
    """Return the versions of the packages in the tree's environment, without pip and Portunus themselves."""
    (site_packages,) = (tree / ".venv" / "lib").glob("python*/site-packages")
    versions = {canonicalize_name(found.name): found.version for found in distributions(path=[str(site_packages)])}
    return {name: version for name, version in versions.items() if name not in ("pip", "portunus")}


def pinned_versions(file: Path, python: str | None = None) -> dict[str, str]:
    """Return the pinned versions that apply to this system, with this Python or another."""
    marked = marker_environment(python)
    return {
        name: pinned_version(pin)
        for name, pin in pins(file).items()
        if pin.marker is None or pin.marker.evaluate(marked)
    }


def marker_environment(python: str | None) -> dict[str, str]:
    environment = {key: str(value) for key, value in default_environment().items()}
    if python is not None:
        environment |= {"python_version": python, "python_full_version": f"{python}.0"}
    return environment


def test_index_has_a_newer_release_of_a_package_that_is_needed_with_an_extra(index_folder: Path) -> None:
    newer = index_folder / "files" / f"coverage-{NEWER_VERSION}-py3-none-any.whl"
    assert "toml" in metadata(newer).get_all("Provides-Extra", [])
    needed = [
        Requirement(text)
        for wheel in (index_folder / "files").iterdir()
        for text in metadata(wheel).get_all("Requires-Dist", [])
    ]
    assert any(requirement.name == "coverage" and "toml" in requirement.extras for requirement in needed)


@pytest.mark.parametrize("pip", ["bundled", "current"])
def test_pip_installs_the_pinned_versions_beside_newer_releases(
    pip: str, index: str, tree: Path, tmp_path: Path
) -> None:
    python = tree / ".venv" / "bin" / "python"
    if pip == "current":
        run(sys.executable, "-m", "venv", tree / ".venv", cwd=tree)
        run(python, "-m", "pip", "install", *PINNED_OPTIONS, "-r", CURRENT_PIP, cwd=tree)
    run("scripts/venv", "constraints-dev.txt", cwd=tree, env=environment(index, tmp_path))
    assert installed_versions(tree) == pinned_versions(DEVELOPMENT)
    assert "No broken requirements" in run(python, "-m", "pip", "check", cwd=tree)
    assert run("scripts/venv", "constraints-dev.txt", cwd=tree, env=environment(index, tmp_path)) == ""  # complete


def test_uv_installs_the_pinned_versions_beside_newer_releases(index: str, tree: Path, tmp_path: Path) -> None:
    run(UV, "sync", cwd=tree, env=environment(index, tmp_path))
    assert installed_versions(tree) == pinned_versions(DEVELOPMENT)
    assert "portunus" in run(UV, "run", "portunus", "--version", cwd=tree, env=environment(index, tmp_path))


@pytest.fixture
def damaged_index(index_folder: Path) -> Iterator[str]:
    """Serve an index with one pinned file that differs in one byte."""
    (wheel,) = (index_folder / "files").glob(f"pluggy-{pinned_versions(DEVELOPMENT)['pluggy']}-*.whl")
    content = bytearray(wheel.read_bytes())
    content[10] ^= 1  # the modification time of the first member, which only the hash protects
    wheel.write_bytes(content)
    with serving_index(index_folder) as address:
        yield address


def test_pip_refuses_a_pinned_file_with_one_changed_byte(damaged_index: str, tree: Path, tmp_path: Path) -> None:
    refused = attempt("scripts/venv", "constraints-dev.txt", cwd=tree, env=environment(damaged_index, tmp_path))
    assert refused.returncode != 0
    assert "DO NOT MATCH THE HASHES" in refused.stderr
    assert "pluggy" in refused.stderr
    assert set(installed_versions(tree)) <= {"setuptools"}  # from venv itself


def test_uv_refuses_a_pinned_file_with_one_changed_byte(damaged_index: str, tree: Path, tmp_path: Path) -> None:
    env = environment(damaged_index, tmp_path)
    run(UV, "venv", cwd=tree, env=env)
    del env["UV_PYTHON"]  # it would take precedence over .venv
    refused = attempt(UV, "pip", "sync", "--require-hashes", "constraints-dev.txt", cwd=tree, env=env)
    assert refused.returncode != 0
    assert "Hash mismatch for `pluggy" in refused.stderr
    assert installed_versions(tree) == {}


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize(
    ("file", "group"),
    [pytest.param(RUNTIME, "build", id="runtime"), pytest.param(DEVELOPMENT, "dev", id="development")],
)
def test_pins_are_the_complete_closure_of_the_requirements(
    file: Path, group: str, python: str, wheels: dict[str, Path]
) -> None:
    """Follow each requirement, its extras and its marker from pyproject.toml on, through the wheels' metadata."""
    pinned = pinned_versions(file, python)
    base = marker_environment(python)
    followed: set[tuple[str, str]] = set()
    pending = required_packages(group)
    while pending:
        requirement = pending.pop()
        name = canonicalize_name(requirement.name)
        assert name in pinned, requirement
        assert requirement.specifier.contains(pinned[name]), requirement
        core = metadata(wheels[name])
        assert requirement.extras <= set(core.get_all("Provides-Extra", [])), requirement
        for extra in {"", *requirement.extras} - {extra for of, extra in followed if of == name}:
            followed.add((name, extra))
            needed = [Requirement(text) for text in core.get_all("Requires-Dist", [])]
            pending += [need for need in needed if need.marker is None or need.marker.evaluate(base | {"extra": extra})]
    assert {name for name, _ in followed} == set(pinned)
