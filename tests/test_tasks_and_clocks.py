"""No constructor starts a task, refers to a later part or changes a part; no module holds tasks.

The time comes from a given clock.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted(path for top in ("gateway", "mcu", "sdp") for path in (ROOT / top).rglob("*.py"))
STARTS = ("create_task", "ensure_future", "TaskGroup", "spawn")
# Attributes of parts that a constructor may set, since the library has no other way.
SET_ON_PARTS = ("self.context.sni_callback",)  # ``ssl.SSLContext``
# Tools set hooks of the clients and of the fake Nextcloud that they begin with.
PATCHING_MODULES = ("gateway/tools/",)
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
    initialisers = (function for function in functions(tree) if function.name == "__init__")
    return [line for it in initialisers for line, name in called_functions(it) if name.rpartition(".")[2] in STARTS]


def uses_of_later_parts(tree: ast.Module) -> list[int]:
    """Return the lines where a function inside a constructor reads an attribute that is assigned after it.

    For a lambda a property counts, too: it may read each part.
    """
    found = []
    for owner, constructor in constructors(tree):
        properties = properties_of(owner)
        assigned: dict[str, int] = {}  # attribute -> last line of its first assignment
        assignments = (node for node in ast.walk(constructor) if isinstance(node, ast.Assign | ast.AnnAssign))
        for assignment in sorted(assignments, key=lambda node: node.lineno):
            for node in attributes_of_self(assignment, ast.Store):
                assigned.setdefault(node.attr, assignment.end_lineno or 0)
        for function in ast.walk(constructor):
            if isinstance(function, ast.Lambda | ast.FunctionDef) and function is not constructor:
                late = properties if isinstance(function, ast.Lambda) else set()
                uses = attributes_of_self(function, ast.Load)
                found += [
                    node.lineno for node in uses if node.attr in late or assigned.get(node.attr, 0) >= function.lineno
                ]
    return found


def constructors(tree: ast.AST) -> Iterator[tuple[ast.ClassDef, ast.FunctionDef]]:
    """Yield each constructor with its class."""
    for owner in ast.walk(tree):
        if isinstance(owner, ast.ClassDef):
            for node in owner.body:
                if isinstance(node, ast.FunctionDef) and node.name in ("__init__", "__post_init__"):
                    yield owner, node


def properties_of(owner: ast.ClassDef) -> set[str]:
    """Return the names of the properties that a class defines."""
    methods = (node for node in owner.body if isinstance(node, ast.FunctionDef))
    return {it.name for it in methods if "property" in map(ast.unparse, it.decorator_list)}


def changes_of_parts(tree: ast.Module) -> list[int]:
    """Return the lines where a constructor sets an attribute of one of its parts."""
    stored = (
        node
        for _, constructor in constructors(tree)
        for node in ast.walk(constructor)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
    )
    names = ((node.lineno, ast.unparse(node)) for node in stored)
    return [line for line, name in names if re.fullmatch(r"self\.\w+\..*", name) and name not in SET_ON_PARTS]


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
    if not str(path.relative_to(ROOT)).startswith(PATCHING_MODULES):
        assert changes_of_parts(tree) == []
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
        (["self._a = A(lambda: self.b)"], []),  # a method
        (["self._a = A(lambda: self.later)"], [3]),  # a property
    ],
)
def test_use_of_a_later_part_is_found(body: list[str], found: list[int]) -> None:
    for name in ("__init__", "__post_init__"):
        later = ["  @property", "  def later(self): return self._b"]
        source = "\n".join(["class A:", f"  def {name}(self):", *(f"    {line}" for line in body), *later])
        assert uses_of_later_parts(ast.parse(source)) == found
    assert uses_of_later_parts(ast.parse(source.replace("__post_init__", "start"))) == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("self._a.on_end = self._ended", [3]),
        ("self._a.b.c: int = 1", [3]),
        ("self._a = a.b", []),
        ("self.context.sni_callback = f", []),
    ],
)
def test_change_of_a_part_is_found(line: str, found: list[int]) -> None:
    source = f"class A:\n  def __init__(self):\n    {line}"
    assert changes_of_parts(ast.parse(source)) == found
    assert changes_of_parts(ast.parse(source.replace("__init__", "start"))) == []
