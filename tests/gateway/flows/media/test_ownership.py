"""The state of a stream is written by its own class only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import gateway.flows.media

MODULES = sorted(Path(gateway.flows.media.__path__[0]).glob("*.py"))


def foreign_writes(source: str) -> Iterator[str]:
    """Yield the assignments to, and deletions of, attributes of other objects than ``self``."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
            yield from () if ast.unparse(node.value) == "self" else (ast.unparse(node),)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("setattr", "object.__setattr__", "delattr"):
            yield ast.unparse(node)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_attributes_are_written_by_their_own_object(path: Path) -> None:
    assert list(foreign_writes(path.read_text())) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("publication.plan = plan", ["publication.plan"]),
        ("self.room, decision.stream.limit = None, 1", ["decision.stream.limit"]),
        ("records[key].plan = None", ["records[key].plan"]),
        ("del stream.plan", ["stream.plan"]),
        ("setattr(stream, 'plan', None)", ["setattr(stream, 'plan', None)"]),
        ("self._record.plan = None", ["self._record.plan"]),
        ("self._publisher = None", []),
    ],
)
def test_foreign_write_is_found(source: str, found: list[str]) -> None:
    assert list(foreign_writes(source)) == found
