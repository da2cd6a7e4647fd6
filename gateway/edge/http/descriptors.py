"""The limit of open file descriptors, and the reserve of them that client connections do not get.

Source: docs/operations.md, "Limits". The kernel gives a new descriptor the lowest free number, so this number shows how
many are in use.
"""

from __future__ import annotations

import asyncio
import logging
import resource

from gateway.limited_log import LimitedLog

RECOMMENDED_DESCRIPTORS = 8192  # with fewer, a warning is logged at the start
_MAX_DESCRIPTORS = 1 << 20  # used in place of an infinite limit
_RESERVE = 256  # file descriptors that no client connection gets; an eighth of the limit if that is less
_ADVICE = "raise LimitNOFILE (systemd) or ulimit -n"

log = logging.getLogger("portunus.http")


def raise_limit() -> int:
    """Raise the soft limit of open file descriptors to the hard limit and return it; warn if it is low."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    limit = descriptor_limit()
    if limit < RECOMMENDED_DESCRIPTORS:
        log.warning(
            "only %d file descriptors may be open, enough for about %d clients: %s",
            limit,
            usable_descriptors(limit),
            _ADVICE,
        )
    return limit


def descriptor_limit() -> int:
    """Return how many file descriptors the process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MAX_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft


def usable_descriptors(limit: int) -> int:
    """Return how many of ``limit`` descriptors client connections may use."""
    return limit - min(_RESERVE, limit // 8)


class DescriptorReserve:
    """Detects connections whose file descriptor is in the reserve, and warns about them once a minute."""

    def __init__(self, warnings: LimitedLog) -> None:
        self._warnings = warnings
        self._limit = descriptor_limit()
        self._usable = usable_descriptors(self._limit)

    def is_used_by(self, transport: asyncio.BaseTransport | None) -> bool:
        """Return whether the file descriptor of a connection is in the reserve; if so, log a warning."""
        socket = None if transport is None else transport.get_extra_info("socket")
        if socket is None or socket.fileno() < self._usable:
            return False
        self._warnings.warning(
            "descriptors", "clients are refused: at least %d file descriptors are open, %s", self._usable, _ADVICE
        )
        return True
