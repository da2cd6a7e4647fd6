"""Listen on the addresses of ``http.listen`` and on passed sockets: TCP or unix sockets, with TLS or without."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aiohttp import web

from gateway.edge.http import unix_socket
from gateway.edge.http.passed_sockets import covers
from gateway.edge.http.runner import PassedSite, TcpSite

TcpAddress = tuple[str, int]  # host and port; an empty host stands for all interfaces


async def listen(
    runner: web.AppRunner,
    entries: Mapping[str, TcpAddress | None],
    passed: Sequence[socket.socket] = (),
    *,
    tls: bool = False,
) -> list[str]:
    """Serve the sockets that the service manager passed, and the entries of ``http.listen`` that none of them serves.

    ``entries`` maps each entry to its address, or to ``None`` if it is a path. ``tls``: the runner serves TLS.
    Returns the addresses as URLs.

    Raises:
        OSError: an address is in use or not one of this machine; the ``filename`` is the entry.
    """
    urls = []
    for sock in passed:
        await PassedSite(runner, sock).start()
        urls.append(_url(sock.getsockname(), tls))
    for entry, address in entries.items():
        try:
            if not await _is_served(entry, address, passed):
                bound = await _bind(runner, entry, address)
                urls += [_url(it, tls) for it in bound]
        except OSError as error:
            detailed = error.strerror if error.strerror and entry in error.strerror else ""
            text = detailed or (os.strerror(error.errno) if error.errno else str(error))
            raise OSError(error.errno, text, entry) from error
    return urls


async def _bind(runner: web.AppRunner, entry: str, address: TcpAddress | None) -> list[Any]:
    if address is None:
        unix_socket.remove_stale(Path(entry))
        await web.UnixSite(runner, entry).start()
        return [entry]
    before = len(runner.addresses)
    await TcpSite(runner, address[0] or None, address[1]).start()
    return runner.addresses[before:]


async def _is_served(entry: str, address: TcpAddress | None, passed: Sequence[socket.socket]) -> bool:
    if address is None:
        return any(sock.family == socket.AF_UNIX and sock.getsockname() == entry for sock in passed)
    tcp = [sock for sock in passed if sock.family != socket.AF_UNIX]
    if not tcp:
        return False
    found = await asyncio.get_running_loop().getaddrinfo(
        address[0] or None, address[1], type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    return any(covers(sock, (str(it[4][0]), int(it[4][1]))) for it in found for sock in tcp)


def _url(bound: str | tuple[str, int], has_tls: bool) -> str:
    """Return the URL of a bound address; that of a unix socket is ``unix:`` and its path."""
    if isinstance(bound, str):
        return f"unix:{bound}"
    host = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
    return f"{'https' if has_tls else 'http'}://{host}:{bound[1]}"
