"""Janus' Admin API: all its sessions and handles, whichever program created them (Janus documentation, "Admin API")."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from mcu.janus.connection.diagnosis import explain
from mcu.janus.connection.messages import (
    ADMIN_SUBPROTOCOL,
    NO_SUCH_HANDLE,
    NO_SUCH_SESSION,
    HandleInfo,
    InvalidJanusMessage,
    JanusError,
    JanusMessage,
    encode,
    error_of,
    parse,
)
from mcu.janus.settings import JanusServerSettings

NOT_FOUND = (NO_SUCH_SESSION, NO_SUCH_HANDLE)


class AdminApiUnreachable(OSError):
    """There is no connection to the Admin API; the text is the reason."""


class AdminApi:
    """A connection to the Admin API: one request at a time; the caller sets the time limit."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, secret: str) -> None:
        self._socket = socket
        self._secrets = {"admin_secret": secret} if secret else {}
        self._transactions = itertools.count(1)

    async def list_sessions(self) -> list[int]:
        """Return the ids of all sessions."""
        return (await self._request("list_sessions")).sessions

    async def list_handles(self, session: int) -> list[int]:
        """Return the handles of a session; none if the session is gone."""
        answer = await self._request_unless_gone("list_handles", session_id=session)
        return [] if answer is None else answer.handles

    async def handle_info(self, session: int, handle: int) -> HandleInfo | None:
        """Return the state of a handle; ``None``: the handle is gone."""
        answer = await self._request_unless_gone("handle_info", session_id=session, handle_id=handle)
        return None if answer is None else answer.info

    async def destroy_session(self, session: int) -> None:
        """End a session with all its handles."""
        await self._request_unless_gone("destroy_session", session_id=session)

    async def _request_unless_gone(self, janus: str, **fields: Any) -> JanusMessage | None:
        try:
            return await self._request(janus, **fields)
        except JanusError as error:
            if error.code in NOT_FOUND:
                return None
            raise

    async def _request(self, janus: str, **fields: Any) -> JanusMessage:
        transaction = str(next(self._transactions))
        await self._socket.send_str(encode(janus, transaction, self._secrets, fields))
        while True:
            frame = await self._socket.receive()
            if frame.type is not aiohttp.WSMsgType.TEXT:
                raise InvalidJanusMessage("the Admin API closed the connection")
            answer = parse(frame.data)
            if answer.transaction == transaction:
                break
        error = error_of(answer)
        if error is not None:
            raise error
        return answer


@asynccontextmanager
async def connect_admin_api(http: aiohttp.ClientSession, settings: JanusServerSettings) -> AsyncIterator[AdminApi]:
    """Connect to the Admin API of a Janus.

    Raises:
        AdminApiUnreachable: the connection fails.
    """
    try:
        socket = await http.ws_connect(settings.admin_url, protocols=[ADMIN_SUBPROTOCOL], max_msg_size=0)
    except (OSError, aiohttp.ClientError) as error:
        raise AdminApiUnreachable(await explain(http, settings.admin_url, ADMIN_SUBPROTOCOL, error)) from error
    async with socket:
        yield AdminApi(socket, settings.admin_secret)


def reason_of(error: Exception) -> str:
    """Return why a request to the Admin API failed, without an address."""
    return str(error) if isinstance(error, AdminApiUnreachable | JanusError) else type(error).__name__
