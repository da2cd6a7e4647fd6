"""Ports for the programs that the tests start: each is given to one program only, also by other test processes.

The ports are below the kernel's ephemeral range: no outgoing connection and no socket bound to port 0 takes one between
its allocation and its use. They are leased in blocks. The first port of a leased block stays bound, which shows other
test processes on this machine that the block is taken, however this process ends.
"""

from __future__ import annotations

import itertools
import os
import socket
from collections import deque
from pathlib import Path
from types import TracebackType

FIRST_PORT = 10_000  # below are ports of well-known services
BLOCK_SIZE = 420  # ports of a block: enough for the TCP and UDP ports of one SFU
EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


class PortBlock:
    """Consecutive ports that belong to this process until ``close``, or until the object is deleted."""

    def __init__(self, guard: socket.socket) -> None:
        self._guard = guard
        self.first: int = guard.getsockname()[1] + 1  # inclusive
        self.last = self.first + BLOCK_SIZE - 2  # inclusive

    def __enter__(self) -> PortBlock:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Return the ports. Idempotent."""
        self._guard.close()


def lease_block() -> PortBlock:
    """Lease a block whose ports are all free, TCP and UDP; the one that was closed last is leased last.

    Raises:
        RuntimeError: there is none.
    """
    end = int(EPHEMERAL_RANGE.read_text().split()[0])
    count = max(0, end - FIRST_PORT) // BLOCK_SIZE
    for _ in range(count):
        block = lease_if_free(FIRST_PORT + next(_numbers) % count * BLOCK_SIZE)
        if block is not None:
            return block
    raise RuntimeError(f"none of the {count} blocks of ports from {FIRST_PORT} to {end} is free")


def lease_if_free(guarded: int) -> PortBlock | None:
    """Lease the block that begins after a port, or return ``None`` if one of its ports is in use."""
    guard = socket.socket()
    try:
        guard.bind(("127.0.0.1", guarded))
    except OSError:
        guard.close()
        return None
    block = PortBlock(guard)
    if all(_is_free(port) for port in range(block.first, block.last + 1)):
        return block
    block.close()
    return None


def free_ports(count: int) -> list[int]:
    """Return ports that are given to no other caller while this process runs."""
    ports: list[int] = []
    while len(ports) < count:
        if not _unused:
            _leased.append(lease_block())
            _unused.extend(range(_leased[-1].first, _leased[-1].last + 1))
        port = _unused.popleft()
        if _is_free(port):
            ports.append(port)
    return ports


_numbers = itertools.count(os.getpid())  # test processes begin with different blocks
_leased: list[PortBlock] = []  # the blocks of ``free_ports``
_unused: deque[int] = deque()  # ports of the last of them


def _is_free(port: int) -> bool:
    for socket_type in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(type=socket_type) as probe:
            if socket_type is socket.SOCK_STREAM:  # a port in TIME_WAIT can be used
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("", port))
            except OSError:
                return False
    return True
