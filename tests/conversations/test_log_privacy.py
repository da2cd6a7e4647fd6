"""Nothing private is logged at INFO or above (invariant 7): each record of each conversation is formatted and read."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from io import StringIO

import pytest

from gateway import log
from tests.conversations.player import Conversation, load
from tests.conversations.test_conversations import play
from tests.gateway.flows.media.descriptions import CANDIDATE

PRIVATE = {
    "a description": re.compile(r"(?<!\w)a=[a-z]|m=(audio|video|application)|ice-(ufrag|pwd)|fingerprint|(?<!\w)v=0"),
    "a candidate": re.compile(r"candidate:\S+ \d|typ host"),
    "an address": re.compile(r"(?<![\d.])(?!127\.0\.0\.1:\d+\b)\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}(?![\d.])"),
    "a token": re.compile(r"eyJ[\w-]{8,}"),
    "an id of a session": re.compile(r"(?<![\w-])[\w-]{48}(?![\w-])"),
}


@pytest.fixture(autouse=True)
def _root_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level


def secrets(names: dict[str, object]) -> set[str]:
    """Return what no log may hold, of all that a conversation had names for."""
    found = {CANDIDATE, CANDIDATE.split()[4]}
    for name, value in names.items():
        if name.startswith("$ticket") and isinstance(value, dict):
            found.add(str(value["ticket"]))
        elif isinstance(value, str) and name not in ("$url", "$version", "$sid"):
            found.add(value)
            found.update(line for line in value.splitlines() if line.startswith("a=") and len(line) > 12)
    return {it for it in found if it}


@pytest.mark.parametrize("style", ["logfmt", "json"])
@pytest.mark.parametrize("level", ["flows", "socket"])
def test_no_record_holds_anything_private(level: str, style: log.Style) -> None:
    stream = StringIO()
    log.configure(style, logging.INFO, stream)
    held: set[str] = set()
    for conversation in load():
        if level in conversation.levels:
            held |= secrets(play(conversation, level).names)
    written = stream.getvalue()
    assert len(held) > 40
    assert "stream failed" in written  # something was logged that could have told
    assert [line for line in written.splitlines() if any(secret in line for secret in held)] == []
    for what, pattern in PRIVATE.items():
        assert [line for line in written.splitlines() if pattern.search(line)] == [], what


@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("a description", "offer v=0 o=-"),
        ("a description", "a=ice-pwd:x"),
        ("a candidate", CANDIDATE),
        ("an address", "from 203.0.113.7"),
        ("a token", "eyJhbGciOiJFZERTQSJ9.x.y"),
        ("an id of a session", "session " + "Ab-_" * 12),
    ],
)
def test_what_is_looked_for_would_be_found(what: str, text: str) -> None:
    assert PRIVATE[what].search(text)


def test_conversations_have_secrets() -> None:
    names: dict[str, object] = {
        "$alice": "x" * 48,
        "$ticket:a": {"userid": "a", "ticket": "t"},
        "$offer:one": "v=0\r\na=ice-pwd:0123456789\r\n",
    }
    assert {"x" * 48, "t", "a=ice-pwd:0123456789"} <= secrets(names)
    assert isinstance(load()[0], Conversation)
