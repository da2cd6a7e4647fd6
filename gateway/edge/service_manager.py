"""Notify the service manager of the process' state, and prove to its watchdog that the event loop runs.

Source: sd_notify(3), sd_watchdog_enabled(3).
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Mapping

STATUS_PERIOD = 5.0  # seconds between two checks whether the status text has changed
SEND_TIMEOUT = 1.0  # seconds; only a service manager that stands still lets its queue fill
_STATUS_LENGTH = 500  # characters

log = logging.getLogger("portunus")


class ServiceManager:
    """Sends notifications to the socket that ``NOTIFY_SOCKET`` names; without it no method has an effect."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self.watchdog_period = _watchdog_period(environ) if self._address else None
        self._status = ""

    def ready(self, status: str) -> None:
        """Report that the start, or a reload, is complete."""
        self._status = status
        self._send("READY=1", f"STATUS={_line(status)}")

    def reloading(self) -> None:
        """Report that a reload begins; ``ready`` has to follow."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """Report that the process ends now: the service manager's time limit begins."""
        self._send("STOPPING=1", "STATUS=ending")

    def extend_time_limit(self, seconds: float) -> None:
        """Ask for at least ``seconds`` from now until the end of the process, if the unit grants less."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1_000_000)}")

    async def watch(self, status: Callable[[], str]) -> None:
        """Feed the watchdog, and send the status text when it changes, until the task is cancelled."""
        if not self._address:
            return
        while True:
            text = status()
            if text != self._status:
                self._status = text
                self._send(f"STATUS={_line(text)}")
            if self.watchdog_period is not None:
                self._send("WATCHDOG=1")
            await asyncio.sleep(min(self.watchdog_period or STATUS_PERIOD, STATUS_PERIOD))

    def _send(self, *assignments: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address  # an abstract socket
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.settimeout(SEND_TIMEOUT)
                sock.sendto("\n".join(assignments).encode(), address)
        except OSError as error:
            log.warning("the service manager cannot be notified: %s", error.strerror or error)


def _watchdog_period(environ: Mapping[str, str]) -> float | None:
    """Return the seconds between two signs of life, half of the watchdog's limit; ``None``: there is no watchdog."""
    limit, process = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if process not in ("", str(os.getpid())) or not (limit.isascii() and limit.isdecimal() and int(limit)):
        return None
    return int(limit) / 2_000_000


def _line(text: str) -> str:
    return " ".join(text.split())[:_STATUS_LENGTH]
