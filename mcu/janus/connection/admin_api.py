"""A look at Janus through its Admin API: sessions and handles, whoever made them (Janus documentation, "Admin API")."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from mcu.janus.connection.protocol import (
    ADMIN_SUBPROTOCOL,
    NO_SUCH_HANDLE,
    NO_SUCH_SESSION,
    HandleInfo,
    InvalidJanusMessage,
    JanusError,
    JanusMessage,
    encode,
    failure,
    parse,
)
from mcu.janus.settings import JanusServerSettings

GONE = (NO_SUCH_SESSION, NO_SUCH_HANDLE)


class AdminApi:
    """Asks one thing after another; the caller sets the time limit."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, secret: str) -> None:
        self._socket = socket
        self._secrets = {"admin_secret": secret} if secret else {}
        self._transactions = itertools.count(1)

    async def sessions(self) -> list[int]:
        """Return the sessions that there are."""
        return (await self._ask("list_sessions")).sessions

    async def handles(self, session: int) -> list[int]:
        """Return the handles of a session; none if it is gone."""
        answer = await self._find("list_handles", session_id=session)
        return [] if answer is None else answer.handles

    async def info(self, session: int, handle: int) -> HandleInfo | None:
        """Return what there is to say of a handle; ``None``: it is gone."""
        answer = await self._find("handle_info", session_id=session, handle_id=handle)
        return None if answer is None else answer.info

    async def destroy(self, session: int) -> None:
        """End a session with all its handles."""
        await self._find("destroy_session", session_id=session)

    async def _find(self, janus: str, **fields: Any) -> JanusMessage | None:
        try:
            return await self._ask(janus, **fields)
        except JanusError as error:
            if error.code in GONE:
                return None
            raise

    async def _ask(self, janus: str, **fields: Any) -> JanusMessage:
        transaction = str(next(self._transactions))
        await self._socket.send_str(encode(janus, transaction, self._secrets, fields))
        while True:
            frame = await self._socket.receive()
            if frame.type is not aiohttp.WSMsgType.TEXT:
                raise InvalidJanusMessage("the Admin API closed the connection")
            answer = parse(frame.data)
            if answer.transaction == transaction:
                break
        error = failure(answer)
        if error is not None:
            raise error
        return answer


@asynccontextmanager
async def admin(http: aiohttp.ClientSession, server: JanusServerSettings) -> AsyncIterator[AdminApi]:
    """Connect to the Admin API of a Janus.

    Raises:
        OSError, aiohttp.ClientError: it is not there.
    """
    async with http.ws_connect(server.admin_url, protocols=[ADMIN_SUBPROTOCOL], max_msg_size=0) as socket:
        yield AdminApi(socket, server.admin_secret)
