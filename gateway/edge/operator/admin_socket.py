"""The admin socket: JSON over HTTP on a unix socket that only the gateway's own user may connect to.

Source: docs/operations.md, "Configuration" (``[admin] socket``). It serves the requests of ``explain_api``,
``drain_api``, ``timeline_api`` and ``snapshot``.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from aiohttp import web

from gateway.edge.http import unix_socket


class AdminSocket:
    """Serves the operator's requests on the admin socket."""

    def __init__(self, routes: Iterable[web.RouteDef]) -> None:
        self._routes = tuple(routes)
        self._path: Path | None = None
        self._runner: web.AppRunner | None = None

    async def start(self, path: str) -> None:
        """Listen on a unix socket; do nothing if the path is empty.

        Raises:
            OSError: the socket cannot be opened.
        """
        if not path:
            return
        app = web.Application()
        app.router.add_routes(self._routes)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        listening = unix_socket.listen(Path(path))
        self._path = Path(path)
        await web.SockSite(self._runner, listening).start()

    async def stop(self) -> None:
        """Stop listening. Idempotent."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()
        path, self._path = self._path, None
        if path is not None:
            path.unlink(missing_ok=True)
