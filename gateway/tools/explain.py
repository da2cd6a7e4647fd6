"""``portunus explain ROOM``: what each publisher of a room may send, and why, asked of the running gateway.

Source: docs/operations.md. It speaks to the admin socket (``gateway.edge.operator.admin``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import msgspec

from gateway.edge.operator.admin import PublisherExplanation, RoomExplanation

TIMEOUT = 10.0  # seconds


class GatewayUnreachable(Exception):
    """The gateway cannot be asked; the text is one sentence."""


class ExplanationRefused(Exception):
    """The gateway has no answer; the text is its sentence."""


class _Refusal(msgspec.Struct, frozen=True):
    error: str


def ask(socket: Path, room: str, backend: str = "") -> RoomExplanation:
    """Ask the gateway behind a socket about a room.

    Raises:
        GatewayUnreachable: nobody answers there.
        ExplanationRefused: there is no such room, or there are several.
    """
    try:
        status, body = asyncio.run(_get(socket, {"room": room, "backend": backend}))
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise GatewayUnreachable(_why(socket, error)) from error
    try:
        if status != 200:
            raise ExplanationRefused(msgspec.json.decode(body, type=_Refusal).error)
        return msgspec.json.decode(body, type=RoomExplanation)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise GatewayUnreachable(f"{socket} is not the admin socket of this version of Portunus") from error


async def _get(socket: Path, query: dict[str, str]) -> tuple[int, bytes]:
    connector = aiohttp.UnixConnector(str(socket))
    timeout = aiohttp.ClientTimeout(TIMEOUT)
    async with (
        aiohttp.ClientSession(connector=connector, timeout=timeout) as client,
        client.get("http://portunus/explain", params=query) as response,
    ):
        return response.status, await response.read()


def _why(socket: Path, error: Exception) -> str:
    number = error.errno if isinstance(error, OSError) else None
    cause = getattr(error, "os_error", error)
    if isinstance(cause, PermissionError):
        return f"{socket} may be used by the gateway's own user only"
    if isinstance(cause, FileNotFoundError):
        return f"there is no {socket}: does the gateway run, with this path as admin.socket?"
    if isinstance(cause, ConnectionRefusedError):
        return f"no gateway listens on {socket}"
    return f"{socket} gives no answer ({number or type(error).__name__})"


def lines(room: RoomExplanation) -> Iterator[str]:
    """Write an answer for people."""
    count = len(room.publishers)
    who = "nobody publishes" if not count else "1 publisher" if count == 1 else f"{count} publishers"
    yield f"Room {room.room} of backend {room.backend}: {who}."
    for publisher in room.publishers:
        yield f"{publisher.session}… {_waiting(publisher)}{' '.join(publisher.reasons)}"


def _waiting(publisher: PublisherExplanation) -> str:
    return "" if publisher.applied else "(not told yet) "
