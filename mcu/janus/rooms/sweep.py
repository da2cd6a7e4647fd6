"""Removal of orphans: objects on Janus that carry this gateway's instance and that no stream uses any more.

- A **room** is owned from before its creation until its destruction is requested, and is not touched until Janus has
  answered that request (``RoomRegistry``). An unowned room with a label of this instance is destroyed as soon as it is
  empty: earlier, Janus 1.1.2 might crash. A room that this process does not know is destroyed if two consecutive
  searches find it empty; the room of a copy (``labels``) if two find it, empty or not. Rooms in another registry of
  this process are not touched.
- A **handle** of the current session that ``JanusSession`` does not know is detached, unless an attach is pending.
- Another **session** whose handles all carry this instance, and that has been silent for ``MIN_SILENCE``, is
  destroyed: an earlier process of this gateway created it. A session of this process is not, unless it is lost: one
  Janus may be configured under two addresses, and the session over the other one be waiting to be claimed.

Handles and sessions are found through the Admin API only; without it Janus ends such a session by itself. Objects of
other programs and other instances are never touched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from itertools import chain, repeat

import aiohttp

from mcu.base import McuLost
from mcu.janus.connection.admin_api import AdminApi, connect_admin_api, reason_of
from mcu.janus.connection.messages import InvalidJanusMessage, JanusError, ListedRoom
from mcu.janus.connection.session import Answer, JanusSession
from mcu.janus.labels import JanusLabel, parse_label
from mcu.janus.rooms import videoroom
from mcu.janus.rooms.registry import RoomRegistry
from mcu.janus.settings import JanusServerSettings

# Seconds before each of the first searches: Janus ends an earlier process' session within 10 to 14 s.
FIRST_PAUSES = (0.5, 1.5, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 4.0, 4.0)
PAUSE = 60.0  # seconds before each further search
CONFIRMATION_PAUSE = 2.0  # seconds at most before the search that decides about a room that this process does not know
SEARCH_TIMEOUT = 10.0  # seconds for one search
# Seconds: a running gateway sends a keepalive every 3; with janus-config/ a session can be claimed for 10.
MIN_SILENCE = 12.0
OCCUPIED_SEARCHES = 4  # searches after which an orphaned room is destroyed even if a participant is still in it


class OrphanSweep:
    """The sweep of one Janus over one connection."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        session: JanusSession,
        rooms: RoomRegistry,
        settings: Callable[[], JanusServerSettings],
        all_sessions: Collection[JanusSession],
    ) -> None:
        self._http = http
        self._session = session
        self._rooms = rooms
        self._settings = settings
        self._all_sessions = all_sessions  # of this process, on any Janus
        self.suspects: set[int] = set()  # rooms that are destroyed if the next search finds them again
        self._searches: dict[int, int] = {}  # number of searches that found an orphaned room, by room
        self._foreign_sessions: set[int] = set()
        self._warned = False  # another connection of this process to the same Janus was logged

    async def search(self) -> None:
        """Search for orphans once and request their removal.

        Raises:
            McuLost: the session is lost.
            JanusError, InvalidJanusMessage, OSError, aiohttp.ClientError: the search failed.
        """
        await self._sweep_rooms()
        settings = self._settings()
        if settings.admin_url:
            async with connect_admin_api(self._http, settings) as admin:
                await self._sweep_handles(admin)
                await self._sweep_sessions(admin)

    async def _sweep_rooms(self) -> None:
        orphans = self._rooms.orphans()
        listed = {room.room: (room, label) for room, label in await self._own_rooms()}
        for number in orphans - listed.keys():
            self._rooms.on_gone(number)
        suspects, self.suspects = self.suspects, set()
        for number, (room, label) in listed.items():
            if self._rooms.is_owned(number) or self._rooms.is_being_destroyed(number):
                continue  # Janus may process `list` before a `destroy` that was sent earlier
            if self._rooms.is_in_other_registry(number):
                self._warn_of_other_connection()
                continue
            occupied = room.num_participants > 0 and not label.remote
            if number in orphans:
                self._searches[number] = searches = self._searches.get(number, 0) + 1
                if occupied and searches < OCCUPIED_SEARCHES:
                    continue
            elif occupied:
                continue
            elif number not in suspects:
                self.suspects.add(number)
                continue
            self._session.log.info("destroying an orphaned room")
            feed = videoroom.FEEDS[label.key.stream_type] if label.remote and label.key else 0
            self._rooms.destroy(self._session, number, feed)
        self._searches = {number: searches for number, searches in self._searches.items() if number in listed}

    def _warn_of_other_connection(self) -> None:
        if not self._warned:
            self._session.log.warning(
                "this is the same Janus as another one of the configuration, or of before the last reload"
            )
        self._warned = True

    async def _own_rooms(self) -> list[tuple[ListedRoom, JanusLabel]]:
        body = videoroom.list_rooms(self._rooms.admin_key)
        answer = await self._session.request("message", handle_id=self._session.control.id, body=body)
        labelled = ((room, parse_label(room.description)) for room in answer.plugindata.data.rooms)
        return [(room, label) for room, label in labelled if label and label.instance == self._rooms.instance]

    async def _sweep_handles(self, admin: AdminApi) -> None:
        session = self._session
        listed = set(await admin.list_handles(session.id))
        if session.attaching:  # one of them may be a handle that the session does not know yet
            return
        for handle in listed - session.handles.keys() - session.detaching:
            session.log.info("detaching an orphaned handle")
            session.post("detach", handle_id=handle)

    async def _sweep_sessions(self, admin: AdminApi) -> None:
        listed = set(await admin.list_sessions())
        self._foreign_sessions &= listed
        own = {session.id for session in self._all_sessions if not session.lost} | {self._session.id}
        for number in listed - self._foreign_sessions - own:
            if await self._is_orphan(admin, number):
                self._session.log.info("destroying a session of an earlier connection of this gateway")
                await admin.destroy_session(number)

    async def _is_orphan(self, admin: AdminApi, session: int) -> bool:
        """Return whether a session is an orphan of this instance; foreign sessions are recorded."""
        handles = await admin.list_handles(session)
        for handle in handles:
            info = await admin.handle_info(session, handle)
            if info is None:
                return False
            label = parse_label(info.opaque_id)
            if label is None or label.instance != self._rooms.instance:
                self._foreign_sessions.add(session)
                return False
            if info.session_idle < MIN_SILENCE:
                return False
        return bool(handles)


