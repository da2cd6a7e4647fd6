"""Listen on the addresses of ``http.listen``: TCP or unix sockets, with TLS or without."""

from __future__ import annotations

import os
from pathlib import Path
from ssl import SSLContext

from aiohttp import web

from gateway.edge.http import unix_socket
from gateway.edge.http.runner import TcpSite

TcpAddress = tuple[str, int]  # host and port; an empty host stands for all interfaces


async def listen(runner: web.AppRunner, entry: str, address: TcpAddress | None, tls: SSLContext | None) -> list[str]:
    """Listen on one entry of ``http.listen``, and return the addresses as URLs; without ``address`` it is a path.

    Raises:
        OSError: the address is in use or not one of this machine; the ``filename`` is the entry.
    """
    try:
        if address is None:
            unix_socket.remove_stale(Path(entry))
            await web.UnixSite(runner, entry, ssl_context=tls).start()
            return [f"unix:{entry}"]
        before = len(runner.addresses)
        await TcpSite(runner, address[0] or None, address[1], ssl_context=tls).start()
        return [_url(bound, tls is not None) for bound in runner.addresses[before:]]
    except OSError as error:
        detailed = error.strerror if error.strerror and entry in error.strerror else ""
        text = detailed or (os.strerror(error.errno) if error.errno else str(error))
        raise OSError(error.errno, text, entry) from error


def _url(bound: TcpAddress, has_tls: bool) -> str:
    host = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
    return f"{'https' if has_tls else 'http'}://{host}:{bound[1]}"
