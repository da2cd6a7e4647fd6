"""Clears away what carries our instance on Janus and belongs to nobody; what others made is not touched.

- A **room** belongs to somebody from before it is asked for until it is destroyed (``RoomRegistry``). One of ours
  that does not is destroyed as soon as nobody is in it: before, Janus 1.1.2 might crash. One of which this process
  knows nothing has to be empty at two looks in a row; a copy (``labels``) has to be there at two. One of another
  connection of this process to the same Janus is that one's to destroy.
- A **handle** of our session that we do not know and do not wait for is detached.
- A **session** all of whose handles are ours, that is not this one and has been silent for longer than it can be
  claimed, is destroyed: an earlier process of this gateway made it.

Handles and sessions are seen through the Admin API only; without it Janus ends such a session by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import chain, repeat

import aiohttp

from mcu.base import McuLost
from mcu.janus.connection.admin_api import AdminApi, admin
from mcu.janus.connection.protocol import InvalidJanusMessage, JanusError, JanusMessage, ListedRoom
from mcu.janus.connection.session import JanusSession
from mcu.janus.labels import JanusLabel, read
from mcu.janus.rooms.videoroom import FEEDS, RoomRegistry
from mcu.janus.settings import JanusServerSettings

# Seconds before each of the first looks: Janus lets go of what an earlier process left within 10 to 14 s of its end.
FIRST = (0.5, 1.5, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 4.0, 4.0)
EVERY = 60.0  # seconds before each further look
AGAIN = 2.0  # seconds at most before the one that decides about a room of which this process knows nothing
PATIENCE = 10.0  # seconds for one look
SILENT = 12.0  # seconds: a gateway that lives asks something every 3, and what is silent for 10 can be claimed no more
STUBBORN = 4  # looks after which a room of ours goes even if somebody is still in it


class OrphanSweep:
    """Looks for what is left, over one connection to Janus."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        session: JanusSession,
        rooms: RoomRegistry,
        server: Callable[[], JanusServerSettings],
    ) -> None:
        self._http = http
        self._session = session
        self._rooms = rooms
        self._server = server
        self.suspects: set[int] = set()  # rooms that go if they are there at the next look, too
        self._looks: dict[int, int] = {}  # at which a room that was left was seen with somebody in it
        self._foreign: set[int] = set()  # sessions of others
        self._twice = False  # whether this gateway has another connection to this Janus, and the log says so

    async def look(self) -> None:
        """Look once and ask Janus to let go what is left.

        Raises:
            McuLost: the session is lost.
            JanusError, ProtocolError, OSError, aiohttp.ClientError: the look failed.
        """
        await self._look_at_rooms()
        if self._server().admin_url:
            async with admin(self._http, self._server()) as asking:
                await self._look_at_handles(asking)
                await self._look_at_sessions(asking)

    async def _look_at_rooms(self) -> None:
        left = self._rooms.left()
        listed = {room.room: (room, label) for room, label in await self._own_rooms()}
        for number in left - listed.keys():
            self._rooms.gone(number)
        before, self.suspects = self.suspects, set()
        for number, (room, label) in listed.items():
            if self._rooms.owned(number):
                continue
            if self._rooms.of_another(number):
                self._is_twice_here()
                continue
            if number in left:
                self._looks[number] = looks = self._looks.get(number, 0) + 1
                if room.num_participants and not label.remote and looks < STUBBORN:
                    continue
            elif room.num_participants and not label.remote:
                continue
            elif number not in before:
                self.suspects.add(number)
                continue
            self._session.log.info("destroying a room that belongs to nobody")
            self._rooms.destroy(
                self._session, number, FEEDS[label.key.stream_type] if label.remote and label.key else 0
            )
        self._looks = {number: looks for number, looks in self._looks.items() if number in listed}

    def _is_twice_here(self) -> None:
        if not self._twice:
            self._session.log.warning(
                "this is the same Janus as another one of the configuration, or of before the last reload"
            )
        self._twice = True

    async def _own_rooms(self) -> list[tuple[ListedRoom, JanusLabel]]:
        key = self._rooms.admin_key
        body = {"request": "list"} | ({"admin_key": key} if key else {})
        answer = await self._session.request("message", handle_id=self._session.control.id, body=body)
        read_ = ((room, read(room.description)) for room in answer.plugindata.data.rooms)
        return [(room, label) for room, label in read_ if label is not None and label.instance == self._rooms.instance]

    async def _look_at_handles(self, asking: AdminApi) -> None:
        session = self._session
        listed = set(await asking.handles(session.id))
        if session.attaching:  # one of them may be ours in a moment
            return
        for handle in listed - session.handles.keys() - session.leaving:
            self._session.log.info("detaching a handle that belongs to nobody")
            session.post("detach", handle_id=handle)

    async def _look_at_sessions(self, asking: AdminApi) -> None:
        listed = set(await asking.sessions())
        self._foreign &= listed
        for number in listed - self._foreign - {self._session.id}:
            if await self._is_left(asking, number):
                self._session.log.info("destroying a session of an earlier connection of this gateway")
                await asking.destroy(number)

    async def _is_left(self, asking: AdminApi, number: int) -> bool:
        """Tell whether a session is ours and nobody's any more; one of others is remembered as such."""
        handles = await asking.handles(number)
        for handle in handles:
            info = await asking.info(number, handle)
            if info is None:
                return False
            label = read(info.opaque_id)
            if label is None or label.instance != self._rooms.instance:
                self._foreign.add(number)
                return False
            if info.idle < SILENT:
                return False
        return bool(handles)


async def sweep(
    http: aiohttp.ClientSession,
    session: JanusSession,
    rooms: RoomRegistry,
    server: Callable[[], JanusServerSettings],
    old: set[int],
) -> None:
    """Look again and again until cancelled or the session is lost; what fails is tried again at the next look.

    ``old``: sessions of our own that were given up without a word to Janus; they are destroyed first.
    """
    sweeper = OrphanSweep(http, session, rooms, server)
    for wait in chain(FIRST, repeat(EVERY)):
        await asyncio.sleep(min(wait, AGAIN) if sweeper.suspects else wait)
        for number in list(old):
            session.post("destroy", session_id=number).add_done_callback(_forget(old, number))
        try:
            async with asyncio.timeout(PATIENCE):
                await sweeper.look()
        except McuLost:
            return  # whoever ended the session says why
        except (TimeoutError, OSError, aiohttp.ClientError, JanusError, InvalidJanusMessage) as error:
            session.log.warning(
                "Janus could not be looked through for what belongs to nobody: %s", type(error).__name__
            )


def _forget(old: set[int], number: int) -> Callable[[asyncio.Future[JanusMessage | None]], None]:
    def answered(reply: asyncio.Future[JanusMessage | None]) -> None:
        if reply.result() is not None:  # whatever it says: such a session is not there any more
            old.discard(number)

    return answered


async def tell_owners(http: aiohttp.ClientSession, session: JanusSession, server: JanusServerSettings) -> None:
    """Tell the owners of all handles what the Admin API says of them, after the connection was away.

    What fails is logged: much of it comes to light without.
    """
    try:
        async with asyncio.timeout(PATIENCE), admin(http, server) as asking:
            for number, handle in list(session.handles.items()):
                if handle.owner is None:
                    continue
                info = await asking.info(session.id, number)
                if info is not None:
                    handle.told(info)
    except (TimeoutError, OSError, aiohttp.ClientError, JanusError, InvalidJanusMessage) as error:
        session.log.warning("Janus' Admin API does not tell what was missed: %s", type(error).__name__)
