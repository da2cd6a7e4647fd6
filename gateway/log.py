"""One line for each log record, whoever wrote it, on standard error.

The gateway logs through ``get(area)`` with key=value pairs; ``mcu``, ``sdp`` and the libraries log through the standard
library. Both are rendered alike. SDP, candidates, addresses, tokens and full session ids are not for INFO and above:
our own events do not hold them, and from tracebacks and from what libraries write they are cut out here.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Literal, TextIO, cast

import structlog
from structlog.stdlib import BoundLogger, ProcessorFormatter
from structlog.typing import EventDict, WrappedLogger

ROOT = "portunus"

Style = Literal["logfmt", "json"]

# Libraries that tell of single requests, candidates and packets at INFO; what is wrong comes as a warning.
_talkative = ("aiohttp", "aioice", "aiortc", "asyncio", "libav")

_secret = re.compile(
    r"eyJ[\w-]+\.[\w.-]+"  # a JWT
    r"|(?<!\w)candidate:[^\"'\r\n]+"
    r"|(?<!\w)a=(?:candidate|ice-|fingerprint|crypto|ssrc|rtpmap)[^\"'\r\n]*"
    r"|(?<!\w)v=0(?:\\r|\\n|\s).*",  # a whole description
    re.DOTALL,
)
_address = re.compile(
    r"(?<![\w.])[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?!\w|\.\w)"
    r"|(?<![\w:])(?:[0-9a-fA-F]{0,4}:){2,7}[0-9a-fA-F.]*(?![\w:])"
)
_control = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]")  # \n is the renderer's


def get(area: str) -> BoundLogger:
    """Return the logger ``portunus.<area>``; its methods take an event text and key=value pairs."""
    wrapped = structlog.wrap_logger(
        logging.getLogger(f"{ROOT}.{area}"),
        processors=[structlog.stdlib.filter_by_level, ProcessorFormatter.wrap_for_formatter],
        wrapper_class=BoundLogger,
    )
    return cast(BoundLogger, wrapped)


def configure(style: Style = "logfmt", level: int = logging.INFO, stream: TextIO | None = None) -> None:
    """Send the records of the whole process to ``stream`` (standard error); a second call replaces the first."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_formatter(style))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    for name in _talkative:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))


@contextmanager
def captured(level: int = logging.INFO) -> Iterator[list[str]]:
    """Collect every record of ``level`` and above, formatted as the operator would see it; for tests."""
    lines: list[str] = []
    handler, root = _Collector(lines), logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(level)
    try:
        yield lines
    finally:
        root.setLevel(before)
        root.removeHandler(handler)


def redacted(text: str) -> str:
    """Return the text without addresses, candidates, descriptions and tokens."""
    return _address.sub(_redact_address, _secret.sub("[private]", text))


class _Collector(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self._lines = lines
        self.setFormatter(_formatter("logfmt"))

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(self.format(record))


def _formatter(style: Style) -> logging.Formatter:
    keys = ["time", "level", "area", "event"]
    render = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if style == "json"
        else structlog.processors.LogfmtRenderer(key_order=keys, drop_missing=True, bool_as_flag=False)
    )
    return ProcessorFormatter(
        processors=[
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            structlog.processors.format_exc_info,
            _describe,
            ProcessorFormatter.remove_processors_meta,
            _on_one_line,
            render,
        ]
    )


def _describe(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Add level and area, and cut out what must not be read at this level."""
    record: logging.LogRecord = event["_record"]
    ours = record.name.startswith(ROOT + ".")
    event["level"] = record.levelname.lower()
    event["area"] = record.name.removeprefix(ROOT + ".")
    if record.levelno >= logging.INFO:
        for key in ("exception",) if ours else ("exception", "event"):
            if key in event:
                event[key] = redacted(str(event[key]))
    return event


def _on_one_line(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    return {key: _control.sub(_escape, value) if isinstance(value, str) else value for key, value in event.items()}


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


def _redact_address(match: re.Match[str]) -> str:
    try:
        ip_address(match[0])
    except ValueError:  # a time of day, a version
        return match[0]
    return "[private]"
