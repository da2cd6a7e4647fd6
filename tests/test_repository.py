"""Repository as a whole: its documents match the code, and no file depends on one machine."""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections import defaultdict
from functools import cache
from importlib.metadata import version
from pathlib import Path
from textwrap import dedent

import msgspec
import pytest

from gateway import config
from gateway.core.limits import Backend, BackendQualityRules
from gateway.version import VERSION
from mcu import factory

ROOT = Path(__file__).parent.parent
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"]


@cache
def tracked_texts() -> dict[str, str]:
    """Return the texts of all files in the tree by name, except this file and binary files."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    texts = {}
    for name in filter(None, listed.split("\0")):
        path = ROOT / name
        if path.is_file() and path != Path(__file__):
            content = path.read_bytes()
            if b"\0" not in content:
                texts[name] = content.decode(errors="replace")
    return texts


def names_with(pattern: str) -> list[str]:
    return [name for name, text in tracked_texts().items() if re.search(pattern, text)]


@cache
def project() -> dict[str, object]:
    return dict(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"])


def test_no_file_names_a_package_registry() -> None:
    assert (
        names_with(r"(?i)pypi\.org|pythonhosted|files\.python|registry\.npmjs|--(extra-)?index-url|--find-links") == []
    )


def test_no_file_has_a_path_of_one_machine() -> None:
    assert names_with(r"(?<![\w.])/(work|root|home/[a-z])/") == []


def test_class_names_of_the_sources_are_unique() -> None:
    """A message of the same name exists per direction in ``gateway.wire``; ``Room`` is a message and the state."""
    modules = defaultdict(set)
    for name, text in tracked_texts().items():
        if name.startswith(("gateway/", "mcu/", "sdp/")) and name.endswith(".py"):
            for defined in re.findall(r"^class (\w+)", text, re.M):
                modules[defined].add(name)
    repeated = {defined for defined, names in modules.items() if len(names) > 1}
    elsewhere = {defined for defined in repeated if any("/wire/" not in name for name in modules[defined])}
    assert {"Hello", "Message"} <= repeated
    assert elsewhere == {"Room"}


def test_version_is_stated_once() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?", VERSION)
    assert "version" not in project()
    assert version("portunus") == VERSION


def test_licence_is_apache_2() -> None:
    assert project()["license"] == "Apache-2.0"
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


def documents() -> list[Path]:
    return [*(ROOT / name for name in DOCUMENTS), *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.name)
def test_files_that_a_document_links_to_exist(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []


def anchors(document: Path) -> set[str]:
    """Return the anchors of a document's headings, as code hosts make them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.name)
def test_sections_that_a_document_links_to_exist(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#\s]*)#([^)\s]+)\)", document.read_text())
    targets = [(document.parent / name if name else document, anchor) for name, anchor in links]
    assert [anchor for target, anchor in targets if anchor not in anchors(target)] == []


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.name)
def test_files_that_a_document_names_exist(document: Path) -> None:
    named = re.findall(
        r"`((?:docs|tests|scripts|gateway|mcu|sdp|bench|janus-config|\.ci)/[\w./-]*)`", document.read_text()
    )
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_make_targets_that_documents_name_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for document in documents():
        assert set(re.findall(r"(?:^(?:\$ )?|`)make ([a-z-]+)", document.read_text(), re.M)) <= targets, document


def test_readme_shows_how_to_try_test_and_configure() -> None:
    text = (ROOT / "README.md").read_text()
    for part in ("make demo", "make test", 'type = "janus"', "docs/install.md", "docs/architecture.md"):
        assert part in text


def test_each_dependency_has_its_purpose_documented() -> None:
    documented = (ROOT / "docs" / "architecture.md").read_text()
    dependencies = project()["dependencies"]
    assert isinstance(dependencies, list)
    for dependency in dependencies:
        name = re.match(r"[\w-]+", dependency)
        assert name is not None
        assert name[0] in documented


def test_names_of_the_glossary_exist_in_the_code() -> None:
    section = (ROOT / "docs" / "architecture.md").read_text().partition("\n## Glossary\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][1:]
    named = {re.sub(r".*[`.](\w+)` \|$", r"\1", row) for row in rows}
    assert len(named) > 40
    code = "\n".join(text for name, text in tracked_texts().items() if name.endswith(".py"))
    defined = set(re.findall(r"^(?:class|(?:async )?def) (\w+)|^(\w+) = NewType", code, re.M))
    assert named - {name for names in defined for name in names} == set()


def test_modules_that_judge_the_format_of_messages_are_documented() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    section = text.partition("\n## Structure of messages\n")[2].partition("\nDescriptions")[0]
    documented = set(re.findall(r"`(gateway/[\w/]+\.py)`", section))
    raising = {name for name in names_with(r"\bINVALID_FORMAT\.error\(\)") if name.startswith("gateway/")}
    assert documented == raising


@pytest.mark.parametrize("name", ["README.md", "docs/operations.md"])
def test_configuration_that_a_document_shows_can_be_loaded(name: str, tmp_path: Path) -> None:
    blocks = re.findall(r"(?:^    .*\n|^\n(?=    ))+", (ROOT / name).read_text(), re.M)
    (example,) = [block for block in blocks if "[http]" in block]
    file = tmp_path / "portunus.toml"
    file.write_text(dedent(example).replace('"…"', '"6d1f0c7b2e9a4583b7c6d5e4f3a29180"'))
    loaded = config.load(file, {})
    assert loaded.mcu.type == "janus"
    assert [backend.urls for backend in loaded.backends] == [("https://cloud.example.com/",)]


def test_every_configuration_key_is_described() -> None:
    keys = _keys_of_section("Configuration") | {f"limits.{key}" for key in _keys_of_section("Limits")}
    assert keys == configuration_keys()


def _keys_of_section(title: str) -> set[str]:
    """Return the keys in the tables of a section of operations.md."""
    section = (ROOT / "docs" / "operations.md").read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    described = re.findall(r"^\| ((?:`[\w.]+`(?:, )?)+) \|", section, re.M)
    return set(re.findall(r"`([\w.]+)`", " ".join(described)))


def configuration_keys() -> set[str]:
    keys = {f"backend.{name}" for name in Backend.__struct_fields__ if name != "quality"}
    keys |= {f"backend.quality.{name}" for name in BackendQualityRules.__struct_fields__}
    for section in msgspec.structs.fields(config.Config):
        if section.encode_name != "backend":
            keys |= {f"{section.encode_name}.{name}" for name in section.type.__struct_encode_fields__}
    keys.remove("mcu.settings")  # its keys are under the name of the SFU
    for name in factory.names():
        settings = factory.settings_type(name)
        settings = getattr(settings, "__args__", (settings,))[0]  # several of them
        keys |= {f"mcu.{name}.{key}" for key in settings.__struct_encode_fields__}
    return keys
