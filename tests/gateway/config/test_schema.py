"""JSON Schema of the configuration file: it agrees with ``load`` about the keys and the types of their values."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from gateway.config import ConfigError, json_schema, load
from gateway.config.toml_text import toml_value
from tests.gateway.config.json_schema import ANNOTATIONS, VALIDATED, is_valid, keywords

ROOT = Path(__file__).parents[3]
SCHEMA = json_schema()
MINIMAL: dict[str, Any] = {
    "sessions": {"secret": "0123456789abcdef0123456789abcdef"},
    "backend": [{"id": "cloud", "urls": ["https://cloud.example.com/"], "secret": "5f0c0d1e9a"}],
    "mcu": {"janus": [{"url": "ws://127.0.0.1:8188"}]},
}
VALUES = ["text", 1, -1, 200_000, 1.5, -0.5, True, [], ["text", 1], [["text"]], {}, {"a": "b"}]
# an error of msgspec about a type or a bound; those of the checks of the gateway have other texts
WRONG_TYPE = re.compile(r": expected (?:a text|an integer|a number|true or false|a list|a table)\b")
WRONG_FILE_KEY = re.compile(r"_file: (?:expected the path of a file|\w+ is given as well)")


def paths(schema: dict[str, Any], at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of each key and section of the schema."""
    for name, subschema in schema.get("properties", {}).items():
        yield (*at, name)
        yield from paths(subschema, (*at, name))
        if "properties" in subschema.get("items", {}):
            yield from paths(subschema["items"], (*at, name, 0))


def with_value(path: tuple[str | int, ...], value: object) -> dict[str, Any]:
    """Return the minimal document with a value at a path."""
    document = deepcopy(MINIMAL)
    node: Any = document
    for key in path[:-1]:
        node = node[key] if isinstance(key, int) else node.setdefault(key, {})
    last = path[-1]
    node[last] = value
    if str(last).endswith("_file"):
        node.pop(str(last).removesuffix("_file"), None)
    return document


def refusal(file: Path, document: dict[str, Any]) -> str:
    """Return the error text with which ``load`` refuses a document, or nothing."""
    file.write_text("".join(f"{key} = {toml_value(value)}\n" for key, value in document.items()))
    try:
        load(file, {})
    except ConfigError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("section", SCHEMA["properties"])
def test_schema_and_load_agree_about_every_key_and_type_of_value(section: str, tmp_path: Path) -> None:
    tried = 0
    for path in paths(SCHEMA):
        if path[0] != section:
            continue
        for value in VALUES:
            document = with_value(path, value)
            text = refusal(tmp_path / "portunus.toml", document)
            case = f"{path} = {value!r}: {text}"
            if not is_valid(document, SCHEMA):
                assert text, case
            else:
                assert not WRONG_TYPE.search(text), case
                assert not WRONG_FILE_KEY.search(text), case
            tried += 1
    assert tried >= len(VALUES)


@pytest.mark.parametrize("path", [(), ("http",), ("backend", 0), ("backend", 0, "quality"), ("mcu", "janus", 0)])
def test_unknown_key_is_refused(path: tuple[str | int, ...], tmp_path: Path) -> None:
    document = with_value((*path, "unknown"), 1)
    assert not is_valid(document, SCHEMA)
    assert "unknown is unknown" in refusal(tmp_path / "portunus.toml", document)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ((), "sessions"),
        (("sessions",), "secret"),
        (("backend", 0), "id"),
        (("backend", 0), "secret"),
        (("mcu", "janus", 0), "url"),
    ],
)
def test_missing_key_is_refused(path: tuple[str | int, ...], name: str, tmp_path: Path) -> None:
    document = deepcopy(MINIMAL)
    node: Any = document
    for key in path:
        node = node[key]
    del node[name]
    assert not is_valid(document, SCHEMA)
    assert "is missing" in refusal(tmp_path / "portunus.toml", document)


def test_value_and_file_exclude_each_other() -> None:
    document = deepcopy(MINIMAL)
    document["sessions"]["secret_file"] = "path"
    assert not is_valid(document, SCHEMA)
    del document["sessions"]["secret"]
    assert is_valid(document, SCHEMA)


def test_mcu_type_is_the_name_of_an_sfu_or_none() -> None:
    assert all(is_valid(with_value(("mcu", "type"), name), SCHEMA) for name in ("janus", "inprocess", "none"))
    assert not is_valid(with_value(("mcu", "type"), "jitsi"), SCHEMA)


def test_every_keyword_of_the_schema_is_validated() -> None:
    assert keywords(SCHEMA) - ANNOTATIONS <= VALIDATED


def examples() -> list[Any]:
    """Return the TOML examples of README and docs."""
    found = []
    for document in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for index, block in enumerate(re.findall(r"(?:^    .*\n|^\n(?=    ))+", document.read_text(), re.M)):
            if re.match(r"\[\[?\w", dedent(block).strip()):
                found.append(pytest.param(dedent(block), id=f"{document.name}-{index}"))
    return found


@pytest.mark.parametrize("text", examples())
def test_examples_of_the_documents_are_valid(text: str) -> None:
    example = tomllib.loads(text)
    assert is_valid({**MINIMAL, **example, "sessions": MINIMAL["sessions"], "backend": backends(example)}, SCHEMA)


def backends(example: dict[str, Any]) -> list[Any]:
    """Complete the backends of an example that shows only some of their keys."""
    return [{**MINIMAL["backend"][0], **backend} for backend in example.get("backend", [])]
