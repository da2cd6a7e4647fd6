"""What publisher and subscriber have in common: one handle of Janus with one PeerConnection, and one listener.

Requests of one handle go one after another. What fails is told in the errors of the SFU interface.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from mcu.base import Candidate, CloseReason, McuLost, McuTimeout, StreamKey, StreamListener, StreamReport
from mcu.janus.connection.handle import Handle
from mcu.janus.connection.messages import HandleInfo, JanusError, JanusMessage
from mcu.janus.connection.session import JanusSession
from mcu.janus.events.statistics import EventStatistics
from mcu.janus.labels import stream_label
from mcu.janus.rooms import videoroom
from mcu.janus.streams.descriptions import reports
from mcu.listener_gate import ListenerGate
from sdp.document import Description


class HandlePeer(ABC):
    """What publisher and subscriber have in common: a handle, a listener and an end."""

    SUBSCRIBES: ClassVar[bool]

    def __init__(self, session: JanusSession, key: StreamKey, listener: StreamListener, timeout: float) -> None:
        self.key = key
        self.session = session
        self.handle: Handle
        self.gate = ListenerGate(listener)
        self.closed = False
        self.description: Description | None = None  # Janus' last one
        self._timeout = timeout
        self._turn = asyncio.Lock()
        self.closing: list[asyncio.Future[Any]] = []  # done when Janus has carried out what the end asks for

    async def attach(self) -> None:
        """Open the handle; events reach ``on_event`` from now on.

        Raises:
            JanusError: Janus refused.
            McuLost: the session is lost.
        """
        self.handle = await self.session.attach(stream_label(self.session.instance, self.key), self)

    @abstractmethod
    def on_event(self, message: JanusMessage) -> None:
        """Take what Janus says of the handle."""

    @abstractmethod
    def on_claimed(self) -> None:
        """Learn that the connection to Janus was away: what it said meanwhile nobody has heard."""

    def on_handle_info(self, info: HandleInfo) -> None:
        """Take what the Admin API tells of the handle after the connection was away."""
        if info.flags.alert:
            self.end(CloseReason.FAILED)

    def on_lost(self) -> None:
        """Learn that the session is gone: everything on Janus went with it."""
        self.end(CloseReason.LOST)

    def end(self, reason: CloseReason | None) -> None:
        """Leave Janus at once and tell the listener reason; ``None``: it is the owner's wish. Idempotent."""
        if self.closed:
            return
        self.closed = True
        self.closing.append(self.handle.detach())
        self.gate.close(reason)

    async def close(self) -> None:
        """End the stream by its owner's wish and return when Janus is clean. Idempotent."""
        self.end(None)
        await self.wait_closed()

    async def wait_closed(self) -> None:
        """Wait, within the time limit, until Janus has carried out what the end asked for."""
        if self.closing:
            await asyncio.wait(self.closing, timeout=self._timeout)

    async def add_candidate(self, candidate: Candidate | None) -> None:
        """Hand over a candidate of the client; ``None`` ends the list. Unusable ones are ignored."""
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
    async def turn(self) -> AsyncIterator[Handle]:
        """Hold the handle for one request, within the time limit, and turn what goes wrong into typed errors."""
        try:
            async with asyncio.timeout(self._timeout), self._turn:
                if self.closed:
                    raise McuLost("the stream has ended")
                yield self.handle
        except TimeoutError as error:
            raise McuTimeout("Janus did not answer in time") from error
        except JanusError as error:
            raise videoroom.mcu_error(error) from error

    def reports(self, feed: EventStatistics) -> list[StreamReport]:
        """Return what runs here, with the figures that Janus' event feed has of it."""
        if self.description is None:
            return []
        figures = feed.of_handle(self.session.id, self.handle.id)
        return reports(self.key, self.SUBSCRIBES, self.description, figures)

    def _candidate(self, message: JanusMessage) -> None:
        came = message.candidate
        if not came.completed:
            candidate = Candidate(came.candidate, came.sdp_mid, came.sdp_mline_index)
            self.gate.send(lambda listener: listener.on_candidate(candidate))
        else:
            self.gate.send(lambda listener: listener.on_candidate(None))
