"""Talk's part of the fake Nextcloud: what people do in conversations, and the requests to the gateway that follow.

Source: reference 4.1, 4.2, 6, 11.6; the order of the requests is that of Nextcloud 32 with Talk 22. Each function
changes the conversation and returns when the gateway has answered::

    session = cloud.talk.open("r1", "alice")  # a browser opens the conversation
    ... the client joins at the gateway with this session id ...
    await cloud.talk.set_in_call("r1", session, 7)
    await cloud.talk.remove("r1", session)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from gateway.tools import talk_requests
from gateway.tools.talk_notifier import Answer, NotCarriedOut
from gateway.tools.talk_rooms import (
    ActorType,
    Attendee,
    Json,
    Permission,
    TalkRoom,
    TalkRooms,
    TalkSession,
    guest_id,
    new_session,
)


class SignalingServer(Protocol):
    """The gateway to which Talk sends requests, if one is ``attached``."""

    @property
    def attached(self) -> bool:
        """Whether there is a gateway."""

    @property
    def changes_only(self) -> bool:
        """Whether requests have no full lists."""

    async def post(self, roomid: str, request: Json) -> Answer:
        """Send a request about a room.

        Raises:
            RuntimeError: there is no gateway.
            NotCarriedOut: the gateway did not carry it out.
        """


class FakeTalk:
    """The conversations, and the actions of their members; ``clock`` returns unix time in seconds."""

    def __init__(self, clock: Callable[[], float], server: SignalingServer) -> None:
        self.rooms = TalkRooms(clock)
        self._clock = clock
        self._server = server

    # -- actions of people

    def room(self, token: str) -> TalkRoom:
        """Return a conversation, which is created if it does not exist."""
        return self.rooms.room(token)

    def open(self, token: str, userid: str = "", *, cloud_id: str = "") -> str:
        """Open a conversation in a browser, as a user, a guest or a federated user, and return the new session id."""
        session = new_session(cloud_id)
        actor = (ActorType.USERS, userid) if userid else (ActorType.GUESTS, guest_id(session))
        if cloud_id:
            actor = (ActorType.FEDERATED, cloud_id.replace("http://", ""))
        room = self.room(token)
        room.open(session, room.add(*actor, userid.title()), self._clock())
        return session

    async def invite(self, token: str, *userids: str) -> None:
        """Add users to a conversation."""
        room = self.room(token)
        for userid in userids:
            room.add(ActorType.USERS, userid, userid.title())
        await self._server.post(token, talk_requests.invite(room, userids, changes_only=self._server.changes_only))

    async def remove(self, token: str, session: str) -> None:
        """Remove the attendee of a session from a conversation: two requests, sessions first."""
        room = self.room(token)
        attendee = self._session(room, session)
        ended = [one.id for one in room.sessions.values() if one.attendee is attendee]
        for one in ended:
            room.close(one)
        room.removed.update(ended)
        if attendee in room.attendees:
            room.attendees.remove(attendee)
        only = self._server.changes_only
        if ended:
            await self._server.post(token, talk_requests.disinvite_sessions(room, ended, changes_only=only))
        userids = [attendee.userid] if attendee.userid else []
        await self._server.post(token, talk_requests.disinvite_users(room, userids, changes_only=only))

    async def end_session(self, token: str, session: str) -> None:
        """End one session: its person opened the conversation again there, or is a guest who leaves; one request."""
        room = self.room(token)
        self._session(room, session)
        room.close(session)
        await self.tell_end(room, session)

    async def tell_end(self, room: TalkRoom, session: str) -> None:
        """Send the request about a session that was closed."""
        room.removed.add(session)
        request = talk_requests.disinvite_sessions(room, [session], changes_only=self._server.changes_only)
        await self._server.post(room.token, request)

    async def change(self, token: str, **settings: object) -> None:
        """Set attributes of a conversation, such as ``name`` or ``lobby_state``."""
        room = self.room(token)
        for name, value in settings.items():
            setattr(room, name, value)
        await self._server.post(token, talk_requests.update(room, changes_only=self._server.changes_only))

    async def delete(self, token: str) -> None:
        """Delete a conversation: the gateway is told before."""
        room = self.room(token)
        await self._server.post(token, talk_requests.delete(room, changes_only=self._server.changes_only))
        self.rooms.rooms.pop(token, None)
        self.rooms.deleted.add(token)

    async def set_permissions(self, token: str, session: str, permissions: Permission) -> None:
        """Give the attendee of a session other permissions."""
        room = self.room(token)
        attendee = self._session(room, session)
        attendee.permissions = permissions
        changed = [one.id for one in room.sessions.values() if one.attendee is attendee]
        await self._server.post(
            token, talk_requests.participants(room, changed, changes_only=self._server.changes_only)
        )

    async def set_in_call(self, token: str, session: str, flags: int) -> None:
        """Enter or leave the call, or change what is sent; ``flags`` are in-call flags (reference 7)."""
        room = self.room(token)
        self._session(room, session)
        room.set_in_call(room.sessions[session], flags, self._clock())
        await self._server.post(
            token, talk_requests.incall(room, flags, [session], changes_only=self._server.changes_only)
        )

    async def end_call(self, token: str) -> None:
        """End the call for everybody."""
        room = self.room(token)
        for session in room.sessions.values():
            session.in_call = 0
        room.renew_call(self._clock())
        await self._server.post(token, talk_requests.incall_all(0))

    async def send_message(self, token: str, data: object) -> None:
        """Send a message to the members of a conversation, such as the advice to fetch new chat messages."""
        await self._server.post(token, {"type": "message", "message": {"data": data}})

    async def switch_to(self, token: str, target: str, sessions: Iterable[str]) -> None:
        """Ask sessions to join another conversation, such as a breakout room."""
        await self._server.post(token, {"type": "switchto", "switchto": {"roomid": target, "sessions": list(sessions)}})

    async def dial(self, token: str, number: str, **options: object) -> Answer:
        """Call a phone number for a conversation, and return the last answer of the gateway, also if it refuses."""
        call: Json = {"number": number} | ({"options": options} if options else {})
        try:
            return await self._server.post(token, {"type": "dialout", "dialout": call})
        except NotCarriedOut as failed:
            return failed.answer

    # -- the gateway's requests

    async def join(self, request: Json) -> tuple[TalkRoom, Attendee] | None:
        """Admit a session; a phone call enters the call, and the gateway is told before it has the answer."""
        session = self.rooms.joining(request)
        if session is None:
            return None
        room = self.room(request["roomid"])
        if "incall" in request:
            room.set_in_call(session, int(request["incall"]), self._clock())
            await self._tell_call(room, session)
        return room, session.attendee

    async def leave(self, request: Json) -> tuple[TalkRoom, Attendee] | None:
        """End a session; the gateway is told what follows from it before it has the answer."""
        found = self.rooms.leaving(request)
        if found is None:
            return None
        room, session = found
        room.close(session.id)
        if session.in_call:
            session.in_call = 0
            room.renew_call(self._clock())
            await self._tell_call(room, session)
        if session.attendee.actor_type == ActorType.GUESTS and self._server.attached:
            only = self._server.changes_only
            await self._server.post(room.token, talk_requests.disinvite_sessions(room, [session.id], changes_only=only))
        return room, session.attendee

    async def _tell_call(self, room: TalkRoom, session: TalkSession) -> None:
        if self._server.attached:
            only = self._server.changes_only
            request = talk_requests.incall(room, session.in_call, [session.id], changes_only=only)
            await self._server.post(room.token, request)

    def _session(self, room: TalkRoom, session: str) -> Attendee:
        """Return the attendee of a session.

        Raises:
            KeyError: the room has no such session.
        """
        return room.sessions[session].attendee
