"""No private data is logged at INFO or above (invariant 7): the records of all conversations are searched for it."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from io import StringIO

import pytest

from gateway import log
from tests.conversations.player import load
from tests.conversations.playing import play
from tests.gateway.flows.media.descriptions import CANDIDATE
from tests.root_logger import restored_root_logger

PRIVATE_VALUES = {
    "a description": re.compile(r"(?<!\w)a=[a-z]|m=(audio|video|application)|ice-(ufrag|pwd)|fingerprint|(?<!\w)v=0"),
    "a candidate": re.compile(r"candidate:\S+ \d|typ host"),
    "an address": re.compile(r"(?<![\d.])(?!127\.0\.0\.1\b)\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}(?![\d.])"),
    "a token": re.compile(r"eyJ[\w-]{8,}"),
    "a session id": re.compile(r"(?<![\w-])[\w-]{48}(?![\w-])"),
}


@pytest.fixture(autouse=True)
def _restore_root_logger() -> Iterator[None]:
    with restored_root_logger():
        yield


def secrets(names: dict[str, object]) -> set[str]:
    """Return the private values among the names of a conversation."""
    found = {CANDIDATE, CANDIDATE.split()[4]}
    for name, value in names.items():
        if name.startswith("$ticket") and isinstance(value, dict):
            found.add(str(value["ticket"]))
        elif isinstance(value, str) and name not in ("$url", "$version") and not name.startswith("$sid"):
            found.add(value)
            found.update(line for line in value.splitlines() if line.startswith("a=") and len(line) > 12)
    return {value for value in found if value}


@pytest.mark.parametrize("style", ["logfmt", "json"])
@pytest.mark.parametrize("level", ["flows", "socket"])
def test_no_record_has_private_data(level: str, style: log.Style) -> None:
    stream = StringIO()
    log.configure(style, logging.INFO, stream, areas={"calls": logging.DEBUG})  # as much as the recorder keeps
    private: set[str] = set()
    for conversation in load():
        if level in conversation.levels:
            private |= secrets(play(conversation, level).names)
    written = stream.getvalue()
    assert len(private) > 40
    assert "stream failed" in written  # a record about a stream was written
    assert [line for line in written.splitlines() if any(secret in line for secret in private)] == []
    for name, pattern in PRIVATE_VALUES.items():
        assert [line for line in written.splitlines() if pattern.search(line)] == [], name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a description", "offer v=0 o=-"),
        ("a description", "a=ice-pwd:x"),
        ("a candidate", CANDIDATE),
        ("an address", "from 203.0.113.7"),
        ("a token", "eyJhbGciOiJFZERTQSJ9.x.y"),
        ("a session id", "session " + "Ab-_" * 12),
    ],
)
def test_private_data_is_recognised(name: str, text: str) -> None:
    assert PRIVATE_VALUES[name].search(text)


def test_secrets_are_found_among_names() -> None:
    names: dict[str, object] = {
        "$alice": "x" * 48,
        "$ticket:a": {"userid": "a", "ticket": "t"},
        "$offer:one": "v=0\r\na=ice-pwd:0123456789\r\n",
    }
    assert {"x" * 48, "t", "a=ice-pwd:0123456789"} <= secrets(names)
