"""The format of the log: one line on standard error for each record, with time, level, area and event.

How to log: each module has ``log = logging.getLogger("portunus.<area>")`` and logs with the standard library: a message
in lower case and without a full stop, its values as arguments (``log.warning("backend %s refused a request", id)``,
never an f-string), ``log.exception`` where the traceback is needed. structlog only formats the records.

A fault that a peer can cause at will is logged through ``gateway.limited_log``, once a minute for each cause.

SDP, candidates, addresses, tokens and full session ids must not appear at INFO and above (invariant 7): Portunus' own
messages do not contain them, and the formatter removes them from tracebacks and from the messages of libraries.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import time
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any, Literal, TextIO

import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, WrappedLogger

ROOT = "portunus"  # parent of all loggers of Portunus
_PREFIX = f"{ROOT}."

Style = Literal["logfmt", "json"]
LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
# Levels and their priorities for journald (syslog(3)).
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.NOTSET, 7))
_area = re.compile(r"[a-z_]+(?:\.[a-z_]+)*")

# Libraries that log single requests, candidates and packets at INFO; they log faults as warnings.
_verbose_libraries = ("aiohttp", "aioice", "aiortc", "asyncio", "libav")

_secret = re.compile(
    r"eyJ[\w-]+\.[\w.-]+"  # a JWT
    r"|(?<!\w)candidate:[^\"'\r\n]+"
    r"|(?<!\w)a=(?:candidate|ice-|fingerprint|crypto|ssrc|rtpmap)[^\"'\r\n]*"
    r"|(?<!\w)v=0(?:\\r|\\n|\s).*",  # a session description to its end
    re.DOTALL,
)
_address = re.compile(
    r"(?<![\w.])[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?!\w|\.\w)"
    r"|(?<![\w:])(?:[0-9a-fA-F]{0,4}:){2,7}[0-9a-fA-F.]*(?![\w:])"
)
_json_text = json.JSONEncoder(ensure_ascii=False).encode
_control = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]")  # without \n, which the renderer escapes


def configure(
    style: Style = "logfmt",
    level: int = logging.INFO,
    stream: TextIO | None = None,
    *,
    areas: Mapping[str, int] | None = None,
) -> None:
    """Write the records of the whole process to ``stream`` (default: standard error).

    ``areas`` sets the levels of single areas (``mcu.janus``) and of those below them. If standard error leads
    to journald, each line begins with its priority, ``<4>`` for a warning (sd-daemon(3)). A second call replaces the
    handler and levels of the first.
    """
    logging.setLogRecordFactory(_LeanRecord)
    logging._srcfile = None  # documented: do not look for the caller in the stack
    handler = _LineHandler(stream or sys.stderr)
    handler.setFormatter(_formatter(style))
    if stream is None and _is_journal(sys.stderr, os.environ.get("JOURNAL_STREAM", "")):
        handler.setFormatter(_JournalFormatter(_formatter(style)))
    for name, logger in logging.Logger.manager.loggerDict.items():
        if name.startswith(f"{ROOT}.") and isinstance(logger, logging.Logger):
            logger.setLevel(logging.NOTSET)
    for area, area_level in (areas or {}).items():
        logging.getLogger(f"{ROOT}.{area}").setLevel(area_level)
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    for name in _verbose_libraries:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))


def parse_levels(text: str) -> tuple[int, dict[str, int]]:
    """Read a level and levels of areas: ``warning``, ``mcu.janus=debug`` or ``warning,flows=info,mcu=debug``.

    Raises:
        ValueError: a level or area is invalid; the text says which.
    """
    level, areas = logging.INFO, {}
    for entry in filter(None, text.replace(" ", "").split(",")):
        area, is_area, name = entry.rpartition("=")
        if name.lower() not in LEVELS:
            raise ValueError(f'"{name}" is none of {", ".join(LEVELS)}')
        if not is_area:
            level = LEVELS[name.lower()]
        elif _area.fullmatch(area):
            areas[area] = LEVELS[name.lower()]
        else:
            raise ValueError(f'"{area}" is no area; an area is a name like mcu.janus, as in the log')
    return level, areas


def redacted(text: str) -> str:
    """Replace addresses, candidates, session descriptions and tokens in a text with ``[private]``."""
    return _address.sub(_redact_address, _secret.sub("[private]", text))


def _is_journal(stream: TextIO, journal: str) -> bool:
    """Return whether a stream is the one that systemd has connected to journald (systemd.exec(5), JOURNAL_STREAM)."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):  # closed, or no file
        return False
    return journal == f"{status.st_dev}:{status.st_ino}"


