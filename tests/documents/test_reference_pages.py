"""The pages for operators name each command, option, exit code, metric and step of the doctor, and no others.

``tests/test_repository.py`` compares the keys of the configuration in the same way.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache

import click
import pytest

from gateway.app import Gateway
from gateway.cli import main
from gateway.config import Config, HttpSection, McuSection, SessionsSection, TurnSection
from gateway.core.limits import Backend
from gateway.metrics import Counters, Gauges, _GatewayCollector
from gateway.tools.doctor.examination import steps
from gateway.tools.doctor.steps import ok
from gateway.tools.doctor.target import parse_target
from mcu.janus.settings import JanusServerSettings
from tests.documents.shell import ROOT
from tests.documents.tables import code, read, rows, section

SECRET = "6f1b0c7d9ae24835b6cf01d27e9a4488"
ADMIN_COMMANDS = ("top", "timeline", "explain", "drain")


# -- commands


def all_commands(group: click.Group, prefix: str = "portunus") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from all_commands(command, f"{prefix} {name}")
        else:
            yield f"{prefix} {name}", command


COMMANDS = dict(all_commands(main))


def parameters(command: click.Command) -> set[str]:
    """Return the options and arguments of a command, as its help shows them."""
    found: set[str] = set()
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            found |= {*parameter.opts, *parameter.secondary_opts}
        else:
            found.add(parameter.metavar or (parameter.name or "").upper())
    return found


def test_each_command_has_a_section() -> None:
    titles = re.findall(r"^## (portunus .*)$", read("commands.md"), re.M)
    assert sorted(titles) == sorted(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_option_of_a_command_is_described(name: str) -> None:
    page = read("commands.md")
    described = {option for row in rows(section(page, name)) for option in code(row[0])}
    if name.split()[-1] in ADMIN_COMMANDS:
        shared = {option for row in rows(section(page, "Commands for a running gateway")) for option in code(row[0])}
        assert not described & shared
        described |= shared
    assert described == parameters(COMMANDS[name])


def exit_codes(source: str) -> set[int]:
    """Return the exit codes of the commands in a source: of ``sys.exit``, exceptions of click and own, of ``run``."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "sys.exit":
            found |= {
                item.value for item in ast.walk(node) if isinstance(item, ast.Constant) and type(item.value) is int
            }
        elif isinstance(node, ast.Attribute) and node.attr in ("ClickException", "UsageError", "BadParameter"):
            found.add(getattr(click, node.attr).exit_code)
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "exit_code":
            found.add(ast.literal_eval(node.value))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == "run":
            returned = [item.value for item in ast.walk(node) if isinstance(item, ast.Return)]
            found |= {item.value for item in returned if isinstance(item, ast.Constant) and type(item.value) is int}
    return found


def test_each_exit_code_is_described() -> None:
    sources = [ROOT / "gateway" / "cli.py", *(ROOT / "gateway" / "tools").rglob("*.py")]
    ending = [text for source in sources if re.search(r"sys\.exit|click\.|def run", text := source.read_text())]
    used = set[int]().union(*map(exit_codes, ending))
    assert {int(status) for status, _ in rows(section(read("commands.md"), "Exit status"))} == used | {0}
    assert used >= {1, 2, 3}


# -- metrics


async def test_each_metric_is_described_with_its_type_and_labels() -> None:
    settings = McuSection(type="janus", settings=(JanusServerSettings("ws://127.0.0.1:9"),))
    http, sessions = HttpSection(listen=("127.0.0.1:0",)), SessionsSection(secret=SECRET)
    gateway = Gateway(Config(http=http, sessions=sessions, mcu=settings))
    assert gateway.mcu is not None
    collector = _GatewayCollector(Counters(), Gauges(sfu_metrics=gateway.mcu.metrics))
    exposed = {
        (family.name + ("_total" if family.type == "counter" else ""), family.type, frozenset(family._labelnames))
        for family in collector.collect()
    }
    described = set(described_metrics(section(read("operations.md"), "Metrics", 3)))
    assert described == exposed


def described_metrics(text: str) -> Iterator[tuple[str, str, frozenset[str]]]:
    """Yield name, type and labels of the metrics in tables whose first header names the prefix."""
    prefix = ""
    for line in text.splitlines():
        if header := re.match(r"\| Metric, after `(\w+)` \|", line):
            prefix = header[1]
        elif line.startswith("| `"):
            names, kind, *more = [cell.strip() for cell in line.split("|")[1:-1]]
            labels = re.sub(r"\([^)]*\)", "", more[0].partition(":")[0]).replace("–", "")
            for name in code(names):
                split = frozenset(label.strip() for label in labels.split(",") if label.strip())
                yield prefix + name, re.split("[,:]", kind)[0], split


# -- the doctor


def normalised(step: str) -> str:
    """Return the name of a step without the backend, TURN server or ordinal in it."""
    step = re.sub(r"^(Nextcloud|TURN) [^:]*(?::\d+)?(?=: |$)", r"\1 …", step) if " credentials" not in step else step
    return re.sub(r"^…: ", "Nextcloud …: ", step)


def test_each_step_of_the_doctor_is_described() -> None:
    backend = Backend("cloud", ("https://cloud.example.com/",), SECRET)
    servers = ("turn:turn.example.com:3478",)
    turn = TurnSection(api_key="k", secret=SECRET, servers=servers)
    settings = McuSection(type="janus", settings=(JanusServerSettings("ws://127.0.0.1:9"),))
    config = Config(sessions=SessionsSection(secret=SECRET), backends=(backend,), mcu=settings, turn=turn)
    target = parse_target("https://signal.example.com/standalone-signaling/")
    found = steps(target, config, ok(""), (backend,), turn, url_given=True, media=True)
    described = [
        normalised(name) for row in rows(section(read("doctor.md"), "The steps")) for name in row[0].split(", ")
    ]
    assert sorted(described) == sorted(normalised(step.name) for step in found)


# -- troubleshooting


def test_each_step_that_troubleshooting_names_is_described() -> None:
    described = {
        normalised(name) for row in rows(section(read("doctor.md"), "The steps")) for name in row[0].split(", ")
    }
    page = read("troubleshooting.md").partition("\n## Refusals\n")[0]
    named = {normalised(name) for row in rows(page) for name in row[1].split(", ") if name != "–"}
    assert len(named) > 15
    assert named - described == set()


@cache
def literals() -> list[str]:
    """Return the lines of the sources, texts in one piece, with ``…`` in place of what they format."""
    lines: list[str] = []
    for package in ("gateway", "mcu"):
        for path in (ROOT / package).rglob("*.py"):
            joined = re.sub(r'"\n *f?"', "", path.read_text())
            lines += re.sub(r"%(?:\.\d)?[sdfg]|\{[^{}\n]*\}", "…", joined).splitlines()
    return [line for line in lines if '"' in line]


def is_in(text: str, literal: str) -> bool:
    """Return whether the parts of a text between ``…`` stand in a literal, in this order."""
    at = 0
    for part in filter(None, text.split("…")):
        at = literal.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return True


def quoted_texts() -> list[str]:
    """Return the texts of log, readiness and doctor that troubleshooting quotes: code of several words."""
    page = read("troubleshooting.md")
    return [text for row in rows(page) for text in code(row[0]) if " " in text and not text.startswith("federation_")]


@pytest.mark.parametrize("text", quoted_texts())
def test_each_text_that_troubleshooting_quotes_is_in_the_sources(text: str) -> None:
    assert max(map(len, text.split("…"))) >= 10, "too little to be found"
    assert [literal for literal in literals() if is_in(text, literal)]
