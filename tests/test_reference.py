"""Each section of a document that is cited exists, and each marked behaviour of the reference is named by a test.

docs/reference.md describes the forms of citations and marks.
"""

from __future__ import annotations

import ast
import io
import json
import re
import subprocess
import tokenize
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
REFERENCE = "docs/reference.md"

SECTION = r"(?:1[0-8]|[1-9])(?:\.[1-9][0-9]?)?"


def list_pattern(section: str) -> str:
    """Return the pattern of a list of sections, ranges and marks."""
    item = rf"{section}(?:-(?:{section}|[a-z]\b))?"
    return rf"{item}(?:(?:, | and ){item})*(?![\w.]*\w)"


CITATION = re.compile(rf"(?<!API )\b[Rr]eference ({list_pattern(r'[0-9]+(?:[.][0-9]+)?')})")
# A citation in parentheses is a number that a section can have: (127) is none.
IN_PARENTHESES = re.compile(rf"(?<![\w`.])\(({list_pattern(SECTION)})(?:,? (?:row|step)s? \d+)?\)")
MARK = re.compile(rf"\[({SECTION}-[a-z])\]")
HEADING = re.compile(rf"^##+ ({SECTION}) ", re.MULTILINE)
BY_TITLE = re.compile(
    r'(?:docs/)?(?P<name>[a-z-]+\.md)(?:#[a-z0-9-]+)?\)?, (?P<titles>"[^"]+"(?:(?:, | and )"[^"]+")*)'
)
LINE_BREAK = re.compile(r"\s*\n[ \t]*(?:(?:#|//|\*) ?)?")  # within a sentence, also of a comment


