"""The gateway's side of one Janus handle with one PeerConnection and one listener: base of publisher and subscriber.

Requests of one handle are carried out one after another. Failures are raised as errors of the SFU interface.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from mcu.base import (
    CloseReason,
    IceCandidate,
    McuLost,
    McuTimeout,
    StreamKey,
    StreamListener,
    StreamReport,
    TransportState,
)
from mcu.janus.connection.handle import Handle
from mcu.janus.connection.messages import HandleInfo, JanusError, JanusMessage
from mcu.janus.connection.session import JanusSession
from mcu.janus.events.statistics import EventStatistics
from mcu.janus.labels import stream_label
from mcu.janus.rooms import videoroom
from mcu.janus.streams.descriptions import reports
from mcu.listener_gate import ListenerGate
from sdp.document import Description

# Events after which a handle's PeerConnection carries no media any more. `ice-failed` (since Janus 1.2.0): the client,
# which was connected, does not answer consent checks any more (RFC 7675).
ENDS = ("hangup", "detached", "ice-failed")


class HandlePeer(ABC):
    """A handle and its listener, until the stream ends."""

    IS_SUBSCRIBER: ClassVar[bool]

    def __init__(self, session: JanusSession, key: StreamKey, listener: StreamListener, timeout: float) -> None:
        self.key = key
        self.session = session
        self.handle: Handle
        self.gate = ListenerGate(listener)
        self.closed = False
        self.connected = False  # ICE and DTLS are established
        self.description: Description | None = None  # the last one from Janus
        self.closing: list[asyncio.Future[Any]] = []  # done when Janus has removed the objects of the ended stream
        self._timeout = timeout
        self._requesting = asyncio.Lock()
        self._limits: set[asyncio.Timeout] = set()  # of the calls that use the handle, or wait for it

    async def attach(self) -> None:
        """Open the handle; events reach ``on_event`` from now on.

        Raises:
            JanusError: Janus refused.
            McuLost: the session is lost.
        """
        self.handle = await self.session.attach(stream_label(self.session.instance, self.key), self)

    def on_event(self, message: JanusMessage) -> None:
        """Handle an event of Janus."""
        handler = self._EVENT_HANDLERS.get(message.janus)
        if handler is not None:
            handler(self, message)
        elif message.plugindata.data.videoroom == "destroyed":
            self._on_end(message)
        else:
            self._on_plugin_event(message)

    @abstractmethod
    def _on_plugin_event(self, message: JanusMessage) -> None:
        """Handle an event of the VideoRoom."""

    def on_refused(self, body: Mapping[str, Any], error: JanusError) -> None:
        """Log that Janus refused a request for which no call waits any more; a candidate may be refused."""
        if body:
            self.session.log.info("a stream was not changed: Janus error %d", error.code)

    @abstractmethod
    def on_claimed(self) -> None:
        """Handle the return of the connection: events that Janus sent while it was broken are lost."""

    def on_handle_info(self, info: HandleInfo) -> None:
        """Apply the Admin API's report of the handle, requested after the connection was broken."""
        if info.flags.alert:
            self.end(CloseReason.FAILED)

    def on_lost(self) -> None:
        """Handle the loss of the session, and of all its objects on Janus."""
        self.end(CloseReason.LOST)

    def end(self, reason: CloseReason | None) -> None:
        """Detach the handle and report the reason to the listener; ``None``: its owner ends the stream. Idempotent.

        With a reason, calls that wait for an answer over the handle fail at once: Janus may never answer them.
        """
        if self.closed:
            return
        self.closed = True
        self.closing.append(self.handle.detach())
        for limit in self._limits if reason is not None else ():
            if not limit.expired():
                limit.reschedule(0.0)  # a time in the past: at once
        self.gate.close(reason)

    async def close(self) -> None:
        """End the stream on behalf of its owner and return when Janus has removed it. Idempotent."""
        self.end(None)
        await self.wait_closed()

    async def wait_closed(self) -> None:
        """Wait, within the time limit, until Janus has removed the objects of the ended stream."""
        if self.closing:
            await asyncio.wait(self.closing, timeout=self._timeout)

    async def add_candidate(self, candidate: IceCandidate | None) -> None:
        """Send a candidate of the client to Janus; ``None``: the end of candidates. Unusable candidates are ignored."""
        if self.closed:
            return
        try:
            async with asyncio.timeout(self._timeout):
                await self.handle.trickle(candidate)
        except JanusError as error:
            self.session.log.debug("a candidate was refused: %s", error)
        except TimeoutError as error:
            raise McuTimeout("Janus did not answer in time") from error

    @asynccontextmanager
    async def exclusive_handle(self) -> AsyncIterator[Handle]:
        """Yield the handle for one request, within the time limit; failures are errors of the SFU interface."""
        limit = asyncio.timeout(self._timeout)
        try:
            async with limit:
                self._limits.add(limit)
                async with self._requesting:
                    if self.closed:
                        raise McuLost("the stream has ended")
                    yield self.handle
        except TimeoutError as error:
            if self.closed:
                raise McuLost("the stream has ended") from error
            raise McuTimeout("Janus did not answer in time") from error
        except JanusError as error:
            raise videoroom.mcu_error(error) from error
        finally:
            self._limits.discard(limit)

    def reports(self, statistics: EventStatistics) -> list[StreamReport]:
        """Return a report for each running media kind, with the statistics of Janus' events."""
        if self.description is None:
            return []
        by_kind = statistics.statistics_of_handle(self.session.id, self.handle.id)
        return reports(self.key, self.IS_SUBSCRIBER, self.description, by_kind)

    def _on_transport(self, state: TransportState) -> None:
        self.gate.send(lambda listener: listener.on_transport(state))

    def _on_slow_link(self, _: JanusMessage) -> None:
        self._on_transport(TransportState.SLOW_LINK)

    def _on_end(self, message: JanusMessage) -> None:
        self.end(close_reason(message, connected=self.connected))

    def _on_trickle(self, message: JanusMessage) -> None:
        trickled = message.candidate
        if trickled.completed:
            self.gate.send(lambda listener: listener.on_candidate(None))
        else:
            candidate = IceCandidate(trickled.candidate, trickled.sdp_mid, trickled.sdp_mline_index)
            self.gate.send(lambda listener: listener.on_candidate(candidate))

    _EVENT_HANDLERS: ClassVar[dict[str, Callable[[Any, JanusMessage], None]]] = {  # by ``janus``; subclasses add others
        "slowlink": _on_slow_link,
        "trickle": _on_trickle,
        **dict.fromkeys(ENDS, _on_end),
    }


def close_reason(message: JanusMessage, *, connected: bool) -> CloseReason:
    """Return the reason for which one of ``ENDS``, or the destruction of the room, has ended a stream.

    Janus 1.1.2 to 1.4.1 give a hangup one of a few fixed texts. "DTLS alert" is any alert of the client: it closes its
    PeerConnection with one, and may reject the DTLS handshake with one.
    """
    if message.janus == "ice-failed" or message.reason.startswith("ICE"):
        return CloseReason.ICE_FAILED
    if message.reason == "DTLS alert" and connected:
        return CloseReason.CLIENT_CLOSED
    return CloseReason.DTLS_FAILED if message.reason.startswith("DTLS") else CloseReason.FAILED
