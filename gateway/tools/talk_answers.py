"""Talk's answers to the gateway's requests, for the fakes of Nextcloud.

Source: reference 3.2, 4.1, 4.2, 4.5; signaling API, Backend requests; the answers look as in Nextcloud 32 with Talk 22.
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
    """Replacements for parts of Talk's answers to joins and leaves of one room; ``None``: as Talk answers."""

    properties: Any = None  # an object, or anything else as a malformed answer
    permissions: list[str] | None = None
    session: Json | None = None  # the object ``session``; its ``userid`` names a guest
    error: Json | None = None  # {"code", "message"}, with which joins are refused
    refuses_leaves: bool = False  # whether ``error`` refuses leaves, too
    without_permissions: bool = False  # as very old versions of Talk answer: everything is permitted


_NO_REPLACEMENTS = NextcloudRoom()


class TalkAnswers:
    """Answers requests from the conversations of ``talk``.

    ``replacements`` maps room ids to replacements; ``default`` are those for all other rooms. ``tickets`` maps each
    valid ticket to its user id, which is empty for a guest.
    """

    def __init__(
        self,
        talk: FakeTalk,
        replacements: Mapping[str, NextcloudRoom],
        tickets: Mapping[str, str],
        default: NextcloudRoom = _NO_REPLACEMENTS,
    ) -> None:
        self._talk = talk
        self._replacements = replacements
        self._tickets = tickets
        self._default = default

    async def reply(self, type: str, body: Json) -> Json:
        """Return the answer to a request; ``body`` is the request's member that ``type`` names.

        If requests to the gateway follow from a join or leave, they are sent and answered first.

        Raises:
            NotCarriedOut, UpdateRequired, aiohttp.ClientError, TimeoutError: a request to the gateway failed.
        """
        match type:
            case "auth":
                return self._auth(body.get("params"))
            case "ping":
                self._talk.rooms.note_ping(body.get("entries", ()))
                return {"type": "room", "room": {"version": "1.0"}}
            case "room" if body.get("action") == "leave":
                return await self._leave(body)
            case "room":
                return await self._join(body)
        return error("unknown_type", f"The given type {json.dumps({'type': type})} is not supported.")

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
        replacement = self._replacements.get(request["roomid"], self._default)
        if replacement.error is not None:
            return {"type": "error", "error": replacement.error}
        if request["roomid"] in self._replacements:
            self._talk.room(request["roomid"])  # a room with replacements exists
        joined = await self._talk.join(request)
        return _no_such_room() if joined is None else self._room_answer(request, *joined)

    async def _leave(self, request: Json) -> Json:
        replacement = self._replacements.get(request["roomid"], self._default)
        if replacement.error is not None and replacement.refuses_leaves:
            return {"type": "error", "error": replacement.error}
        left = await self._talk.leave(request)
        return _no_such_room() if left is None else self._room_answer(request, *left)

    def _room_answer(self, request: Json, room: TalkRoom, attendee: Attendee) -> Json:
        replacement = self._replacements.get(room.token, self._default)
        properties = room.properties(request.get("userid") or "")
        answer = {
            "version": "1.0",
            "roomid": room.token,
            "properties": properties if replacement.properties is None else replacement.properties,
        }
        if not replacement.without_permissions:
            answer["permissions"] = (
                attendee.granted_permissions if replacement.permissions is None else replacement.permissions
            )
        if replacement.session is not None:
            answer["session"] = replacement.session
        return {"type": "room", "room": answer}


def error(code: str, message: str) -> Json:
    """Return an answer of type ``error``."""
    return {"type": "error", "error": {"code": code, "message": message}}


def _no_such_room() -> Json:
    return error("no_such_room", "The user is not invited to this room.")
