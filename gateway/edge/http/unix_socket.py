"""Unix sockets: one that nobody listens on any more, and one that nobody else may use."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

OWN = 0o600


def remove_stale(path: Path) -> None:
    """Remove a unix socket that nobody listens on any more.

    Raises:
        OSError: somebody does, or the path is something else than a socket.
    """
    if not path.exists():
        return
    if not path.is_socket():
        raise OSError(errno.EEXIST, f"{path} is there, and no socket")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise OSError(errno.EADDRINUSE, f"{path} is in use by another program")


def listen(path: Path) -> socket.socket:
    """Return a socket that listens at ``path`` and that no other user may connect to, from the first moment on.

    Raises:
        OSError: the path is taken, or its folder cannot be written to.
    """
    remove_stale(path)
    listening = socket.socket(socket.AF_UNIX)
    try:
        os.fchmod(listening.fileno(), OWN)  # on Linux bind() gives the path the mode that the socket has by then
        listening.bind(str(path))
        listening.listen()
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return listening
