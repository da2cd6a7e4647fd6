"""The addresses of the backends' hosts: one lookup for all requests that wait for it, and a short cache.

A name server may not answer for half a minute, while a lookup occupies one of the few threads that all lookups share.
So a host has one lookup at a time, which goes on when the requests that wait for it are cancelled.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from functools import partial

from aiohappyeyeballs import AddrInfoType

ADDRESS_LIFETIME = 10.0  # seconds
_MAX_HOSTS = 256  # hosts in the cache; limited because clients choose the hosts with ``allow_any``


class HostAddresses:
    """Resolves names with the system's resolver; call ``close`` when done."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, int], tuple[float, list[AddrInfoType]]] = {}  # until when they are kept, addresses
        self._lookups: dict[tuple[str, int], asyncio.Task[list[AddrInfoType]]] = {}  # running

    def close(self) -> None:
        """Cancel the lookups that run."""
        for lookup in self._lookups.values():
            lookup.cancel()

    async def resolve(self, host: str, port: int) -> list[AddrInfoType]:
        """Return the addresses of a host. An IP address is used as it is, and must be in its usual form.

        Raises:
            OSError: the name does not resolve, or ``close`` was called.
            ValueError: the host cannot be encoded, or is an IP address in another form.
        """
        if ":" in host or host.replace(".", "").isdigit():
            ipaddress.ip_address(host)
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            sockaddr = (host, port, 0, 0) if ":" in host else (host, port)
            return [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", sockaddr)]
        key = host, port
        until, found = self._found.get(key, (0.0, []))
        if found and asyncio.get_running_loop().time() < until:
            return found
        lookup = self._lookups.get(key)
        if lookup is None:
            lookup = self._lookups[key] = asyncio.create_task(self._look_up(host, port), name="lookup of a backend")
            lookup.add_done_callback(partial(self._forget, key))
        await asyncio.wait([lookup])
        if lookup.cancelled():
            raise OSError("the lookup was cancelled")
        return lookup.result()

    async def _look_up(self, host: str, port: int) -> list[AddrInfoType]:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
        if len(self._found) >= _MAX_HOSTS:
            self._found.clear()
        self._found[host, port] = (loop.time() + ADDRESS_LIFETIME, list(found))
        return list(found)

    def _forget(self, key: tuple[str, int], lookup: asyncio.Task[list[AddrInfoType]]) -> None:
        """Remove a lookup that has ended; its error counts as seen, also if no request waits for it any more."""
        del self._lookups[key]
        if not lookup.cancelled():
            lookup.exception()
