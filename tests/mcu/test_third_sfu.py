"""A third SFU is added to a copy of the tree at the places that docs/mcu.md names, and the gateway runs on it."""

from __future__ import annotations

import re
import shutil
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.setup.commands import copy_tree, run
from tests.setup.pins import ROOT
from tests.test_packaging import served_address

pytestmark = [pytest.mark.full, pytest.mark.timeout(600)]

EXAMPLE = ROOT / "tests" / "mcu" / "example"
CONFIGURATION = """\
[http]
listen = ["127.0.0.1:0"]
[sessions]
secret = "c41f2be6b0d94a6c8f3f7a52e1d06b98"
[[backend]]
id = "cloud"
urls = ["https://cloud.example.com/"]
secret = "5d0e7c1f9ab34e7286c4d1f0a9b8e723"
[mcu]
type = "example"
[mcu.example]
streams = 10
"""
# Publishes through the flows on the example SFU, and prints the type of the client's reply.
PUBLISH = """\
import asyncio
import time
from mcu import factory
from mcu.example.settings import ExampleSettings
from tests.gateway.flows.harness import FlowHarness
from tests.gateway.flows.virtual_time import settle

async def publish():
    sfu = factory.create("example", ExampleSettings(), timeout=1.0, clock=time.monotonic, wall_clock=time.time)
    await sfu.start(lambda status: None)
    async with FlowHarness(sfu=sfu) as harness:
        alice = await harness.member("alice", in_call=True)
        alice.offer()
        await settle()
        print([data["type"] for data in alice.data()], sfu.status().sfus[0].publishers)

asyncio.run(publish())
"""
# Prints why a configuration is refused.
LOAD = """\
import sys
from gateway import config

try:
    config.load(sys.argv[1], {})
except config.ConfigError as error:
    print(error)
"""


def insert(before: str, text: str) -> Callable[[str], str]:
    """Return an edit that inserts ``text`` before the only line that begins with ``before``."""

    def edit(source: str) -> str:
        edited, count = re.subn(rf"(?m)^(?={re.escape(before)})", text.replace("\\", r"\\"), source)
        assert count == 1, before
        return edited

    return edit


def replace(old: str, new: str) -> Callable[[str], str]:
    """Return an edit that replaces the only occurrence of ``old``."""

    def edit(source: str) -> str:
        assert source.count(old) == 1, old
        return source.replace(old, new)

    return edit


FACTORY = """\
def _example_settings_type() -> Any:
    from mcu.example.settings import ExampleSettings

    return ExampleSettings


def _create_example(settings: Any, options: SfuOptions) -> Mcu:
    from mcu.example.backend import ExampleMcu

    return ExampleMcu(settings)


"""
CONTRACT = """\
class ExampleSfu(Sfu):
    def __init__(self) -> None:
        self.mcu: Mcu = ExampleMcu(ExampleSettings())

    async def open_streams(self) -> int:
        (sfu,) = self.mcu.status().sfus
        return sfu.publishers + sfu.subscribers


async def example(stack: AsyncExitStack) -> Sfu:
    return ExampleSfu()


"""
EDITS: dict[str, list[Callable[[str], str]]] = {
    "mcu/factory.py": [
        insert("SFU_TYPES = {", FACTORY),
        replace(
            '    "inprocess": _SfuType(',
            '    "example": _SfuType(_example_settings_type, _no_check, _create_example),\n    "inprocess": _SfuType(',
        ),
    ],
    "tests/test_imports.py": [
        insert('    "mcu.factory": (', '    "mcu.example": (*SFU_SHARED, "sdp"),\n'),
        replace('"mcu.janus", "mcu.inprocess"),', '"mcu.janus", "mcu.inprocess", "mcu.example"),'),
    ],
    "docs/operations.md": [
        replace('`"janus"`, `"inprocess"`, `"none"`', '`"janus"`, `"inprocess"`, `"example"`, `"none"`'),
        insert("| `mcu.inprocess.address` |", "| `mcu.example.streams` | 100 | streams that are published at most |\n"),
    ],
    "tests/mcu/contract/sfus.py": [
        insert("from mcu.inprocess import", "from mcu.example.backend import ExampleMcu\n"),
        insert("from mcu.inprocess import", "from mcu.example.settings import ExampleSettings\n"),
        insert("# Each entry creates", CONTRACT),
        replace('    "inprocess": inprocess,\n', '    "example": example,\n    "inprocess": inprocess,\n'),
    ],
    "tests/mcu/test_factory.py": [
        replace('== ("janus", "inprocess")', '== ("janus", "example", "inprocess")'),
        replace("there are: janus, inprocess", "there are: janus, example, inprocess"),
    ],
}


