"""No constructor of an SFU starts a task, no module holds any, and the time comes from a clock that is given."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

MCU = Path(__file__).parent.parent.parent / "mcu"
MODULES = sorted(MCU.rglob("*.py"))
STARTS = ("create_task", "ensure_future", "TaskGroup")
CLOCKS = ("time.time", "time.monotonic", "time.perf_counter", "asyncio.get_running_loop().time", "loop.time")
GIVEN = "loop_time"  # the function that reads the loop's clock, and is given as a default


def called(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and name of each function that is called."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node.lineno, ast.unparse(node.func)


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def tasks_in_constructors(tree: ast.Module) -> list[int]:
    """Return the lines where a constructor starts a task."""
    constructors = (function for function in functions(tree) if function.name == "__init__")
    return [line for it in constructors for line, name in called(it) if name.rpartition(".")[2] in STARTS]


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
    given = {line for it in functions(tree) if it.name == GIVEN for line, _ in called(it)}
    return [line for line, name in called(tree) if name in CLOCKS and line not in given]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(MCU)))
def test_module_follows_the_rules(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert (tasks_in_constructors(tree), collections_of_modules(tree), clocks_that_are_read(tree)) == ([], [], [])


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("class A:\n    def __init__(self):\n        self.t = asyncio.create_task(f())", ([3], [], [])),
        ("class A:\n    def start(self):\n        self.t = asyncio.create_task(f())", ([], [], [])),
        ("_tasks: set[Task] = set()", ([], [1], [])),
        ("NAMES = frozenset({1})", ([], [], [])),
        ("def f():\n    return time.monotonic()", ([], [], [2])),
        ("def f(clock=time.monotonic):\n    return clock()", ([], [], [])),
        ("def loop_time():\n    return asyncio.get_running_loop().time()", ([], [], [])),
        ("def f():\n    return asyncio.get_running_loop().time()", ([], [], [2])),
    ],
)
def test_violation_is_found(source: str, found: tuple[list[int], list[int], list[int]]) -> None:
    tree = ast.parse(source)
    assert (tasks_in_constructors(tree), collections_of_modules(tree), clocks_that_are_read(tree)) == found