# The attributes of a record that no line shows.
_NOT_SHOWN = (
    dict.fromkeys(("pathname", "filename", "module"), "")
    | dict.fromkeys(("lineno", "msecs", "relativeCreated", "process"), 0)
    | dict.fromkeys(("funcName", "processName", "thread", "threadName", "exc_text"))
)


class _LeanRecord(logging.LogRecord):
    """A record without thread, process and place in the source, which no line shows.

    They are half of the cost of a line, and each hello causes two lines.
    """

    def __init__(
        self,
        name: str,
        level: int,
        pathname: str,
        lineno: int,
        msg: str,
        args: Any,
        exc_info: Any,
        func: str | None = None,
        sinfo: str | None = None,
    ) -> None:
        self.__dict__.update(_NOT_SHOWN)
        self.name = name
        self.levelno = level
        self.levelname = logging.getLevelName(level)
        self.msg = msg
        self.args = args[0] if len(args) == 1 and args[0] and isinstance(args[0], Mapping) else args
        self.exc_info = exc_info
        self.stack_info = sinfo
        self.created = time.time()


class _LineHandler(logging.StreamHandler[TextIO]):
    """Writes lines to a stream, and flushes it unless it does that itself at the end of each line."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._flushes_itself = getattr(stream, "line_buffering", False)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.stream.write(self.format(record) + "\n")
            if not self._flushes_itself:
                self.flush()
        except Exception:
            self.handleError(record)


class _JournalFormatter(logging.Formatter):
    """Writes the priority of a record for journald before the line of another formatter."""

    def __init__(self, lines: logging.Formatter) -> None:
        super().__init__()
        self._lines = lines

    def format(self, record: logging.LogRecord) -> str:
        priority = next(number for level, number in _PRIORITIES if record.levelno >= level)
        return f"<{priority}>{self._lines.format(record)}"


class _LeanFormatter(logging.Formatter):
    """Formats the records of Portunus without a traceback as ``full`` does, but faster; leaves others to ``full``."""

    def __init__(self, full: logging.Formatter, style: Style) -> None:
        super().__init__()
        self._full = full
        self._line = _json_line if style == "json" else _logfmt_line
        self._second, self._text = -1, ""  # the second of the last record, and its text

    def format(self, record: logging.LogRecord) -> str:
        if record.exc_info or record.stack_info or not record.name.startswith(_PREFIX):
            return self._full.format(record)
        event = record.getMessage()
        if not (event.isascii() and event.isprintable()):
            event = _control.sub(_escaped, event)
        return self._line(self._time(record.created), record.levelname.lower(), record.name[len(_PREFIX) :], event)

    def _time(self, at: float) -> str:
        second = int(at)
        if second != self._second:
            self._second, self._text = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._text}.{int((at - second) * 1e6):06d}Z"


def _logfmt_line(at: str, level: str, area: str, event: str) -> str:
    if quoted := " " in event or "=" in event or '"' in event:
        event = event.replace("\\", "\\\\")
    event = event.replace('"', '\\"').replace("\n", "\\n")
    event = f'"{event}"' if quoted else event
    return f"time={at} level={level} area={area} event={event}"


def _json_line(at: str, level: str, area: str, event: str) -> str:
    return f'{{"event": {_json_text(event)}, "time": "{at}", "level": "{level}", "area": "{area}"}}'


def _formatter(style: Style) -> logging.Formatter:
    keys = ["time", "level", "area", "event"]
    render = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if style == "json"
        else structlog.processors.LogfmtRenderer(key_order=keys, drop_missing=True, bool_as_flag=False)
    )
    full = ProcessorFormatter(
        processors=[
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            structlog.processors.format_exc_info,
            _add_level_and_area,
            _redact,
            ProcessorFormatter.remove_processors_meta,
            _escape_control_characters,
            render,
        ]
    )
    return _LeanFormatter(full, style)


def _add_level_and_area(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    record: logging.LogRecord = event["_record"]
    event["level"] = record.levelname.lower()
    event["area"] = record.name.removeprefix(ROOT + ".")
    return event


def _redact(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Redact tracebacks, and the messages of libraries, at INFO and above."""
    record: logging.LogRecord = event["_record"]
    if record.levelno >= logging.INFO:
        own = record.name.startswith(ROOT + ".")
        for key in ("exception",) if own else ("exception", "event"):
            if key in event:
                event[key] = redacted(str(event[key]))
    return event


def _escape_control_characters(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    return {key: _control.sub(_escaped, value) if isinstance(value, str) else value for key, value in event.items()}


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


def _redact_address(match: re.Match[str]) -> str:
    try:
        ip_address(match[0])
    except ValueError:  # a time of day or a version
        return match[0]
    return "[private]"