async def sweep(
    http: aiohttp.ClientSession,
    session: JanusSession,
    rooms: RoomRegistry,
    settings: Callable[[], JanusServerSettings],
    abandoned: set[int],
    all_sessions: Collection[JanusSession],
) -> None:
    """Search for orphans at intervals until cancelled or the session is lost; a failure only delays their removal.

    ``abandoned``: sessions of this process that were lost while Janus was unreachable; they are destroyed first.
    ``all_sessions``: all sessions of this process, on any Janus.
    """
    orphan_sweep = OrphanSweep(http, session, rooms, settings, all_sessions)
    for pause in chain(FIRST_PAUSES, repeat(PAUSE)):
        await asyncio.sleep(min(pause, CONFIRMATION_PAUSE) if orphan_sweep.suspects else pause)
        for number in list(abandoned):
            session.post("destroy", session_id=number).add_done_callback(_discard_callback(abandoned, number))
        try:
            async with asyncio.timeout(SEARCH_TIMEOUT):
                await orphan_sweep.search()
        except McuLost:
            return  # the end of the session is logged elsewhere
        except (TimeoutError, OSError, aiohttp.ClientError, JanusError, InvalidJanusMessage) as error:
            session.log.warning("Janus could not be searched for orphans: %s", reason_of(error))


def _discard_callback(sessions: set[int], number: int) -> Callable[[Answer], None]:
    def answered(answer: Answer) -> None:
        if answer.result() is not None:  # destroyed now, or gone before
            sessions.discard(number)

    return answered


async def report_handle_states(
    http: aiohttp.ClientSession, session: JanusSession, settings: JanusServerSettings
) -> None:
    """Pass the Admin API's ``handle_info`` of each handle to its listener, after the connection was broken.

    Handles that have negotiated nothing are skipped: since Janus 1.2.2 they, too, have the flag ``alert`` of a handle
    whose PeerConnection was hung up. A failure is only logged: most missed events are detected in other ways.
    """
    try:
        async with asyncio.timeout(SEARCH_TIMEOUT), connect_admin_api(http, settings) as admin:
            for number, handle in list(session.handles.items()):
                if handle.listener is None or not handle.negotiated:
                    continue
                info = await admin.handle_info(session.id, number)
                if info is not None:
                    handle.receive_info(info)
    except (TimeoutError, OSError, aiohttp.ClientError, JanusError, InvalidJanusMessage) as error:
        session.log.warning("Janus' Admin API does not tell which events were missed: %s", reason_of(error))
