"""Two hosts in network namespaces of the test's own, whose packets can be lost without any notice.

The thread of the test moves into the namespace of the server: sockets and processes that it makes are there. Sockets of
the client are made in the other namespace. Needs root and the command ``ip``.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SERVER = "10.77.0.1"
CLIENT = ("10.77.0.2", "10.77.0.3")  # the client has two addresses, as a phone in two networks
NOBODY = "02:00:00:00:00:99"  # hardware address of no interface
CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


def _ip(*arguments: str) -> None:
    subprocess.run(("ip", *arguments), check=True, capture_output=True, text=True)


def _enter(namespace: Path) -> None:
    """Move this thread into a network namespace."""
    with namespace.open() as file:
        if _libc.setns(file.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")


@dataclass(frozen=True)
class TwoHosts:
    """The two namespaces; ``SERVER`` and ``CLIENT`` are their addresses."""

    server: str
    client: str

    def client_socket(self, address: str) -> socket.socket:
        """Return a TCP socket of the client that is bound to one of its addresses."""
        _enter(Path("/run/netns", self.client))
        try:
            sock = socket.socket()
            sock.bind((address, 0))
        finally:
            _enter(Path("/run/netns", self.server))
        return sock

    def lose(self, address: str) -> None:
        """Lose all packets to an address of the client from now on, without any error."""
        _ip("-n", self.server, "neigh", "replace", address, "lladdr", NOBODY, "dev", "toclient", "nud", "permanent")


@contextmanager
def two_hosts() -> Iterator[TwoHosts]:
    """Make two connected namespaces, and be in the server's until the end."""
    if shutil.which("ip") is None:
        raise RuntimeError("the command ip is missing: apt-get install iproute2")
    before = Path(f"/proc/self/task/{threading.get_native_id()}/ns/net")
    hosts = TwoHosts(f"server{os.getpid()}", f"client{os.getpid()}")
    with before.open() as home:
        try:
            for name in (hosts.server, hosts.client):
                _ip("netns", "add", name)
                _ip("-n", name, "link", "set", "lo", "up")
            _ip(
                "-n", hosts.server, "link", "add", "toclient", "type", "veth", "peer", "toserver", "netns", hosts.client
            )
            _ip("-n", hosts.server, "addr", "add", f"{SERVER}/24", "dev", "toclient")
            for address in CLIENT:
                _ip("-n", hosts.client, "addr", "add", f"{address}/24", "dev", "toserver")
            _ip("-n", hosts.server, "link", "set", "toclient", "up")
            _ip("-n", hosts.client, "link", "set", "toserver", "up")
            _enter(Path("/run/netns", hosts.server))
            yield hosts
        finally:
            if _libc.setns(home.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
            for name in (hosts.server, hosts.client):
                subprocess.run(("ip", "netns", "del", name), check=False, capture_output=True)
