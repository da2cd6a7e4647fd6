"""The connection to one Janus: made, checked, kept, and made again with back-off.

Says in the log once what is missing, not at each attempt; never with an address (invariant 7).
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import Callable
from typing import Any

import aiohttp

from mcu.base import McuLost, Rejected, SfuState
from mcu.janus.protocol import SUBPROTOCOL, JanusError, back_off, details, printable, refusal
from mcu.janus.session import Session
from mcu.janus.settings import JanusServer
from mcu.janus.sweep import sweep
from mcu.janus.videoroom import Rooms

log = logging.getLogger("portunus.mcu.janus")

HEARTBEAT = 4.0  # seconds between pings; a Janus that stands still is noticed after 4 to 7
CLOSE = 1.0  # seconds for the closing handshake: a Janus that stands still never answers it


class JanusClient:
    """Holds one session with Janus; ``on_change`` is called after each change of the public fields."""

    def __init__(
        self,
        server: JanusServer,
        timeout: float,
        on_change: Callable[[], None],
        rooms: Rooms,
    ) -> None:
        self.state = SfuState.CONNECTING
        self.reason = "Janus has not been asked yet"
        self.name = ""
        self.details: dict[str, Any] = {}
        self.version = ""
        self.since = 0.0  # unix time
        self.server = server  # that of the next connection
        self._timeout = timeout
        self._on_change = on_change
        self._rooms = rooms
        self._session: Session | None = None
        self._held = False  # whether the last attempt made a session
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to connect and return at once."""
        self._task = asyncio.create_task(self._run(), name="janus")

    async def stop(self) -> None:
        """Disconnect. Idempotent."""
        self._session = None
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        self._become(SfuState.STOPPED, "stopped")

    async def session(self) -> Session:
        """Return the session, waiting for it where Janus is not there; the caller sets the time limit.

        Raises:
            Rejected: this Janus cannot be used.
            McuLost: we have stopped.
        """
        while (session := self.current()) is None:
            if self.state is SfuState.REFUSED:
                raise Rejected(self.reason)
            if self.state is SfuState.STOPPED:
                raise McuLost(self.reason)
            await self._changed.wait()
        return session

    def current(self) -> Session | None:
        """Return the session if there is one now."""
        return self._session

    async def _run(self) -> None:
        attempt = 0
        async with aiohttp.ClientSession() as http:
            while True:
                self._held = False
                state, reason = await self._hold(http)
                if self._held:
                    attempt = 0
                elif reason != self.reason:
                    log.warning("Janus cannot be used yet: %s; media requests wait, we keep trying", reason)
                self._become(state, reason)
                await asyncio.sleep(back_off(attempt, random.random()))
                attempt += 1

    async def _hold(self, http: aiohttp.ClientSession) -> tuple[SfuState, str]:
        """Connect once and hold the session to its end; returns what we are then, and why."""
        try:
            async with asyncio.timeout(self._timeout):
                socket = await http.ws_connect(
                    self.server.url,
                    protocols=[SUBPROTOCOL],
                    heartbeat=HEARTBEAT,
                    timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE),
                    max_msg_size=0,
                )
        except TimeoutError:
            return SfuState.CONNECTING, "it does not answer"
        except aiohttp.WSServerHandshakeError:
            return SfuState.CONNECTING, "what answers there is not Janus' WebSocket API"
        except (OSError, aiohttp.ClientError) as error:
            return SfuState.CONNECTING, in_words(error)
        session = Session(socket, self.server.secrets, self._timeout, self._ended, self._rooms.instance)
        running = asyncio.create_task(session.run(), name="janus-session")
        try:
            return await self._open(http, session, running)
        finally:
            running.cancel()
            await asyncio.wait([running])

    async def _open(
        self, http: aiohttp.ClientSession, session: Session, running: asyncio.Task[None]
    ) -> tuple[SfuState, str]:
        try:
            async with asyncio.timeout(self._timeout):
                server = await session.request("info")
                reason = refusal(server)
                if reason:
                    return SfuState.REFUSED, reason
                await session.open()
        except JanusError as error:
            return SfuState.REFUSED, f"it does not let us in: {error}"
        except (TimeoutError, McuLost):
            return SfuState.CONNECTING, "it does not answer"
        self.name, self.version = printable(server.name), printable(server.version_string)
        self.details = details(server)
        self._session, self._held = session, True
        self._become(SfuState.READY, "")
        log.info("Janus %s is ready", self.version)
        sweeping = asyncio.create_task(sweep(http, session, self._rooms, lambda: self.server), name="janus-sweep")
        try:
            await asyncio.wait([running])
        finally:
            sweeping.cancel()
            await asyncio.wait([sweeping])
        return SfuState.CONNECTING, self.reason

    def _ended(self, why: str) -> None:
        """Learn of the end of a session before its streams do."""
        if self._session is not None:
            self._session = None
            log.warning("Janus is lost: %s", why)
            self._become(SfuState.CONNECTING, why)

    def _become(self, state: SfuState, reason: str) -> None:
        changed = (state, reason) != (self.state, self.reason)
        self.state, self.reason = state, reason
        self.since = time.time() if state is SfuState.READY else 0.0
        self._changed.set()
        self._changed = asyncio.Event()
        if changed:
            self._on_change()


def in_words(error: Exception) -> str:
    """Say what went wrong with a connection, without the address that the error names."""
    number = getattr(error, "errno", None)
    return os.strerror(number).lower() if isinstance(number, int) and number > 0 else type(error).__name__
