"""Artifacts of ``make dist``: reproducible, with the image's whole context, and a bill of materials of all packages."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from pathspec import PathSpec

from gateway.version import VERSION
from tests.setup.commands import copy_tree, run
from tests.setup.pins import ROOT, RUNTIME, blocks, pins

LEFTOVERS = ("gateway/__pycache__/app.cpython-311.pyc", "mcu/x.so", "portunus.egg-info/PKG-INFO", "janus-config/.env")
OUTSIDE = (
    ".git/config",
    ".venv/bin/python",
    "portunus.toml",
    ".env",
    "tests/conftest.py",
    "build/x",
    "dist/x",
    "docs/x",
)


def copied_sources() -> list[str]:
    """Return the files and folders of the context that the Dockerfile copies."""
    instructions = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.M)
    return [name for instruction in instructions for name in instruction.split()]


def tracked(*names: str) -> set[str]:
    return set(filter(None, run("git", "ls-files", "-z", "--", *names, cwd=ROOT).split("\0")))


def test_context_of_the_image_has_the_files_that_are_copied_and_no_others() -> None:
    # patterns like in .gitignore, but relative to the context unless they begin with an asterisk
    anchored = re.sub(r"^(!?)(?=\w)", r"\1/", (ROOT / ".dockerignore").read_text(), flags=re.M)
    ignored = PathSpec.from_lines("gitignore", anchored.splitlines())
    everything = tracked() | set(LEFTOVERS) | set(OUTSIDE)
    sent = {name for name in everything if not ignored.match_file(name)}
    assert sent == tracked(*copied_sources())
    assert {"constraints.txt", "janus-config/fill.py", "gateway/web/index.html"} <= sent


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run("scripts/dist", folder, cwd=ROOT)
    return folder


@pytest.fixture
def bill(dist: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((dist / f"portunus-{VERSION}.cdx.json").read_text())
    return document


@pytest.mark.full
def test_second_build_of_a_commit_has_the_same_bytes(dist: Path, tmp_path: Path) -> None:
    """Also in another folder, with another umask, time zone and language, and with times of the files that differ."""
    clone = tmp_path / "clone"
    run("git", "clone", "--quiet", ROOT, clone, cwd=tmp_path)
    for path in copy_tree(clone).rglob("*.*"):
        os.utime(path, (1, 1))
    run("git", "add", "--all", cwd=clone)
    (clone / ".venv").symlink_to(ROOT / ".venv")
    environment = {**os.environ, "TZ": "Pacific/Auckland", "LC_ALL": "C", "PYTHONHASHSEED": "7"}
    subprocess.run(
        ["sh", "-c", 'umask 077; scripts/dist "$0"', str(tmp_path / "again")], cwd=clone, env=environment, check=True
    )
    digests = [
        {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
        for folder in (dist, tmp_path / "again")
    ]
    assert len(digests[0]) == 3
    assert digests[0] == digests[1]


@pytest.mark.full
def test_context_holds_the_tracked_files_readable_for_all(dist: Path) -> None:
    with tarfile.open(dist / f"portunus-{VERSION}-image.tar.gz") as archive:
        members = archive.getmembers()
    assert {member.name for member in members} == tracked("Dockerfile", ".dockerignore", *copied_sources())
    assert all(member.mode & 0o444 == 0o444 and not member.mode & 0o022 for member in members)
    assert {(member.uid, member.gid) for member in members} == {(0, 0)}


@pytest.mark.full
def test_bill_of_materials_has_each_pinned_package_with_its_hashes_and_licence(bill: dict[str, Any]) -> None:
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    components = {component["name"]: component for component in bill["components"]}
    assert {name: component["version"] for name, component in components.items()} == {
        name: next(iter(requirement.specifier)).version for name, requirement in pins(RUNTIME).items()
    }
    for block in blocks(RUNTIME):
        component = components[block.partition("==")[0]]
        assert {it["content"] for it in component["hashes"]} == set(re.findall(r"sha256:(\w+)", block))
        assert {it["alg"] for it in component["hashes"]} == {"SHA-256"}
        (stated,) = component["licenses"]
        assert stated.get("expression") or stated["license"]["id"]  # SPDX, not words
    assert [name for name, it in components.items() if it["scope"] == "excluded"] == ["setuptools"]


@pytest.mark.full
def test_bill_of_materials_names_the_wheel_and_what_it_depends_on(bill: dict[str, Any], dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    portunus = bill["metadata"]["component"]
    assert portunus["version"] == VERSION
    assert portunus["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(wheel.read_bytes()).hexdigest()}]
    edges = {it["ref"]: set(it.get("dependsOn", [])) for it in bill["dependencies"]}
    reached, pending = set(), {portunus["bom-ref"]}
    while pending:
        reached |= pending
        pending = {ref for name in pending for ref in edges[name]} - reached
    unused = {it["bom-ref"] for it in bill["components"]} - reached
    assert {ref.partition("@")[0] for ref in unused} == {"pkg:pypi/setuptools"}
