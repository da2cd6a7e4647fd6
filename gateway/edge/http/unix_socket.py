"""Unix sockets: remove stale sockets, and listen on a socket to which only the own user may connect."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

OWNER_ONLY = 0o600


def remove_stale(path: Path) -> None:
    """Remove a unix socket on which no process listens any more.

    Raises:
        OSError: a process listens on it, or the path is not a socket.
    """
    if not path.exists():
        return
    if not path.is_socket():
        raise OSError(errno.EEXIST, f"{path} exists and is not a socket")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise OSError(errno.EADDRINUSE, f"{path} is in use by another program")


def listen(path: Path) -> socket.socket:
    """Return a socket that listens at ``path`` and that no other user can connect to at any moment.

    Raises:
        OSError: the path is in use, or its folder cannot be written to.
    """
    remove_stale(path)
    listening = socket.socket(socket.AF_UNIX)
    try:
        os.fchmod(listening.fileno(), OWNER_ONLY)  # on Linux bind() gives the path this mode
        listening.bind(str(path))
        listening.listen()
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise OSError(error.errno, error.strerror, str(path)) from error
    return listening
