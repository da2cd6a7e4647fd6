"""Take the listening sockets that the service manager passes to the process (socket activation).

Source: sd_listen_fds(3).
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping

FIRST_DESCRIPTOR = 3
_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)


class PassedSocketError(Exception):
    """The service manager passed a descriptor that cannot be served; the text is one sentence."""


def take(environ: MutableMapping[str, str], process: int, first: int = FIRST_DESCRIPTOR) -> list[socket.socket]:
    """Take the sockets that were passed to the process with this id, and remove the variables that announce them.

    The list is empty if none were passed, or if they were meant for another process. The caller closes the sockets.

    Raises:
        PassedSocketError: a descriptor is not a listening stream socket, or the variables contradict each other.
    """
    recipient = environ.pop("LISTEN_PID", "")
    count, names = environ.pop("LISTEN_FDS", ""), environ.pop("LISTEN_FDNAMES", "").split(":")
    if recipient != str(process) or not count:
        return []
    if not (count.isascii() and count.isdecimal() and int(count) <= os.sysconf("SC_OPEN_MAX")):
        raise PassedSocketError(f"LISTEN_FDS is no number of descriptors: {count!r}")
    named = names + [""] * (int(count) - len(names))
    return [_open(first + index, named[index]) for index in range(int(count))]


def covers(sock: socket.socket, address: tuple[str, int]) -> bool:
    """Return whether a TCP socket accepts connections to a numeric address, because of its own or as a wildcard."""
    host, port = sock.getsockname()[:2]
    hosts = {host}
    if host == "::" and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
        hosts.add("0.0.0.0")  # it accepts IPv4 as well
    wildcard = "::" if ":" in address[0] else "0.0.0.0"
    return bool(port == address[1] and hosts & {address[0], wildcard})


def _open(descriptor: int, name: str) -> socket.socket:
    called = f"descriptor {descriptor} ({name or 'without a name'}) of the service manager"
    try:
        os.set_inheritable(descriptor, False)
        sock = socket.socket(fileno=descriptor)
        listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise PassedSocketError(f"{called} is not a socket ({error.strerror})") from error
    if not listens or sock.type != socket.SOCK_STREAM or sock.family not in _FAMILIES:
        raise PassedSocketError(f"{called} does not listen: its unit needs ListenStream= and Accept=no")
    sock.setblocking(False)
    return sock
