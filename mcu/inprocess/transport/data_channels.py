"""Data channels: every subscriber has a copy of each channel of the publisher, with its messages in order."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable

from aiortc import RTCDataChannel
from aiortc.exceptions import InvalidStateError

from mcu.inprocess.transport.peer_transport import PeerTransport

MAX_BUFFERED = 1 << 20  # bytes that wait for a subscriber, on all its channels, beyond which messages are dropped
MAX_CHANNELS = 32  # of one publisher
MAX_QUEUED = 64  # messages queued for a subscriber whose channel is not open yet

Message = str | bytes
QueuedMessage = tuple[bytes, bool]  # the encoded message, and whether it is a text

log = logging.getLogger("portunus.inprocess")


class PublisherChannels:
    """The data channels that a publisher opened; ``subscribers`` returns the current receivers."""

    def __init__(self, subscribers: Callable[[], Iterable[SubscriberChannels]]) -> None:
        self.open: list[RTCDataChannel] = []
        self._subscribers = subscribers

    def add(self, channel: RTCDataChannel) -> None:
        """Forward a channel that the publisher opened; close it if there are ``MAX_CHANNELS`` already."""
        if len(self.open) >= MAX_CHANNELS:
            channel.close()
            return

        def on_message(message: Message) -> None:
            for subscriber in self._subscribers():
                subscriber.send(channel, message)

        def on_close() -> None:
            if channel in self.open:
                self.open.remove(channel)
                for subscriber in self._subscribers():
                    subscriber.remove(channel)

        self.open.append(channel)
        channel.on("message", on_message)
        channel.on("close", on_close)
        for subscriber in self._subscribers():
            subscriber.add(channel)

    def close(self) -> None:
        """Stop forwarding."""
        for channel in self.open:
            channel.remove_all_listeners()
        self.open.clear()


class SubscriberChannels:
    """One subscriber's copies of the publisher's data channels."""

    def __init__(self, transport: PeerTransport) -> None:
        self._transport = transport
        self._copies: dict[RTCDataChannel, RTCDataChannel] = {}  # by the publisher's channel
        # Messages for copies that are not open yet, texts encoded: their bytes count, not their characters.
        self._queued: dict[RTCDataChannel, deque[QueuedMessage]] = {}
        self._dropped_messages = False
        self._started = False

    def start(self, channels: Iterable[RTCDataChannel]) -> None:
        """Open a copy of each open channel: the subscriber has accepted data channels."""
        self._started = True
        for channel in channels:
            self.add(channel)

    def add(self, channel: RTCDataChannel) -> None:
        """Open a copy of a publisher's channel."""
        if not self._started or channel in self._copies:
            return
        copy = self._transport.open_channel(channel)
        self._copies[channel] = copy
        self._queued[channel] = deque(maxlen=MAX_QUEUED)

        def on_open() -> None:
            for encoded, is_text in self._queued.pop(channel, ()):
                self._send(copy, encoded.decode() if is_text else encoded)

        copy.on("open", on_open)

    def send(self, channel: RTCDataChannel, message: Message) -> None:
        """Send a message of the publisher's ``channel`` on its copy, once the copy is open."""
        queued = self._queued.get(channel)
        if queued is not None:
            encoded = message.encode() if isinstance(message, str) else message
            size = sum(len(waiting) for queue in self._queued.values() for waiting, _ in queue)
            if size + len(encoded) <= MAX_BUFFERED:
                queued.append((encoded, isinstance(message, str)))
        elif (copy := self._copies.get(channel)) is not None:
            self._send(copy, message)

    def remove(self, channel: RTCDataChannel) -> None:
        """Close the copy of a channel that the publisher closed."""
        self._queued.pop(channel, None)
        copy = self._copies.pop(channel, None)
        if copy is not None:
            copy.close()

    def close(self) -> None:
        """Forget all copies; the transport closes them."""
        for copy in self._copies.values():
            copy.remove_all_listeners()
        self._copies.clear()
        self._queued.clear()
        self._started = False

    def _send(self, copy: RTCDataChannel, message: Message) -> None:
        if sum(channel.bufferedAmount for channel in self._copies.values()) > MAX_BUFFERED:
            if not self._dropped_messages:
                log.warning("a subscriber is too slow for its data channel: messages are dropped")
            self._dropped_messages = True
            return
        try:
            copy.send(message)
        except (InvalidStateError, ValueError):
            log.debug("a data channel message was dropped: the channel is closed, or the message too large")
