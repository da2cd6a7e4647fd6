"""Requests to the admin socket of a running gateway (``gateway.edge.operator.admin_socket``)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TypeVar

import aiohttp
import msgspec

TIMEOUT = 10.0  # seconds for one request

_T = TypeVar("_T")


class GatewayUnreachable(Exception):
    """No gateway of this version answers; the text is one sentence."""


class CommandRefused(Exception):
    """The gateway refused the request; the text is its error."""


class _ErrorAnswer(msgspec.Struct, frozen=True):
    error: str


def request(socket: Path, method: str, path: str, query: dict[str, str], type: type[_T]) -> _T:
    """Send a request to the gateway behind an admin socket, and return its decoded answer.

    Raises:
        GatewayUnreachable: no gateway of this version answers on the socket.
        CommandRefused: the gateway answers with an error.
    """
    try:
        status, body = asyncio.run(_send(socket, method, path, query))
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise GatewayUnreachable(_unreachable_reason(socket, error)) from error
    try:
        if status != 200:
            raise CommandRefused(msgspec.json.decode(body, type=_ErrorAnswer).error)
        return msgspec.json.decode(body, type=type)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise GatewayUnreachable(f"{socket} is not the admin socket of this version of Portunus") from error


async def _send(socket: Path, method: str, path: str, query: dict[str, str]) -> tuple[int, bytes]:
    connector = aiohttp.UnixConnector(str(socket))
    timeout = aiohttp.ClientTimeout(TIMEOUT)
    async with (
        aiohttp.ClientSession(connector=connector, timeout=timeout) as client,
        client.request(method, f"http://portunus{path}", params=query) as response,
    ):
        return response.status, await response.read()


def _unreachable_reason(socket: Path, error: Exception) -> str:
    error_number = error.errno if isinstance(error, OSError) else None
    cause = getattr(error, "os_error", error)
    if isinstance(cause, PermissionError):
        return f"only the gateway's own user may connect to {socket}"
    if isinstance(cause, FileNotFoundError):
        return f"there is no {socket}: is the gateway running, with this path as admin.socket?"
    if isinstance(cause, ConnectionRefusedError):
        return f"no gateway listens on {socket}"
    return f"{socket} does not answer ({error_number or type(error).__name__})"
