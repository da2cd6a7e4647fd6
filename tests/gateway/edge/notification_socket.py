"""Notification socket of a service manager (sd_notify)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager


class Notifications:
    """The notification socket of a service manager."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.settimeout(10)

    def receive(self) -> list[str]:
        """Wait for a notification and return its assignments."""
        return self._socket.recv(4096).decode().split("\n")

    async def wait_for(self, assignment: str) -> list[str]:
        """Wait for a notification with an assignment; drop others."""
        while assignment not in (received := await asyncio.to_thread(self.receive)):
            pass
        return received

    def close(self) -> None:
        self._socket.close()


@contextmanager
def notifications(address: str) -> Iterator[Notifications]:
    receiver = Notifications(address)
    try:
        yield receiver
    finally:
        receiver.close()
