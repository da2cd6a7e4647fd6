"""Each command that a document shows is run by a test: here, or where ``covered`` says; and a new one fails.

Commands of ``portunus`` are run here with a gateway; those of Python modules are checked for modules, files, options.
"""

from __future__ import annotations

import asyncio
import getpass
import importlib.util
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway import config
from gateway.app import Gateway
from gateway.cli import main
from gateway.tools.fake_nextcloud import FakeNextcloud
from gateway.tools.talk_client import TalkClient
from gateway.version import VERSION
from tests.documents import covered
from tests.documents.shell import (
    DOCUMENTS,
    NEXT_STEPS,
    ROOT,
    commands_outside_shell_blocks,
    section_commands,
    shown_commands,
)
from tests.gateway.served import configuration_for
from tests.janus_process import libraries
from tests.ports import free_ports
from tests.root_logger import restored_root_logger

ROOM = "4tq8xrwe"  # of the examples
IMPORTED = Path(__file__).parents[1] / "gateway" / "tools" / "configuration" / "incumbent" / "everything.conf"
MARKS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["markers"]

SHOWN = {command: document.name for document in DOCUMENTS for command in shown_commands(document)}
IN_MACHINE = {
    command
    for title, document in covered.MACHINE_SECTIONS.items()
    for command in section_commands(ROOT / "docs" / document, title)
}


def is_portunus(command: str) -> bool:
    """Return whether a command is one of ``portunus``, which is run here unless ``covered`` names another place."""
    return re.match(r"(?:sudo (?:-u portunus )?|/opt/portunus/bin/)?portunus ", command) is not None


def is_module(command: str) -> bool:
    return re.match(r"(?:PORTUNUS_\w+=\S+ )*\.venv/bin/python -m ", command) is not None


def is_fill(command: str) -> bool:
    return command.startswith("python3 janus-config/fill.py ")


def is_untried(command: str) -> bool:
    return command.startswith(tuple(covered.UNTRIED))


LISTED = {**covered.RUN_ELSEWHERE, **covered.RUN_BY_HAND}
HERE = [command for command in SHOWN if is_portunus(command) and command not in LISTED]


def test_each_command_is_run_or_listed() -> None:
    run_here = {command for command in SHOWN if is_portunus(command) or is_module(command) or is_fill(command)}
    known = run_here | LISTED.keys() | IN_MACHINE | {command for command in SHOWN if is_untried(command)}
    assert {command: document for command, document in SHOWN.items() if command not in known} == {}
    assert len(HERE) > 15


def test_each_listed_command_is_shown_and_run_at_its_place() -> None:
    assert LISTED.keys() - SHOWN.keys() == set()
    assert covered.RUN_ELSEWHERE.keys() & covered.RUN_BY_HAND.keys() == set()
    for command, place in covered.RUN_ELSEWHERE.items():
        assert place.part in (ROOT / place.file).read_text(), command


def test_commands_that_nothing_runs_are_marked_as_such() -> None:
    untried = [(command, document) for document in DOCUMENTS for command in shown_commands(document)]
    untried = [(command, document) for command, document in untried if is_untried(command)]
    assert untried
    for command, document in untried:
        (mark,) = [mark for beginning, mark in covered.UNTRIED.items() if command.startswith(beginning)]
        assert mark in document.read_text(), command


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_commands_stand_in_shell_blocks(document: Path) -> None:
    assert commands_outside_shell_blocks(document) == []


def test_sections_that_the_machine_runs_have_commands() -> None:
    for title, document in covered.MACHINE_SECTIONS.items():
        assert section_commands(ROOT / "docs" / document, title), title


def test_next_steps_have_the_commands_of_the_ten_minutes() -> None:
    """The set and the document describe one way; the set's also works without the Debian package."""
    own = set(shown_commands(NEXT_STEPS))
    differing = set(section_commands(ROOT / "docs" / "install.md", "In ten minutes")) - own
    assert {command.split()[0] for command in differing} == {
        "make",
        "apt-get",
        "portunus",
        "cd",
        "install",
        "systemctl",
    }
    assert {command for command in differing if command.startswith("install ")} == {
        "install -m 644 portunus-janus.service /etc/systemd/system/"
    }


# -- commands of portunus