@cache
def texts() -> dict[str, str]:
    """Return the text of each tracked file in which citations may stand, by name."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    names = [name for name in listed.split("\0") if name.endswith((".py", ".js", ".md", ".jsonl", ".sh", ".c"))]
    return {name: (ROOT / name).read_text() for name in names if (ROOT / name).is_file() and name != own_name()}


def own_name() -> str:
    return str(Path(__file__).relative_to(ROOT))


def prose(python: str) -> Iterator[str]:
    """Yield the docstrings of a module, and its comments, those on adjoining lines as one."""
    for node in ast.walk(ast.parse(python)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""
    block, last = "", 0
    for token in tokenize.generate_tokens(io.StringIO(python).readline):
        if token.type == tokenize.COMMENT:
            if token.start[0] != last + 1:
                yield block
                block = ""
            block, last = f"{block}\n{token.string}", token.start[0]
    yield block


def find_cited(text: str, form: re.Pattern[str]) -> set[str]:
    """Return the sections, and the marks, that a text cites in this form; of a range both ends."""
    found: set[str] = set()
    for match in form.finditer(LINE_BREAK.sub(" ", text)):
        for item in re.split(r", | and ", match[1]):
            found |= {item} if re.search(r"-[a-z]$", item) else set(item.split("-"))
    return found


def cited_by_file(name: str, text: str) -> set[str]:
    """Return the sections and marks that a file cites."""
    found = find_cited(text, CITATION)
    if name.endswith(".py"):
        for part in prose(text):
            found |= find_cited(part, IN_PARENTHESES)
    if name == REFERENCE:
        found |= find_cited(text, IN_PARENTHESES)
    return found


def sections() -> set[str]:
    return set(HEADING.findall(texts()[REFERENCE]))


def marks() -> list[str]:
    return MARK.findall(texts()[REFERENCE])


def named_by_conversations() -> set[str]:
    heads = [json.loads(text.partition("\n")[0]) for name, text in texts().items() if name.endswith(".jsonl")]
    return {mark for head in heads for mark in head.get("reference", ())}


def named_by_tests() -> set[str]:
    """Return the marks in the comments above tests, and in their docstrings."""
    found: set[str] = set()
    for name, text in texts().items():
        if not re.fullmatch(r"tests/(?:.*/)?test_\w+\.py", name):
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                found |= find_cited(f"{comment_above(node, text)}\n\n{ast.get_docstring(node) or ''}", CITATION)
    return {item for item in found if re.search(r"-[a-z]$", item)}


def comment_above(test: ast.FunctionDef | ast.AsyncFunctionDef, text: str) -> str:
    """Return the lines of comment right above a test and its decorators."""
    lines = text.splitlines()
    first = last = min([test.lineno, *(decorator.lineno for decorator in test.decorator_list)]) - 1
    while first and lines[first - 1].lstrip().startswith("#"):
        first -= 1
    return "\n".join(lines[first:last])


def test_every_section_that_is_cited_exists() -> None:
    known = sections() | set(marks())
    missing = {name: unknown for name, text in texts().items() if (unknown := cited_by_file(name, text) - known)}
    assert missing == {}


def missing_titles(text: str) -> set[str]:
    """Return the sections of documents that a text cites by title and that do not exist."""
    missing = set()
    for match in BY_TITLE.finditer(LINE_BREAK.sub(" ", text)):
        headings = re.findall(r"^#+ (.+)$", texts().get(f"docs/{match['name']}", ""), re.MULTILINE)
        titles = set(re.findall(r'"([^"]+)"', match["titles"]))
        missing |= {f"{match['name']}, {title}" for title in titles.difference(headings)}
    return missing


def test_every_section_that_is_cited_by_its_title_exists() -> None:
    missing = {name: unknown for name, text in texts().items() if (unknown := missing_titles(text))}
    assert missing == {}


def test_every_behaviour_that_is_marked_as_tested_is_named_by_a_test() -> None:
    assert set(marks()) - named_by_tests() - named_by_conversations() == set()


def test_every_behaviour_that_a_test_names_is_marked() -> None:
    assert (named_by_tests() | named_by_conversations()) - set(marks()) == set()


def test_each_mark_is_used_once_and_in_its_own_section() -> None:
    text = texts()[REFERENCE]
    starts = [*((match[1], match.start()) for match in HEADING.finditer(text)), ("", len(text))]
    found = [
        (mark, section) for (section, start), (_, end) in pairwise(starts) for mark in MARK.findall(text[start:end])
    ]
    assert [mark for mark, section in found if mark.rpartition("-")[0] != section] == []
    assert len(found) == len({mark for mark, _ in found})


def test_sections_stand_in_order() -> None:
    numbers = [tuple(map(int, number.split("."))) for number in HEADING.findall(texts()[REFERENCE])]
    assert numbers == sorted(set(numbers))


def test_citations_are_found_in_every_part_of_the_repository() -> None:
    # Without this check a pattern that matches nothing would let every citation pass.
    citing = [name for name, text in texts().items() if cited_by_file(name, text)]
    assert len(citing) > 100
    assert {name.partition("/")[0] for name in citing} >= {"gateway", "mcu", "sdp", "tests", "bench", "docs"}
    assert {Path(name).suffix for name in citing} >= {".py", ".js", ".md"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Source: reference 2.5, 4.3; invariant 9.", {"2.5", "4.3"}),
        ("see reference 8 and 9. More", {"8", "9"}),
        ("reference 2-11, 13. Nothing", {"2", "11", "13"}),
        ("the order is luck (reference\n4.3).", {"4.3"}),
        ("# of reference\n# 17 that is served", {"17"}),
        ("reference 1.4, row 12", {"1.4"}),
        ("reference 4.3 and 19.2", {"4.3", "19.2"}),
        ("reference 2.5-a, 2.6-b", {"2.5-a", "2.6-b"}),
        ("Janus API reference 12", set()),
        ("for reference, six carry", set()),
    ],
)
def test_citations_are_found(text: str, expected: set[str]) -> None:
    assert find_cited(text, CITATION) == expected


def test_title_that_does_not_exist_is_found() -> None:
    text = 'Source: docs/protocol.md, "Limits" and\n# "No such title". See [mcu.md](mcu.md), "Quality".'
    assert missing_titles(text) == {"protocol.md, No such title"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("to a hello (2.5)", {"2.5"}),
        ("the members (4.6, 6.4) and more", {"4.6", "6.4"}),
        ("too much (1.4, row 2)", {"1.4"}),
        ("of a hello (1.0) or (2.0)", set()),
        ("as clock_getcpuclockid(3) has it", set()),
        ("a close code (1009), and (0 = no limit)", set()),
    ],
)
def test_citations_in_parentheses_are_found(text: str, expected: set[str]) -> None:
    assert find_cited(text, IN_PARENTHESES) == expected
