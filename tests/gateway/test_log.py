"""What a log line looks like, and what it must not hold."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from gateway import log


@pytest.fixture(autouse=True)
def _root_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level


def written(style: log.Style = "logfmt", level: int = logging.INFO) -> io.StringIO:
    stream = io.StringIO()
    log.configure(style, level, stream)
    return stream


def test_own_record_is_one_line_of_key_and_value() -> None:
    stream = written()
    log.get("rooms").info("room opened", members=3, name='a "b"\r\nc\x1b[31m')
    (line,) = stream.getvalue().splitlines()
    assert line.startswith("time=20")
    assert 'level=info area=rooms event="room opened"' in line
    assert "members=3" in line
    assert "\x1b" not in line


def test_record_of_the_standard_library_is_rendered_alike() -> None:
    stream = written("json")
    logging.getLogger("portunus.janus").warning("no answer after %d s", 3)
    record = json.loads(stream.getvalue())
    assert record.pop("time")
    assert record == {"level": "warning", "area": "janus", "event": "no answer after 3 s"}


def test_traceback_stays_on_the_line_of_its_record() -> None:
    stream = written()
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        log.get("flows").exception("failed")
        logging.getLogger("portunus.sdp").exception("failed too")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert all("ValueError: first" in line for line in lines)


def test_configuring_twice_writes_each_record_once() -> None:
    first, second = written(), written()
    log.get("x").warning("once")
    assert first.getvalue() == ""
    assert len(second.getvalue().splitlines()) == 1


def test_records_below_the_level_are_not_written() -> None:
    stream = written(level=logging.WARNING)
    log.get("x").info("quiet")
    logging.getLogger("portunus.y").info("quiet")
    assert stream.getvalue() == ""


@pytest.mark.parametrize("name", ["aioice.ice", "aiortc.rtcdtlstransport", "aiohttp.access"])
def test_talk_of_libraries_is_not_written(name: str) -> None:
    stream = written()
    logging.getLogger(name).info("Connection(0) Check CandidatePair(('10.1.2.3', 5000)) State.FROZEN")
    assert stream.getvalue() == ""


PRIVATE = [
    "192.0.2.17",
    "('192.0.2.17', 4000)",
    "2001:db8::1",
    "fe80::1",
    "::ffff:192.0.2.17",
    "candidate:1 1 udp 2130706431 192.0.2.17 5000 typ host",
    "a=ice-pwd:asd88fgpdd777uzjYhagZg",
    "v=0\r\no=- 1 2 IN IP4 192.0.2.17\r\n",
    "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhIn0.c2ln",
]


@pytest.mark.parametrize("text", PRIVATE)
def test_private_text_of_libraries_and_tracebacks_is_cut_out(text: str) -> None:
    with log.captured() as lines:
        logging.getLogger("aioice.ice").warning("failed for %s", text)
        try:
            raise OSError(f"cannot reach {text}")
        except OSError:
            log.get("edge").exception("failed")
    assert len(lines) == 2
    for line in lines:
        assert "[private]" in line
        assert not any(part in line for part in ("192.0.2.17", "db8::1", "fe80::1", "asd88", "eyJ"))


@pytest.mark.parametrize("text", ["at 12:30:45", "version 1.2.3", "std::move", "1.2.3.4.5", "a=b", "999.1.1.1"])
def test_harmless_text_is_left_alone(text: str) -> None:
    assert log.redacted(text) == text


def test_captured_records_are_those_of_the_level_and_above() -> None:
    with log.captured(logging.WARNING) as lines:
        log.get("x").info("not this")
        log.get("x").error("this")
    assert [line for line in lines if "event=this" in line] == lines
    log.get("x").error("not this either")
    assert len(lines) == 1