def places() -> list[str]:
    """Return the places that the page names, in the order of its table."""
    page = (ROOT / "docs" / "mcu.md").read_text(encoding="utf-8")
    table = page.partition("\n### A third SFU\n")[2].partition("| Place | Edit |\n")[2].partition("\n\n")[0]
    return re.findall(r"(?m)^\| `([^`]+)` \|", table)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the tree with the example SFU added."""
    copy = copy_tree(tmp_path_factory.mktemp("tree"))
    run("git", "init", "-q", cwd=copy)  # the tests of the repository list its files
    shutil.copytree(EXAMPLE, copy / "mcu" / "example", ignore=shutil.ignore_patterns("__pycache__"))
    for name, edits in EDITS.items():
        source = (copy / name).read_text(encoding="utf-8")
        for edit in edits:
            source = edit(source)
        (copy / name).write_text(source, encoding="utf-8")
    return copy


def python(copy: Path, *arguments: str | Path) -> str:
    """Run Python on the modules of the copy."""
    return run(sys.executable, *arguments, cwd=copy)


def test_docs_name_each_file_that_is_edited() -> None:
    assert places() == ["mcu/<type>/", *EDITS]


def test_modules_of_the_copy_are_imported(copy: Path) -> None:
    printed = python(copy, "-c", "import mcu.base, mcu.example.backend; print(mcu.base.__file__)")
    assert Path(printed.strip()) == copy / "mcu" / "base.py"


def test_gateway_runs_with_the_configuration_of_the_third_sfu(copy: Path) -> None:
    file = copy / "example.toml"
    file.write_text(CONFIGURATION)
    portunus = ("-c", "from gateway.cli import main; main()", "serve", "-c", str(file))
    with (
        served_address(copy, Path(sys.executable), *portunus) as address,
        urllib.request.urlopen(f"{address}/api/v1/welcome", timeout=10) as response,
    ):
        assert response.status == 200


def test_unknown_key_in_the_section_of_the_third_sfu_is_refused(copy: Path) -> None:
    file = copy / "unknown.toml"
    file.write_text(CONFIGURATION + "colour = 1\n")
    assert "mcu.example" in python(copy, "-c", LOAD, file)


def test_stream_is_published_on_the_third_sfu_through_the_flows(copy: Path) -> None:
    assert python(copy, "-c", PUBLISH).split("\n")[-2] == "['answer'] 1"


def test_third_sfu_implements_the_interface(copy: Path) -> None:
    python(copy, "-m", "mypy", "mcu/factory.py", "tests/mcu/contract/sfus.py")


def test_copy_keeps_the_rules_of_the_repository(copy: Path) -> None:
    tests = ("tests/test_imports.py", "tests/mcu/test_factory.py")
    python(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests)
    documentation = "tests/test_repository.py::test_every_configuration_key_is_described"
    python(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", documentation)


def test_contract_tests_without_media_pass_on_the_third_sfu(copy: Path) -> None:
    chosen = "example and (unpublished_stream or refused_offer) and not tones"  # the example knows no codecs
    output = python(copy, "-m", "pytest", "-p", "no:cacheprovider", "tests/mcu/contract", "-k", chosen)
    assert re.search(r"(?m)^\.\. +\[100%\]$", output), output
