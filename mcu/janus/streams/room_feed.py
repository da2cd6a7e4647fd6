"""A room with one feed on one Janus, and who is subscribed to it.

Janus tells subscribers nothing when a room is destroyed, so whoever owns the room knows them and ends them itself.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from mcu.base import CloseReason, MediaKind, StreamKey
from mcu.janus.connection.session import JanusSession
from mcu.janus.rooms.registry import RoomRegistry

if TYPE_CHECKING:
    from mcu.janus.streams.subscriber import JanusSubscriber


class RoomFeed(ABC):
    """What can be subscribed to: a publisher, or a stream that comes from another Janus (remote.py)."""

    key: StreamKey
    session: JanusSession
    closed: bool
    closing: list[asyncio.Future[Any]]  # done when Janus has carried out what the end asks for

    def __init__(self, rooms: RoomRegistry, feed: int) -> None:
        self.rooms = rooms
        self.room = 0
        self.feed = feed
        self.changes = 0  # counts what concerns those who want to subscribe
        self.media: dict[str, MediaKind] = {}  # by mid: what there is to subscribe to
        self.subscribers: set[JanusSubscriber] = set()
        self.entering: set[JanusSubscriber] = set()  # have a handle, but no offer yet
        self.departing: set[asyncio.Future[Any]] = set()  # subscribers' handles that Janus has not let go yet

    @abstractmethod
    def end(self, reason: CloseReason | None) -> None:
        """End the feed and all subscriptions to it. Idempotent."""

    @abstractmethod
    def refresh_picture(self) -> None:
        """Have the publisher send a keyframe; nobody waits for it."""

    def leave(self, subscriber: JanusSubscriber) -> None:
        """Learn that a subscription has ended."""
        self.subscribers.discard(subscriber)
        self.entering.discard(subscriber)
        for left in subscriber.closing:
            self.departing.add(left)
            left.add_done_callback(self.departing.discard)

    def cover(self) -> None:
        """Let each subscriber have what is new."""
        for subscriber in list(self.subscribers):
            subscriber.cover()

    def dismiss(self, reason: CloseReason) -> None:
        """End all subscriptions; ``leaving`` holds then what has to be waited for before the room may go."""
        for subscriber in list(self.subscribers):
            subscriber.end(reason)
            self.closing += subscriber.closing
        for subscriber in list(self.entering):
            subscriber.end(None)  # who waits for the offer looks again
        self.closing += [left for left in self.departing if left not in self.closing]
