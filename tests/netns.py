"""Two connected network namespaces, a server's and a client's, between which packets can be dropped silently.

The thread of the test moves into the namespace of the server: the sockets and processes that it creates belong there.
``TwoHosts.client_socket`` creates a socket in the namespace of the client. Needs root and the command ``ip``.
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

SERVER_ADDRESS = "10.77.0.1"
CLIENT_ADDRESSES = ("10.77.0.2", "10.77.0.3")  # two, as a phone has in Wi-Fi and in a mobile network
UNUSED_MAC = "02:00:00:00:00:99"  # MAC address that no interface has
CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


def _ip(*arguments: str) -> None:
    subprocess.run(("ip", *arguments), check=True, capture_output=True, text=True)


def _enter(namespace: Path) -> None:
    """Move this thread into a network namespace."""
    with namespace.open() as file:
        _set_namespace(file.fileno())


def _set_namespace(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


@dataclass(frozen=True)
class TwoHosts:
    """The names of the two namespaces, which have ``SERVER_ADDRESS`` and ``CLIENT_ADDRESSES``."""

    server: str
    client: str

    @contextmanager
    def in_client(self) -> Iterator[None]:
        """Run the block in the client's namespace: sockets and processes created in it belong there."""
        _enter(Path("/run/netns", self.client))
        try:
            yield
        finally:
            _enter(Path("/run/netns", self.server))

    def client_socket(self, address: str) -> socket.socket:
        """Create a TCP socket in the client's namespace, bound to one of its addresses."""
        with self.in_client():
            sock = socket.socket()
            sock.bind((address, 0))
        return sock

    def add_server_address(self, address: str) -> None:
        """Give the server an address to which the client has no route."""
        _ip("-n", self.server, "addr", "add", f"{address}/32", "dev", "lo")

    def drop_packets_to(self, address: str) -> None:
        """Drop all further packets to an address of the client; their sender gets no error.

        A permanent ARP entry of the server sends them to ``UNUSED_MAC``.
        """
        _ip("-n", self.server, "neigh", "replace", address, "lladdr", UNUSED_MAC, "dev", "toclient", "nud", "permanent")


@contextmanager
def _namespaces(*names: str) -> Iterator[None]:
    """Create namespaces with a loopback interface; at the end return this thread to its own one and delete them."""
    if shutil.which("ip") is None:
        raise RuntimeError("the command ip is missing: apt-get install iproute2")
    original_namespace = Path(f"/proc/self/task/{threading.get_native_id()}/ns/net")
    with original_namespace.open() as original:
        try:
            for name in names:
                _ip("netns", "add", name)
                _ip("-n", name, "link", "set", "lo", "up")
            yield
        finally:
            _set_namespace(original.fileno())
            for name in names:
                subprocess.run(("ip", "netns", "del", name), check=False, capture_output=True)


@contextmanager
def lone_host(address: str = "") -> Iterator[Path]:
    """Create one namespace that has loopback only, and run the block in it; yield the path that names it.

    ``address``: of a further interface, which leads nowhere.
    """
    name = f"lone{os.getpid()}"
    with _namespaces(name):
        path = Path("/run/netns", name)
        if address:
            _ip("-n", name, "link", "add", "nowhere", "type", "veth", "peer", "end")
            _ip("-n", name, "addr", "add", f"{address}/24", "dev", "nowhere")
            for interface in ("nowhere", "end"):
                _ip("-n", name, "link", "set", interface, "up")
        _enter(path)
        yield path


@contextmanager
def two_hosts() -> Iterator[TwoHosts]:
    """Create two namespaces connected by a veth pair, and run the block in the server's."""
    hosts = TwoHosts(f"server{os.getpid()}", f"client{os.getpid()}")
    with _namespaces(hosts.server, hosts.client):
        _ip("-n", hosts.server, "link", "add", "toclient", "type", "veth", "peer", "toserver", "netns", hosts.client)
        _ip("-n", hosts.server, "addr", "add", f"{SERVER_ADDRESS}/24", "dev", "toclient")
        for address in CLIENT_ADDRESSES:
            _ip("-n", hosts.client, "addr", "add", f"{address}/24", "dev", "toserver")
        _ip("-n", hosts.server, "link", "set", "toclient", "up")
        _ip("-n", hosts.client, "link", "set", "toserver", "up")
        _enter(Path("/run/netns", hosts.server))
        yield hosts
