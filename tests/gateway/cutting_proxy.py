"""A TCP proxy that cuts connections after a number of bytes, as a network that loses a connection does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Self
from urllib.parse import urlsplit


class CuttingProxy:
    """A proxy in front of a server; ``budget`` returns the number of the server's bytes to forward on a connection.

    Further bytes of the server are received and dropped.
    """

    def __init__(self, url: str, budget: Callable[[], int]) -> None:
        self._target = urlsplit(url)
        self._budget = budget
        self._tasks: set[asyncio.Task[None]] = set()
        self.cuts = 0
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Cut all present connections."""
        for task in self._tasks:
            task.cancel()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        with contextlib.suppress(asyncio.CancelledError):  # of ``__aexit__``; asyncio would log it as an error
            await self._forward(reader, writer)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server_reader, server_writer = await asyncio.open_connection(self._target.hostname, self._target.port)
        except OSError:
            writer.transport.abort()
            return
        up = asyncio.create_task(_copy(reader, server_writer, 1 << 60))
        down = asyncio.create_task(_copy(server_reader, writer, self._budget()))
        try:
            await asyncio.wait([up, down], return_when=asyncio.FIRST_COMPLETED)
            self.cuts += down.done() and down.result()
        finally:
            for stream in (writer, server_writer):  # before the wait, which ``__aexit__`` may cancel
                stream.transport.abort()
            for task in (up, down):
                task.cancel()
            await asyncio.gather(up, down, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, budget: int) -> bool:
    """Copy bytes up to the budget; return True if it was used up."""
    try:
        while data := await reader.read(65536):
            writer.write(data[:budget])
            await writer.drain()
            budget -= len(data)
            if budget <= 0:
                return True
    except ConnectionError:
        pass
    return False
