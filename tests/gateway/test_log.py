"""The format of a log line, and the private text that it must not contain."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from gateway import log
from gateway.cli import main
from tests.captured_log import captured_lines
from tests.root_logger import restored_root_logger


@pytest.fixture(autouse=True)
def _restore_root_logger() -> Iterator[None]:
    with restored_root_logger():
        yield


def configured(style: log.Style = "logfmt", level: int = logging.INFO) -> io.StringIO:
    stream = io.StringIO()
    log.configure(style, level, stream)
    return stream


def test_record_is_one_line_without_control_characters() -> None:
    stream = configured()
    logging.getLogger("portunus.rooms").info("room opened by %s", 'a "b"\r\nc\x1b[31m')
    (line,) = stream.getvalue().splitlines()
    assert line.startswith("time=20")
    assert 'level=info area=rooms event="room opened by a \\"b\\"' in line
    assert not any(control in line for control in "\r\n\x1b")


def test_record_as_json_has_level_area_and_event() -> None:
    stream = configured("json")
    logging.getLogger("portunus.janus").warning("no answer after %d s", 3)
    record = json.loads(stream.getvalue())
    assert record.pop("time")
    assert record == {"level": "warning", "area": "janus", "event": "no answer after 3 s"}


def test_traceback_stays_on_the_line_of_its_record() -> None:
    stream = configured()
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        logging.getLogger("portunus.flows").exception("failed")
        logging.getLogger("aiohttp.server").exception("failed too")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 2
    assert all("ValueError: first" in line for line in lines)


def test_configuring_twice_writes_each_record_once() -> None:
    first, second = configured(), configured()
    logging.getLogger("portunus.x").warning("once")
    assert first.getvalue() == ""
    assert len(second.getvalue().splitlines()) == 1


def test_records_below_the_level_are_not_written() -> None:
    stream = configured(level=logging.WARNING)
    logging.getLogger("portunus.x").info("quiet")
    logging.getLogger("portunus.y").info("quiet")
    assert stream.getvalue() == ""


@pytest.mark.parametrize("name", ["aioice.ice", "aiortc.rtcdtlstransport", "aiohttp.access"])
def test_info_records_of_libraries_are_not_written(name: str) -> None:
    stream = configured()
    logging.getLogger(name).info("Connection(0) Check CandidatePair(('10.1.2.3', 5000)) State.FROZEN")
    assert stream.getvalue() == ""


PRIVATE_TEXTS = [
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


@pytest.mark.parametrize("text", PRIVATE_TEXTS)
def test_private_text_in_library_messages_and_tracebacks_is_redacted(text: str) -> None:
    with captured_lines() as lines:
        logging.getLogger("aioice.ice").warning("failed for %s", text)
        try:
            raise OSError(f"cannot reach {text}")
        except OSError:
            logging.getLogger("portunus.edge").exception("failed")
    assert len(lines) == 2
    for line in lines:
        assert "[private]" in line
        assert not any(part in line for part in ("192.0.2.17", "db8::1", "fe80::1", "asd88", "eyJ"))


@pytest.mark.parametrize("text", ["at 12:30:45", "version 1.2.3", "std::move", "1.2.3.4.5", "a=b", "999.1.1.1"])
def test_harmless_text_is_not_redacted(text: str) -> None:
    assert log.redacted(text) == text


def test_capture_keeps_the_records_of_its_level_and_above() -> None:
    with captured_lines(logging.WARNING) as lines:
        logging.getLogger("portunus.x").info("not this")
        logging.getLogger("portunus.x").error("this")
    assert [line for line in lines if "event=this" in line] == lines
    logging.getLogger("portunus.x").error("not this either")
    assert len(lines) == 1


@pytest.mark.parametrize(
    ("text", "level", "areas"),
    [
        ("", logging.INFO, {}),
        ("Warning", logging.WARNING, {}),
        ("mcu.janus=debug", logging.INFO, {"mcu.janus": logging.DEBUG}),
        ("error, flows=info,mcu=debug", logging.ERROR, {"flows": logging.INFO, "mcu": logging.DEBUG}),
    ],
)
def test_levels_of_areas_are_parsed(text: str, level: int, areas: dict[str, int]) -> None:
    assert log.parse_levels(text) == (level, areas)


@pytest.mark.parametrize("text", ["loud", "mcu=", "=debug", "mcu=loud", "a b/c=info", "mcu..janus=info"])
def test_invalid_levels_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no area|is none of debug, info, warning, error"):
        log.parse_levels(text)
    done = CliRunner().invoke(main, ["serve", "-c", "none", "--log-level", text])
    assert done.exit_code == 2


def test_area_has_its_own_level_until_the_next_configuration() -> None:
    stream = io.StringIO()
    log.configure("logfmt", logging.WARNING, stream, areas={"levels.loud": logging.DEBUG})
    for name in ("levels.loud", "levels.loud.below", "levels.other"):
        logging.getLogger(f"portunus.{name}").debug("a record")
    assert [line.split("area=")[1].split()[0] for line in stream.getvalue().splitlines()] == [
        "levels.loud",
        "levels.loud.below",
    ]
    stream = configured()
    logging.getLogger("portunus.levels.loud").debug("quiet again")
    assert stream.getvalue() == ""


@pytest.mark.parametrize("journal", [True, False])
def test_lines_for_journald_begin_with_their_level(tmp_path: Path, journal: bool) -> None:
    script = (
        "import logging; from gateway import log; log.configure(level=logging.DEBUG);"
        "it = logging.getLogger('portunus.x');"
        "it.debug('d'); it.info('i'); it.warning('w'); it.error('e'); it.critical('c')"
    )
    target = tmp_path / "stderr"
    with target.open("w") as file:
        status = os.fstat(file.fileno())
        variable = f"{status.st_dev}:{status.st_ino}" if journal else "1:2"
        environment = os.environ | {"JOURNAL_STREAM": variable}
        subprocess.run([sys.executable, "-c", script], stderr=file, env=environment, check=True, timeout=60)
    begins = [line.split("time=")[0] for line in target.read_text().splitlines()]
    assert begins == (["<7>", "<6>", "<4>", "<3>", "<2>"] if journal else [""] * 5)


@pytest.mark.parametrize("style", ["logfmt", "json"])
@given(st.text(st.characters()))
def test_plain_records_are_formatted_as_structlog_formats_them(style: log.Style, text: str) -> None:
    formatter = log._formatter(style)
    assert isinstance(formatter, log._LeanFormatter)
    record = logging.LogRecord("portunus.x.y", logging.WARNING, __file__, 1, "%s", (text,), None)
    time = r"(time=|\"time\": \")\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"
    (lean, times), (full, _) = (re.subn(time, r"\1", it.format(record), count=1) for it in (formatter, formatter._full))
    assert (lean, times) == (full, 1)
