"""The timeline on the admin socket: ``GET /timeline?of=ROOM_OR_SESSION&backend=B`` answers with its events in order.

Source: docs/operations.md, "The timeline". ``of`` is the id of a room (a Talk token) or its short id, or the id of a
session or its short id; ``backend`` is needed if several backends have had such a room. The answer has short ids only,
so that it can be passed on. Errors are ``{"error": …}``, one sentence.
"""

from __future__ import annotations

import msgspec
from aiohttp import web

from gateway.core.room import RoomKey
from gateway.edge.http.json_answer import answer, refusal
from gateway.flows.call_log import SHORT
from gateway.flows.call_recorder import CallEvent
from gateway.flows.services import Services


class Timeline(msgspec.Struct, frozen=True):
    """The recorded events of a room or a session, oldest first."""

    version: str  # of Portunus
    room: str  # short id; empty: the timeline of a session
    session: str  # short id; empty: the timeline of a room
    recorded_since: float  # unix time of the oldest event of any room that is still recorded
    dropped: int  # events of any room that are recorded no longer
    events: list[CallEvent]


class TimelineApi:
    """Serves the timelines that the gateway's recorder holds; ``version`` is that of Portunus."""

    def __init__(self, services: Services, version: str) -> None:
        self._calls = services.calls
        self._version = version

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [web.get("/timeline", self._timeline, allow_head=False)]

    async def _timeline(self, request: web.Request) -> web.Response:
        subject, backend = request.query.get("of", ""), request.query.get("backend", "")
        if not subject:
            return refusal(400, "the parameter of is missing")
        recorder = self._calls.recorder
        events = list(recorder)
        rooms = {event.room: event.backend for event in events if event.room and backend in ("", event.backend)}
        found = [id for id, owner in rooms.items() if id in (subject, self._calls.room_id(RoomKey(owner, subject)))]
        if len(found) > 1:
            names = ", ".join(sorted(rooms[room] for room in found))
            return refusal(409, f"several backends have had such a room: choose one of {names}")
        room, session = (found[0], "") if found else ("", self._session(subject))
        chosen = recorder.of_room(room) if room else recorder.of_session(session)
        if not chosen:
            return refusal(404, "no event of such a room or session is recorded")
        return answer(200, Timeline(self._version, room, session, events[0].at, recorder.dropped, chosen))

    def _session(self, subject: str) -> str:
        """Return the short id of the session whose id or short id is ``subject``."""
        return subject if len(subject) == SHORT else self._calls.short(subject)
