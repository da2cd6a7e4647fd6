"""No constructor starts a task or refers to a later part; no module holds tasks; the time comes from a given clock."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted(path for top in ("gateway", "mcu", "sdp") for path in (ROOT / top).rglob("*.py"))
STARTS = ("create_task", "ensure_future", "TaskGroup", "spawn")
CLOCKS = re.compile(r"time\.(time|monotonic|perf_counter)(_ns)?|(.*\.)?(_?loop|get_(running|event)_loop\(\))\.time")
# Modules that compare times with timers of the event loop, on its clock, that write log records, or that are tools.
CLOCK_READERS = (
    "gateway/log.py",
    "gateway/standstill.py",
    "gateway/edge/clients/websocket_connection.py",
    "gateway/edge/http/runner.py",
    "gateway/edge/nextcloud/backend_http.py",
    "gateway/edge/nextcloud/host_addresses.py",
    "gateway/tools/",
)


def called_functions(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and name of each function that is called."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node.lineno, ast.unparse(node.func)


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def tasks_in_constructors(tree: ast.Module) -> list[int]:
    """Return the lines where a constructor starts a task."""
    constructors = (function for function in functions(tree) if function.name == "__init__")
    return [line for it in constructors for line, name in called_functions(it) if name.rpartition(".")[2] in STARTS]


def uses_of_later_parts(tree: ast.Module) -> list[int]:
    """Return the lines where a function inside a constructor reads an attribute that is assigned after it."""
    found = []
    for constructor in functions(tree):
        if constructor.name not in ("__init__", "__post_init__"):
            continue
        assigned: dict[str, int] = {}  # attribute -> last line of its first assignment
        assignments = (node for node in ast.walk(constructor) if isinstance(node, ast.Assign | ast.AnnAssign))
        for assignment in sorted(assignments, key=lambda node: node.lineno):
            for node in attributes_of_self(assignment, ast.Store):
                assigned.setdefault(node.attr, assignment.end_lineno or 0)
        for function in ast.walk(constructor):
            if isinstance(function, ast.Lambda | ast.FunctionDef) and function is not constructor:
                uses = attributes_of_self(function, ast.Load)
                found += [node.lineno for node in uses if assigned.get(node.attr, 0) >= function.lineno]
    return found


def attributes_of_self(tree: ast.AST, context: type[ast.expr_context]) -> Iterator[ast.Attribute]:
    """Yield each attribute of ``self`` that is stored or loaded."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, context) and ast.unparse(node.value) == "self":
            yield node


def collections_of_modules(tree: ast.Module) -> list[int]:
    """Return the lines where a module creates a collection that could hold tasks."""
    values = (node.value for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign))
    empty = (ast.Call, ast.List, ast.Dict)
    found = (
        value for value in values if isinstance(value, empty) and ast.unparse(value) in ("set()", "[]", "{}", "dict()")
    )
    return [value.lineno for value in found]


def clocks_that_are_read(tree: ast.Module) -> list[int]:
    """Return the lines that read a clock other than one that was given."""
    return [line for line, name in called_functions(tree) if CLOCKS.fullmatch(name)]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_module_follows_the_rules(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert (tasks_in_constructors(tree), uses_of_later_parts(tree), collections_of_modules(tree)) == ([], [], [])
    if not str(path.relative_to(ROOT)).startswith(CLOCK_READERS):
        assert clocks_that_are_read(tree) == []


@pytest.mark.parametrize("name", CLOCK_READERS)
def test_each_module_that_may_read_a_clock_reads_one(name: str) -> None:
    paths = [path for path in MODULES if str(path.relative_to(ROOT)).startswith(name)]
    assert any(clocks_that_are_read(ast.parse(path.read_text(encoding="utf-8"))) for path in paths)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("class A:\n    def __init__(self):\n        self.t = asyncio.create_task(f())", ([3], [], [])),
        ("class A:\n    def __init__(self):\n        self.tasks.spawn(f())", ([3], [], [])),
        ("class A:\n    def start(self):\n        self.t = asyncio.create_task(f())", ([], [], [])),
        ("_tasks: set[Task] = set()", ([], [1], [])),
        ("NAMES = frozenset({1})", ([], [], [])),
        ("def f():\n    return time.monotonic()", ([], [], [2])),
        ("def f(clock=time.monotonic):\n    return clock()", ([], [], [])),
        ("def f():\n    return asyncio.get_running_loop().time()", ([], [], [2])),
        ("def f(self):\n    return self._loop.time()", ([], [], [2])),
        ("def f(self):\n    return self.clock()", ([], [], [])),
    ],
)
def test_violation_is_found(source: str, found: tuple[list[int], list[int], list[int]]) -> None:
    tree = ast.parse(source)
    assert (tasks_in_constructors(tree), collections_of_modules(tree), clocks_that_are_read(tree)) == found


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (["self._a = A(lambda: self._b.c)", "self._b = B(self._a)"], [3]),
        (["self._a = A(", "    lambda: self._a.c,", ")"], [4]),
        (["def b():", "    return self._b", "self._a, self._b = A(b), B()"], [4]),
        (["self._b: B | None = None", "self._a = A(lambda: self._b)", "self._b = B(self._a)"], []),
        (["self._a = A(lambda: self.b)"], []),  # a property
    ],
)
def test_use_of_a_later_part_is_found(body: list[str], found: list[int]) -> None:
    for name in ("__init__", "__post_init__"):
        source = "\n".join(["class A:", f"  def {name}(self):", *(f"    {line}" for line in body)])
        assert uses_of_later_parts(ast.parse(source)) == found
    assert uses_of_later_parts(ast.parse(source.replace("__post_init__", "start"))) == []
