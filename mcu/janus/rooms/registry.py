"""The VideoRoom rooms of this gateway on one Janus, from before their creation until Janus has destroyed them."""

from __future__ import annotations

import asyncio
import secrets

from mcu.base import PublishOptions, StreamKey
from mcu.janus.connection.messages import NO_SUCH_HANDLE, NO_SUCH_SESSION, JanusError, JanusMessage, error_of
from mcu.janus.connection.session import Answer, JanusSession, RequestInterrupted
from mcu.janus.labels import control_label, stream_label
from mcu.janus.rooms import videoroom


class RoomRegistry:
    """The rooms that this gateway created, or tried to create, and that Janus has not confirmed as destroyed.

    A room outlives the session that created it. The gateway chooses its number, not Janus, so that a room whose
    creation was never answered can be destroyed as well, over the next session. ``instance`` marks the rooms as ours
    (``mcu.janus.labels``); ``all_rooms`` is shared by all registries of this process, because two registries may be for
    one Janus, if it is configured under two addresses or its address was changed by a reload.
    """

    def __init__(self, admin_key: str, instance: str, all_rooms: set[int]) -> None:
        self.admin_key = admin_key
        self.instance = instance
        self._all_rooms = all_rooms
        self._owned: dict[int, JanusSession] = {}  # rooms of streams, with the session over which they were created
        self._unwanted: set[int] = set()  # rooms without a stream that Janus may still have
        self._destroying: set[int] = set()  # rooms whose destruction is requested and not answered yet
        self._remote_feeds: dict[int, int] = {}  # feeds from other Janus servers, by room

    async def create(
        self, session: JanusSession, key: StreamKey, options: PublishOptions, *, remote: bool = False
    ) -> int:
        """Create the room of a stream and return its number; a cancelled call leaves no room.

        ``remote``: the stream comes from another Janus.

        Raises:
            JanusError: Janus refused.
            McuLost: the session is lost.
        """
        while True:
            room = secrets.randbits(52) + 1  # Janus' ids are below 2^53
            self.add(room, session)
            if remote:
                self._remote_feeds[room] = videoroom.FEEDS[key.stream_type]

            def undo(_: JanusMessage, created: int = room) -> None:
                self.destroy(session, created)

            label = stream_label(self.instance, key, remote=remote)
            body = videoroom.create(room, label, options, self.admin_key)
            try:
                await session.request("message", undo=undo, handle_id=session.control.id, body=body)
            except RequestInterrupted:  # the room may exist
                self.destroy(session, room)
            except JanusError as error:
                del self._owned[room]
                self._forget(room)
                if error.code != videoroom.ROOM_EXISTS:
                    raise
            except BaseException:
                self._disown(room)
                raise
            else:
                return room

    async def reason_unusable(self, session: JanusSession) -> str:
        """Create and destroy a room as for a stream; return the reason for a failure, in one sentence, else "".

        Raises:
            RequestInterrupted: the connection broke.
            McuLost: the session is lost.
            JanusError: Janus created the room and refused to destroy it.
        """
        room = secrets.randbits(52) + 1
        self.add(room, session)
        body = videoroom.create(room, control_label(self.instance), PublishOptions(), self.admin_key)
        try:
            created = session.post("message", repeatable=False, handle_id=session.control.id, body=body)
            session.require_success(await asyncio.shield(created))
        except JanusError as error:
            del self._owned[room]
            self._forget(room)
            return videoroom.reason_refused(error)
        except BaseException:
            self._disown(room)
            raise
        session.require_success(await asyncio.shield(self.destroy(session, room)))
        return ""

    def add(self, room: int, session: JanusSession) -> None:
        """Register a room before it is created; it is owned until ``destroy`` or the end of the session."""
        self._owned[room] = session
        self._all_rooms.add(room)

    def destroy(self, session: JanusSession, room: int, remote_feed: int = 0) -> Answer:
        """Send the request that destroys a room; the future is done when Janus has answered.

        ``remote_feed``: the feed of a room that an earlier process created for a stream of another Janus. No handle
        ends such a feed: if only the room were destroyed, Janus would keep the feed's ports and thread.
        """
        self._disown(room)
        self._destroying.add(room)
        feed = remote_feed or self._remote_feeds.get(room, 0)
        if not feed:
            return self._destroy(session, room)
        destroyed: Answer = asyncio.get_running_loop().create_future()

        def removed(_: Answer) -> None:  # Janus does not process requests in order
            self._destroy(session, room).add_done_callback(lambda done: destroyed.set_result(done.result()))

        body = videoroom.remove_remote_publisher(room, feed)
        session.post("message", handle_id=session.control.id, body=body).add_done_callback(removed)
        return destroyed

    def _destroy(self, session: JanusSession, room: int) -> Answer:
        answer = session.post("message", handle_id=session.control.id, body=videoroom.destroy(room))
        answer.add_done_callback(lambda done: self._on_destroyed(room, done.result()))
        return answer

    def _on_destroyed(self, room: int, message: JanusMessage | None) -> None:
        self._destroying.discard(room)
        error = None if message is None else error_of(message)
        if message is not None and (error is None or error.code not in (NO_SUCH_SESSION, NO_SUCH_HANDLE)):
            self._forget(room)

    def _disown(self, room: int) -> None:
        self._owned.pop(room, None)
        self._unwanted.add(room)

    def _forget(self, room: int) -> None:
        self._unwanted.discard(room)
        self._remote_feeds.pop(room, None)
        self._all_rooms.discard(room)

    def on_remote_feed_removed(self, room: int) -> None:
        """Record that the feed from another Janus has been removed from a room."""
        self._remote_feeds.pop(room, None)

    def rooms(self) -> list[int]:
        """Return the rooms that may exist."""
        return [*self._owned, *self._unwanted]

    def is_owned(self, room: int) -> bool:
        """Return whether a room belongs to a stream that is published or being published."""
        return room in self._owned and not self._owned[room].lost

    def is_being_destroyed(self, room: int) -> bool:
        """Return whether Janus has been asked to destroy a room, and has not answered."""
        return room in self._destroying

    def is_in_other_registry(self, room: int) -> bool:
        """Return whether a room is in another registry of this process."""
        return room in self._all_rooms and room not in self._owned and room not in self._unwanted

    def orphans(self) -> set[int]:
        """Return the rooms that may exist, belong to no stream any more, and are not being destroyed."""
        return (self._unwanted - self._destroying) | {room for room, session in self._owned.items() if session.lost}

    def on_gone(self, room: int) -> None:
        """Remove a room that Janus does not list any more."""
        if not self.is_owned(room):
            self._owned.pop(room, None)
            self._forget(room)

    def release(self) -> None:
        """Remove the rooms that may still exist from ``all_rooms``: another registry of this Janus may destroy them."""
        self._all_rooms.difference_update(self.rooms())
