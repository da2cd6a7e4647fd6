"""Data channels: what a publisher says on its own is said on a like channel of each subscriber, in the same order."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable

from aiortc import RTCDataChannel
from aiortc.exceptions import InvalidStateError

from mcu.inprocess.transport.peer_transport import PeerTransport

MAX_BUFFERED = 1 << 20  # bytes a subscriber may be behind on a channel before it misses messages
MAX_CHANNELS = 32  # of one publisher
MAX_WAITING = 64  # messages kept for a subscriber whose channel is still opening

Message = str | bytes

log = logging.getLogger("portunus.inprocess")


class PublisherChannels:
    """The publisher's channels; ``outlets`` tells who listens now."""

    def __init__(self, outlets: Callable[[], Iterable[SubscriberChannels]]) -> None:
        self.channels: list[RTCDataChannel] = []
        self._outlets = outlets

    def add(self, channel: RTCDataChannel) -> None:
        """Take a channel that the publisher opened; one too many is closed."""
        if len(self.channels) >= MAX_CHANNELS:
            channel.close()
            return

        def message(data: Message) -> None:
            for outlet in self._outlets():
                outlet.send(channel, data)

        def closed() -> None:
            if channel in self.channels:
                self.channels.remove(channel)
                for outlet in self._outlets():
                    outlet.drop(channel)

        self.channels.append(channel)
        channel.on("message", message)
        channel.on("close", closed)
        for outlet in self._outlets():
            outlet.mirror(channel)

    def close(self) -> None:
        """Hear nothing more."""
        for channel in self.channels:
            channel.remove_all_listeners()
        self.channels.clear()


class SubscriberChannels:
    """One subscriber's copies of the publisher's channels."""

    def __init__(self, transport: PeerTransport) -> None:
        self._transport = transport
        self._copies: dict[RTCDataChannel, RTCDataChannel] = {}
        self._waiting: dict[RTCDataChannel, deque[Message]] = {}
        self._behind = False
        self._started = False

    def start(self, channels: Iterable[RTCDataChannel]) -> None:
        """Open copies of what is open already: the subscriber has agreed to data channels."""
        self._started = True
        for channel in channels:
            self.mirror(channel)

    def mirror(self, channel: RTCDataChannel) -> None:
        """Open a copy of a publisher's channel."""
        if not self._started or channel in self._copies:
            return
        copy = self._transport.open_channel(channel)
        self._copies[channel] = copy
        self._waiting[channel] = deque(maxlen=MAX_WAITING)

        def opened() -> None:
            for data in self._waiting.pop(channel, ()):
                self._send(copy, data)

        copy.on("open", opened)

    def send(self, channel: RTCDataChannel, data: Message) -> None:
        """Say on the copy what was said on ``channel``."""
        waiting = self._waiting.get(channel)
        if waiting is not None:
            waiting.append(data)
        elif (copy := self._copies.get(channel)) is not None:
            self._send(copy, data)

    def drop(self, channel: RTCDataChannel) -> None:
        """Close the copy of a channel that the publisher closed."""
        self._waiting.pop(channel, None)
        copy = self._copies.pop(channel, None)
        if copy is not None:
            copy.close()

    def close(self) -> None:
        """Forget all copies; the transport closes them."""
        for copy in self._copies.values():
            copy.remove_all_listeners()
        self._copies.clear()
        self._waiting.clear()
        self._started = False

    def _send(self, copy: RTCDataChannel, data: Message) -> None:
        if copy.bufferedAmount > MAX_BUFFERED:
            if not self._behind:
                log.warning("a subscriber is too slow for its data channel and misses messages")
            self._behind = True
            return
        try:
            copy.send(data)
        except (InvalidStateError, ValueError):
            log.debug("a subscriber's data channel is closed, or takes no message of that size")
