"""A feed in a VideoRoom room on one Janus, with its subscriptions.

Janus sends subscribers no event when a room is destroyed, so the feed keeps its subscriptions and ends them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from mcu.base import CloseReason, MediaKind, StreamKey
from mcu.janus.connection.session import JanusSession

if TYPE_CHECKING:
    from mcu.janus.streams.layer_order import LayerOrder
    from mcu.janus.streams.subscriber import JanusSubscriber


class FeedOwner(Protocol):
    """The publisher of a feed, or the copy of a stream that another Janus sends (remote.py)."""

    @property
    def layers(self) -> LayerOrder | None:
        """The order of the publisher's simulcast layers; ``None`` without simulcast."""

    def end(self, reason: CloseReason | None) -> None:
        """End the stream, its feed, and all subscriptions to it. Idempotent."""

    def send_keyframe_request(self) -> None:
        """Request a keyframe from the publisher, without waiting."""

    def on_unsubscribed(self) -> None:
        """Handle the end of a subscription."""


class RoomFeed:
    """A feed that subscribers join: its media and its subscriptions."""

    def __init__(self, session: JanusSession, key: StreamKey, feed_id: int, owner: FeedOwner) -> None:
        self.session = session
        self.key = key
        self.id = feed_id
        self.owner = owner
        self.room = 0  # 0: not created yet
        self.closed = False
        self.revision = 0  # changes when Janus begins or ceases to accept subscribers of the feed
        self.media: Mapping[str, MediaKind] = {}  # by mid: the media that can be subscribed to
        self.subscribers: set[JanusSubscriber] = set()
        self.joining: set[JanusSubscriber] = set()  # subscribers that have a handle, but no offer yet
        self._detaching: set[asyncio.Future[Any]] = set()  # done when the handles of ended subscriptions are detached

    @property
    def in_use(self) -> bool:
        """Whether the feed has a subscription, or a subscription is being made."""
        return bool(self.subscribers or self.joining)

    def set_media(self, media: Mapping[str, MediaKind]) -> None:
        """Set the media by mid, and request an offer with the added media for each subscriber."""
        self.media = media
        for subscriber in list(self.subscribers):
            subscriber.request_missing_media()

    def apply_layer_order(self) -> None:
        """Have Janus send each subscriber the selected layer by the current order."""
        for subscriber in list(self.subscribers):
            subscriber.apply_layer_order()

    def on_subscriber_end(self, subscriber: JanusSubscriber) -> None:
        """Remove a subscription that has ended."""
        self.subscribers.discard(subscriber)
        self.joining.discard(subscriber)
        for future in subscriber.closing:
            self._detaching.add(future)
            future.add_done_callback(self._detaching.discard)
        self.owner.on_unsubscribed()

    def end(self, reason: CloseReason) -> list[asyncio.Future[Any]]:
        """End all subscriptions; return the futures that must be done before the room may be destroyed."""
        self.closed = True
        self.revision += 1
        closing: list[asyncio.Future[Any]] = []
        for subscriber in list(self.subscribers):
            subscriber.end(reason)
            closing += subscriber.closing
        for subscriber in list(self.joining):
            subscriber.end(None)  # the call that waits for the offer looks for the stream again
        return closing + [future for future in self._detaching if future not in closing]
