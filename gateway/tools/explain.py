"""``portunus explain ROOM``: shows the bitrate and codecs that each publisher may send, and why.

Source: docs/operations.md. The command connects to the admin socket (``gateway.edge.operator.admin``).
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
    """The gateway cannot be reached; the text is one sentence."""


class ExplanationRefused(Exception):
    """The gateway refused the request; the text is its error."""


class _ErrorAnswer(msgspec.Struct, frozen=True):
    error: str


def ask(socket: Path, room: str, backend: str = "") -> RoomExplanation:
    """Request the explanation of a room from the gateway behind an admin socket.

    Raises:
        GatewayUnreachable: no gateway answers there.
        ExplanationRefused: no backend has such a room, or several have one.
    """
    try:
        status, body = asyncio.run(_get(socket, {"room": room, "backend": backend}))
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise GatewayUnreachable(_reason(socket, error)) from error
    try:
        if status != 200:
            raise ExplanationRefused(msgspec.json.decode(body, type=_ErrorAnswer).error)
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


def _reason(socket: Path, error: Exception) -> str:
    error_number = error.errno if isinstance(error, OSError) else None
    cause = getattr(error, "os_error", error)
    if isinstance(cause, PermissionError):
        return f"only the gateway's own user may connect to {socket}"
    if isinstance(cause, FileNotFoundError):
        return f"there is no {socket}: is the gateway running, with this path as admin.socket?"
    if isinstance(cause, ConnectionRefusedError):
        return f"no gateway listens on {socket}"
    return f"{socket} does not answer ({error_number or type(error).__name__})"


def lines(room: RoomExplanation) -> Iterator[str]:
    """Yield the lines of text that describe an explanation."""
    count = len(room.publishers)
    publishers = "no publishers" if not count else "1 publisher" if count == 1 else f"{count} publishers"
    yield f"Room {room.room} of backend {room.backend}: {publishers}."
    for publisher in room.publishers:
        yield f"{publisher.session}… {_not_applied(publisher)}{' '.join(publisher.reasons)}"


def _not_applied(publisher: PublisherExplanation) -> str:
    return "" if publisher.applied else "(not applied yet) "