@asynccontextmanager
async def documented_gateway(folder: Path) -> AsyncIterator[str]:
    """Run a gateway whose configuration is in a folder, with a member in a call of ``ROOM``; yield its URL."""
    (port,) = free_ports(1)
    more = (
        f'[admin]\nsocket = "{folder}/admin.sock"\n[mcu]\ntype = "inprocess"\n[mcu.inprocess]\naddress = "127.0.0.1"\n'
    )
    more += '[internal]\nsecret = "c2b1e7a95f4d4f0f8d9ec2b1e7a95f4d"\n'
    async with FakeNextcloud() as cloud:
        file = folder / "portunus.toml"
        file.write_text(configuration_for(cloud, more).replace("127.0.0.1:0", f"127.0.0.1:{port}"))
        file.chmod(0o600)
        gateway = Gateway(config.load(file, {}))
        (url,) = await gateway.start()
        cloud.gateway = url
        try:
            async with TalkClient(url, cloud.url) as client:
                await client.hello(cloud.ticket("alice"))
                session = cloud.talk.open(ROOM, "alice")
                await client.join(ROOM, session)
                await cloud.talk.set_in_call(ROOM, session, 7)
                yield url
        finally:
            await gateway.stop()


def arguments_of(command: str, folder: Path, url: str) -> list[str]:
    """Return the arguments of a command of ``portunus``, with files, user and URL of the test."""
    text = re.sub(r"^(?:sudo (?:-u portunus )?|/opt/portunus/bin/)?portunus ", "", command)
    for documented, own in (
        ("https://signal.example.com/standalone-signaling/", f"{url}/"),
        ("/etc/portunus/", f"{folder}/"),
        ("/srv/portunus-set", f"{folder}/set-{abs(hash(command))}"),
        ("/etc/nextcloud-spreed-signaling/server.conf", str(IMPORTED)),
        ("--user portunus", f"--user {getpass.getuser()}"),
    ):
        text = text.replace(documented, own)
    return shlex.split(text)


@pytest.fixture
def _restored_log() -> Iterator[None]:
    with restored_root_logger():
        yield


@pytest.mark.usefixtures("_restored_log")
async def test_commands_of_portunus_succeed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in re.findall(r"\$\((\w+)\)", IMPORTED.read_text()):
        monkeypatch.setenv(name, "6d1f0c7b2e9a4583b7c6d5e4f3a29180")
    failed = {}
    async with documented_gateway(tmp_path) as url:
        for command in sorted(HERE, key=lambda command: " drain " in command):  # a drain would end the gateway
            done = await asyncio.to_thread(CliRunner().invoke, main, arguments_of(command, tmp_path, url))
            if done.exit_code:
                failed[command] = f"{done.exit_code}: {done.output}"
    assert failed == {}
    assert (tmp_path / "timeline.json").is_file()


# -- other commands


@pytest.mark.parametrize("command", [command for command in SHOWN if is_fill(command)])
def test_files_of_janus_are_written(command: str, tmp_path: Path) -> None:
    text = command.replace("/srv/janus", str(tmp_path / "janus")).replace("janus …", "janus").replace("=…", "=secret")
    text = re.sub(r"DATACHANNELS=\S+", f"DATACHANNELS={libraries() / 'libjanus_datachannels.so'}", text)
    subprocess.run([sys.executable, *shlex.split(text)[1:]], cwd=ROOT, check=True, capture_output=True, timeout=60)
    assert (tmp_path / "janus" / "conf" / "janus.jcfg").is_file()


@pytest.mark.parametrize("command", [command for command in SHOWN if is_module(command)])
def test_modules_files_and_options_of_commands_exist(command: str) -> None:
    variables = re.findall(r"(PORTUNUS_\w+)=", command)
    module, *arguments = shlex.split(command.partition(" -m ")[2])
    if module == "pytest":
        texts = [path.read_text() for path in (ROOT / "tests").rglob("*.py")]
        options = dict(zip(arguments, [*arguments[1:], ""], strict=True))
        paths = [argument for argument in arguments if argument.startswith("tests/")]
        assert paths
        assert all((ROOT / path).exists() for path in paths)
        marks = set(re.findall(r"\w+", options.get("-m", ""))) - {"not", "and", "or"}
        assert marks <= {mark.partition(":")[0] for mark in MARKS}
    else:
        spec = importlib.util.find_spec(module)
        assert spec is not None
        assert spec.origin is not None
        origin = Path(spec.origin)
        texts = [(origin.with_name("__main__.py") if origin.name == "__init__.py" else origin).read_text()]
        assert all(f'"{option}"' in texts[0] for option in arguments if option.startswith("--"))
    assert all(any(variable in text for text in texts) for variable in variables)


def test_package_that_is_installed_is_that_of_this_version() -> None:
    (installed,) = [command for command in SHOWN if command.startswith("apt-get install ./dist/")]
    assert f"portunus_{VERSION}_" in installed
