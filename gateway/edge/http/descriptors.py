"""The number of descriptors that the process may have open, and the reserve with which it refuses connections.

Source: docs/operations.md, "Limits". The kernel gives a connection the lowest free number, so the number of a new one
says how many are in use.
"""

from __future__ import annotations

import asyncio
import logging
import resource

from gateway.limited_log import LimitedLog

ENOUGH = 8192  # fewer are worth a warning at the start
_MOST = 1 << 20  # of a hard limit without an end
_RESERVE = 256  # descriptors that no client connection gets; an eighth if there are few
_ADVICE = "raise LimitNOFILE (systemd) or ulimit -n"

log = logging.getLogger("portunus.http")


def raise_limit() -> int:
    """Raise the soft limit of open descriptors to the hard one, warn if that is little, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    limit = open_limit()
    if limit < ENOUGH:
        log.warning("only %d descriptors may be open, enough for about %d clients: %s", limit, usable(limit), _ADVICE)
    return limit


def open_limit() -> int:
    """Return how many descriptors may be open now."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if soft == resource.RLIM_INFINITY else soft


def usable(limit: int) -> int:
    """Return how many of them client connections may take."""
    return limit - min(_RESERVE, limit // 8)


class Descriptors:
    """Tells when only the reserve is left, and warns about it once a minute."""

    def __init__(self, warnings: LimitedLog) -> None:
        self._warnings = warnings
        self._limit = open_limit()
        self._usable = usable(self._limit)

    def are_scarce_for(self, transport: asyncio.BaseTransport | None) -> bool:
        """Whether the connection has one of the last descriptors."""
        socket = None if transport is None else transport.get_extra_info("socket")
        if socket is None or socket.fileno() < self._usable:
            return False
        self._warnings.warning("descriptors", "clients are refused: %d descriptors are open, %s", self._usable, _ADVICE)
        return True
