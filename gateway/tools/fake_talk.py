"""Talk's part of the fake Nextcloud: actions of members in conversations, and the requests to the gateway that follow.

Source: reference 4.1, 4.2, 6, 11.6; the order of the requests is that of Nextcloud 32 with Talk 22. An action
changes the conversation, sends the requests, and returns when the gateway has answered::

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


class RequestSender(Protocol):
    """Sends Talk's requests to the gateway."""

    @property
    def attached(self) -> bool:
        """Whether there is a gateway to which requests can be sent."""

    @property
    def changes_only(self) -> bool:
        """Whether requests contain no full lists (``talk_requests``)."""

    async def post(self, roomid: str, request: Json) -> Answer:
        """Send a request about a room.

        Raises:
            RuntimeError: there is no gateway.
            NotCarriedOut, UpdateRequired, aiohttp.ClientError, TimeoutError: see ``TalkNotifier.post``.
        """


class FakeTalk:
    """The conversations, and the actions of their members; ``clock`` returns unix time in seconds.

    Actions raise the errors of ``RequestSender.post``, and ``KeyError`` if the conversation has no such session.
    """

    def __init__(self, clock: Callable[[], float], sender: RequestSender) -> None:
        self.rooms = TalkRooms(clock)
        self._clock = clock
        self._sender = sender

    # -- actions of members

    def room(self, token: str) -> TalkRoom:
        """Return a conversation; it is created if it does not exist."""
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
        await self._sender.post(token, talk_requests.invite(room, userids, changes_only=self._sender.changes_only))

    async def remove(self, token: str, session: str) -> None:
        """Remove the attendee of a session: send a request about all sessions, then one about the membership."""
        room = self.room(token)
        attendee = room.sessions[session].attendee
        ended = _session_ids(room, attendee)
        for id in ended:
            room.close(id)
        room.removed.update(ended)
        if attendee in room.attendees:  # ``close`` has removed a guest already
            room.attendees.remove(attendee)
        changes_only = self._sender.changes_only
        await self._sender.post(token, talk_requests.disinvite_sessions(room, ended, changes_only=changes_only))
        userids = [attendee.userid] if attendee.userid else []
        await self._sender.post(token, talk_requests.disinvite_users(room, userids, changes_only=changes_only))

    async def end_session(self, token: str, session: str) -> None:
        """End one session, as when its browser opens the conversation again or a guest leaves; send one request."""
        room = self.room(token)
        room.close(session)
        await self.report_end(room, session)

    async def report_end(self, room: TalkRoom, session: str) -> None:
        """Send the request about a session that was closed, and refuse later joins with its id."""
        room.removed.add(session)
        request = talk_requests.disinvite_sessions(room, [session], changes_only=self._sender.changes_only)
        await self._sender.post(room.token, request)

    async def change(self, token: str, **settings: object) -> None:
        """Set attributes of a conversation, such as ``name`` or ``lobby_state``."""
        room = self.room(token)
        for name, value in settings.items():
            setattr(room, name, value)
        await self._sender.post(token, talk_requests.update(room, changes_only=self._sender.changes_only))

    async def delete(self, token: str) -> None:
        """Send the request about the deletion of a conversation, then delete it."""
        room = self.room(token)
        await self._sender.post(token, talk_requests.delete(room, changes_only=self._sender.changes_only))
        self.rooms.rooms.pop(token, None)
        self.rooms.deleted.add(token)

    async def set_permissions(self, token: str, session: str, permissions: Permission) -> None:
        """Set the permissions of the attendee of a session."""
        room = self.room(token)
        await self._change_permissions(room, room.sessions[session].attendee, permissions)

    async def set_permissions_of_user(self, token: str, userid: str, permissions: Permission) -> None:
        """Set the permissions of a user, who becomes a member if need be; ``changed`` is empty without a session."""
        room = self.room(token)
        await self._change_permissions(room, room.add(ActorType.USERS, userid, userid.title()), permissions)

    async def set_in_call(self, token: str, session: str, flags: int) -> None:
        """Set the in-call flags of a session (reference 7), as when it enters or leaves the call."""
        room = self.room(token)
        room.set_in_call(room.sessions[session], flags, self._clock())
        await self._sender.post(
            token, talk_requests.incall(room, flags, [session], changes_only=self._sender.changes_only)
        )

    async def end_call(self, token: str) -> None:
        """End the call for everybody."""
        room = self.room(token)
        for session in room.sessions.values():
            session.in_call = 0
        room.update_call(self._clock())
        await self._sender.post(token, talk_requests.incall_all(0))

    async def send_message(self, token: str, data: object) -> None:
        """Send a message to the members of a conversation, such as a chat refresh."""
        await self._sender.post(token, {"type": "message", "message": {"data": data}})

    async def switch_to(self, token: str, target: str, sessions: Iterable[str]) -> None:
        """Ask sessions to join another conversation, such as a breakout room."""
        await self._sender.post(token, {"type": "switchto", "switchto": {"roomid": target, "sessions": list(sessions)}})

    async def dial(self, token: str, number: str, **options: object) -> Answer:
        """Call a phone number for a conversation; return the gateway's last answer, also one with status 4xx or 5xx."""
        call: Json = {"number": number} | ({"options": options} if options else {})
        try:
            return await self._sender.post(token, {"type": "dialout", "dialout": call})
        except NotCarriedOut as error:
            return error.answer

    # -- requests of the gateway

    async def join(self, request: Json) -> tuple[TalkRoom, Attendee] | None:
        """Admit the session of a join request; ``None``: the join is refused.

        If the request has ``incall``, as for a phone call, the session enters the call, and the gateway receives the
        request about that before the answer.
        """
        session = self.rooms.admit(request)
        if session is None:
            return None
        room = self.room(request["roomid"])
        if "incall" in request:
            room.set_in_call(session, int(request["incall"]), self._clock())
            await self._report_call(room, session)
        return room, session.attendee

    async def leave(self, request: Json) -> tuple[TalkRoom, Attendee] | None:
        """End the session of a leave request; ``None``: it has ended already.

        The end of its call membership, and of a guest's session, is sent to the gateway before the answer.
        """
        found = self.rooms.find(request)
        if found is None:
            return None
        room, session = found
        room.close(session.id)
        if session.in_call:
            session.in_call = 0
            room.update_call(self._clock())
            await self._report_call(room, session)
        if session.attendee.actor_type == ActorType.GUESTS and self._sender.attached:
            request = talk_requests.disinvite_sessions(room, [session.id], changes_only=self._sender.changes_only)
            await self._sender.post(room.token, request)
        return room, session.attendee

    async def _change_permissions(self, room: TalkRoom, attendee: Attendee, permissions: Permission) -> None:
        attendee.permissions = permissions
        changed, changes_only = _session_ids(room, attendee), self._sender.changes_only
        await self._sender.post(room.token, talk_requests.participants(room, changed, changes_only=changes_only))

    async def _report_call(self, room: TalkRoom, session: TalkSession) -> None:
        if self._sender.attached:
            changes_only = self._sender.changes_only
            request = talk_requests.incall(room, session.in_call, [session.id], changes_only=changes_only)
            await self._sender.post(room.token, request)


def _session_ids(room: TalkRoom, attendee: Attendee) -> list[str]:
    return [session.id for session in room.sessions.values() if session.attendee is attendee]
