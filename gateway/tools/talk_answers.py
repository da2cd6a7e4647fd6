"""Talk's answers to the gateway's requests, for the fakes of Nextcloud.

Source: reference 3.2, 4.1, 4.2, 4.5; signaling API, Backend requests; the forms are those of Nextcloud 32 with Talk 22.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.tools.fake_talk import FakeTalk
from gateway.tools.talk_rooms import Attendee, Json, TalkRoom


@dataclass(slots=True)
class NextcloudRoom:
    """What is unusual about the answers to joins of a room; the defaults leave them as Talk's.

    ``error`` (an error object) refuses joins, and leaves if ``refuses_leaves``.
    """

    properties: Any = None
    permissions: list[str] | None = None
    session: Json | None = None  # {"userid": …} names a guest
    error: Json | None = None
    refuses_leaves: bool = False
    without_permissions: bool = False  # as very old versions of Talk answer: everything is permitted


class TalkAnswers:
    """Answers requests from the conversations of ``talk``.

    ``unusual`` has the rooms that answer otherwise, by their id; ``others`` is about the rest. ``tickets`` has the user
    id of each valid ticket, empty for a guest.
    """

    def __init__(
        self,
        talk: FakeTalk,
        unusual: Mapping[str, NextcloudRoom],
        tickets: Mapping[str, str],
        others: NextcloudRoom | None = None,
    ) -> None:
        self._talk = talk
        self._unusual = unusual
        self._tickets = tickets
        self._others = others or NextcloudRoom()

    async def reply(self, kind: str, body: Json) -> Json:
        """Return the answer to a request of a type, after the requests to the gateway that it causes."""
        match kind:
            case "auth":
                return self._auth(body.get("params"))
            case "ping":
                self._talk.rooms.pinged(body.get("entries", ()))
                return {"type": "room", "room": {"version": "1.0"}}
            case "room" if body.get("action") == "leave":
                return await self._leave(body)
            case "room":
                return await self._join(body)
        return error("unknown_type", f"The given type {json.dumps({'type': kind})} is not supported.")

    def _auth(self, params: Any) -> Json:
        params = params if isinstance(params, dict) else {}
        userid = params.get("userid") or ""
        if params.get("ticket") not in self._tickets or self._tickets[params["ticket"]] != userid:
            return error("invalid_ticket", "The given ticket is not valid for this user.")
        answer: Json = {"version": "1.0"}
        if userid:
            answer |= {"userid": userid, "user": {"displayname": userid.title()}}
        return {"type": "auth", "auth": answer}

    async def _join(self, request: Json) -> Json:
        unusual = self._unusual.get(request["roomid"], self._others)
        if unusual.error is not None:
            return {"type": "error", "error": unusual.error}
        if unusual is not self._others:
            self._talk.room(request["roomid"])  # it exists
        joined = await self._talk.join(request)
        return _no_such_room() if joined is None else self._room(request, *joined)

    async def _leave(self, request: Json) -> Json:
        unusual = self._unusual.get(request["roomid"], self._others)
        if unusual.error is not None and unusual.refuses_leaves:
            return {"type": "error", "error": unusual.error}
        left = await self._talk.leave(request)
        return _no_such_room() if left is None else self._room(request, *left)

    def _room(self, request: Json, room: TalkRoom, attendee: Attendee) -> Json:
        unusual = self._unusual.get(room.token, self._others)
        properties = room.properties(request.get("userid") or "")
        answer = {
            "version": "1.0",
            "roomid": room.token,
            "properties": properties if unusual.properties is None else unusual.properties,
        }
        if not unusual.without_permissions:
            answer["permissions"] = attendee.granted if unusual.permissions is None else unusual.permissions
        if unusual.session is not None:
            answer["session"] = unusual.session
        return {"type": "room", "room": answer}


def error(code: str, message: str) -> Json:
    """Return an answer of type ``error``."""
    return {"type": "error", "error": {"code": code, "message": message}}


def _no_such_room() -> Json:
    return error("no_such_room", "The user is not invited to this room.")
