"""Rooms whose destruction Janus answers late, or never."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from mcu.base import PublishOptions, SfuState
from mcu.janus.backend import JanusMcu
from mcu.janus.connection.messages import PLUGIN
from mcu.janus.connection.session import JanusSession
from mcu.janus.rooms.registry import RoomRegistry
from mcu.janus.rooms.sweep import OrphanSweep
from mcu.janus.settings import JanusServerSettings
from tests.mcu.janus.conftest import CAMERA, INSTANCE, WAIT, RecordedStates
from tests.mcu.janus.fake_janus import FakeJanus

OWN_LABEL = f"portunus|{INSTANCE}|cloud|anna|video"  # the label of CAMERA


class SweptRooms:
    """A session with a Janus, its rooms, and the sweep that searches for orphans only when the test says so."""

    def __init__(self, fake: FakeJanus, session: JanusSession, http: aiohttp.ClientSession) -> None:
        self.fake, self.session = fake, session
        self.registry = RoomRegistry("", INSTANCE, set())
        settings = JanusServerSettings(fake.url)
        self.sweep = OrphanSweep(http, session, self.registry, lambda: settings, ())

    async def create(self) -> int:
        """Create a room, which Janus lists from now on."""
        room = await self.registry.create(self.session, CAMERA, PublishOptions())
        self.fake.answers["list"] = success(list=[{"room": room, "description": OWN_LABEL, "num_participants": 0}])
        return room

    async def answer(self, request: dict[str, Any], answer: dict[str, Any]) -> None:
        """Have Janus answer an earlier request now."""
        await self.fake.send(json.dumps({**answer, "transaction": request["transaction"]}))


def success(**data: object) -> dict[str, Any]:
    """Return VideoRoom's answer to a request."""
    return {"janus": "success", "plugindata": {"plugin": PLUGIN, "data": {"videoroom": "success", **data}}}


@asynccontextmanager
async def swept_rooms(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SweptRooms]:
    monkeypatch.setattr("mcu.janus.rooms.sweep.FIRST_PAUSES", (3600.0,))  # the backend's own sweep
    states = RecordedStates()
    async with FakeJanus() as fake, aiohttp.ClientSession() as http:
        mcu = JanusMcu((JanusServerSettings(fake.url),), timeout=WAIT)
        await mcu.start(states)
        await states.until(lambda status: status.ready)
        fake.requests.clear()  # of the trial before Janus counts as usable
        yield SweptRooms(fake, await mcu.session(), http)
        await mcu.stop()


async def test_a_room_that_is_being_destroyed_is_not_taken_for_an_orphan(monkeypatch: pytest.MonkeyPatch) -> None:
    async with swept_rooms(monkeypatch) as rooms:
        room = await rooms.create()
        rooms.fake.answers["destroy"] = None
        destroyed = rooms.registry.destroy(rooms.session, room)
        request = await rooms.fake.until("destroy")
        del rooms.fake.answers["destroy"]  # also that of the session
        for _ in range(3):
            await rooms.sweep.search()
        assert rooms.registry.rooms() == [room]
        await rooms.answer(request, success())
        await destroyed
        assert rooms.registry.rooms() == []
        assert len(rooms.fake.received("destroy")) == 1


async def test_a_list_that_is_older_than_the_end_of_a_room_does_not_make_it_an_orphan(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with swept_rooms(monkeypatch) as rooms:
        room = await rooms.create()
        old, rooms.fake.answers["list"] = rooms.fake.answers["list"], None
        assert old is not None
        searching = asyncio.create_task(rooms.sweep.search())
        request = await rooms.fake.until("list")
        await rooms.registry.destroy(rooms.session, room)
        await rooms.answer(request, old)
        await searching
        rooms.fake.answers["list"] = success(list=[])
        await rooms.sweep.search()
        assert rooms.registry.rooms() == []
        assert len(rooms.fake.received("destroy")) == 1


async def test_a_room_whose_destruction_janus_never_answered_is_an_orphan(monkeypatch: pytest.MonkeyPatch) -> None:
    async with swept_rooms(monkeypatch) as rooms:
        room = await rooms.create()
        rooms.fake.answers["destroy"] = None
        destroyed = rooms.registry.destroy(rooms.session, room)
        await rooms.fake.until("destroy")
        del rooms.fake.answers["destroy"]  # also that of the session
        assert rooms.registry.orphans() == set()
        rooms.session.lose()
        await destroyed
        await asyncio.sleep(0)  # the registry's callback runs in the next loop iteration
        assert rooms.registry.orphans() == {room}


async def test_session_over_another_address_of_the_same_janus_is_spared_and_an_earlier_process_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mcu.janus.rooms.sweep.FIRST_PAUSES", (0.0,))
    monkeypatch.setattr("mcu.janus.rooms.sweep.PAUSE", 0.05)
    states, earlier = RecordedStates(), 999
    async with FakeJanus() as fake:
        urls = fake.url, fake.url.replace("127.0.0.1", "localhost")
        fake.answers["list_sessions"] = {"janus": "success", "sessions": []}
        fake.answers["list_handles"] = {"janus": "success", "handles": [5]}
        silent = {"opaque_id": f"portunus|{INSTANCE}", "session_last_activity": 0, "current_time": 60_000_000}
        fake.answers["handle_info"] = {"janus": "success", "info": silent}
        settings = tuple(JanusServerSettings(url, admin_url=fake.url) for url in urls)
        mcu = JanusMcu(settings, timeout=WAIT, instance=INSTANCE)
        await mcu.start(states)
        await states.until(lambda status: all(sfu.state is SfuState.READY for sfu in status.sfus))
        sessions = [(await mcu.session(url)).id for url in urls]
        fake.answers["list_sessions"] = {"janus": "success", "sessions": [*sessions, earlier]}
        await fake.until("destroy_session", 4)
        assert {request["session_id"] for request in fake.received("destroy_session")} == {earlier}
        await mcu.stop()
