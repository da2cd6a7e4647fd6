"""Clears away what is ours and nobody owns on Janus: rooms of lost sessions and earlier processes, unknown handles.

A room of ours always has its publisher inside, but for the moment between creation and entry. So one that is empty at
two looks in a row has lost its gateway. A handle of our own session that we do not know at two looks is detached; to
see these takes the Admin API.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import aiohttp

from mcu.base import McuLost
from mcu.janus.labels import read
from mcu.janus.protocol import ADMIN_SUBPROTOCOL, JanusError, ProtocolError, encode, failure, parse
from mcu.janus.session import Session
from mcu.janus.settings import JanusServer
from mcu.janus.videoroom import Rooms

log = logging.getLogger("portunus.mcu.janus")

SETTLED = 2.0  # seconds until Janus has let go of the handles of a lost session, whose rooms must not go before
EVERY = 60.0  # seconds between two looks
PATIENCE = 10.0  # seconds for one look


async def sweep(http: aiohttp.ClientSession, session: Session, rooms: Rooms, server: Callable[[], JanusServer]) -> None:
    """Look again and again until cancelled or the session is lost; what fails is tried again at the next look."""
    lost = rooms.all()
    await asyncio.sleep(SETTLED)
    for number in lost:
        rooms.destroy(session, number)
    empty: set[int] = set()
    unknown: set[int] = set()
    while True:
        try:
            async with asyncio.timeout(PATIENCE):
                before, empty = empty, await empty_rooms(session, server().admin_key, rooms.instance)
                for number in before & empty:
                    log.info("destroying a room that nobody is in")
                    rooms.destroy(session, number)
                if server().admin_url:
                    earlier, unknown = unknown, await unknown_handles(http, session, server())
                    for handle in earlier & unknown:
                        log.info("detaching a handle that nobody owns")
                        session.tell("detach", handle_id=handle)
        except McuLost:
            return  # whoever ended the session says why
        except (TimeoutError, OSError, aiohttp.ClientError, JanusError, ProtocolError) as error:
            log.warning("Janus could not be looked through for what nobody owns: %s", type(error).__name__)
        await asyncio.sleep(EVERY)


async def empty_rooms(session: Session, admin_key: str, instance: str) -> set[int]:
    """Return the rooms of this gateway in which nobody is; those of other gateways and programs do not count."""
    body = {"request": "list"} | ({"admin_key": admin_key} if admin_key else {})
    answer = await session.request("message", handle_id=session.control.id, body=body)
    listed = answer.plugindata.data.rooms
    ours = (room for room in listed if (found := read(room.description)) is not None and found.instance == instance)
    return {room.room for room in ours if not room.num_participants}


async def unknown_handles(http: aiohttp.ClientSession, session: Session, server: JanusServer) -> set[int]:
    """Ask the Admin API for the handles of our session, and return those that are not ours to know."""
    async with http.ws_connect(server.admin_url, protocols=[ADMIN_SUBPROTOCOL]) as socket:
        secrets = {"admin_secret": server.admin_secret} if server.admin_secret else {}
        await socket.send_str(encode("list_handles", "1", secrets, {"session_id": session.id}))
        frame = await socket.receive()
    if frame.type is not aiohttp.WSMsgType.TEXT:
        raise ProtocolError("the Admin API closed the connection")
    answer = parse(frame.data)
    error = failure(answer)
    if error is not None:
        raise error
    return set(answer.handles) - session.handles.keys()
