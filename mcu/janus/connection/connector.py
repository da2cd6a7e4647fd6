"""The connection to one Janus: made, checked, kept, and made again.

When it ends and Janus is still there, the session is claimed over the next one and its streams go on; they are lost
when Janus is gone, has ended the session, or does not come back in time. Says in the log once what is missing, not at
each attempt; never with an address (invariant 7).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import random
import time
from collections.abc import Callable, Coroutine
from typing import Any

import aiohttp

from mcu.base import McuLost, Rejected, SfuState
from mcu.janus.connection.back_off import back_off
from mcu.janus.connection.log import JanusLog
from mcu.janus.connection.protocol import NO_SUCH_SESSION, SUBPROTOCOL, JanusError, details, printable, refusal
from mcu.janus.connection.session import JanusSession
from mcu.janus.settings import JanusServerSettings

HEARTBEAT = 4.0  # seconds without a word before a ping; a Janus that stands still is noticed after 3 to 7
CONNECT = 2.0  # seconds for a connection, and for claiming: one that stands still is asked again and again
UNASKED = "Janus has not been asked yet"
CLOSE = 1.0  # seconds for the closing handshake: a Janus that stands still never answers it

PROXY_FINDS_NOBODY = (502, 503)  # HTTP: what a proxy in front of Janus says when the process is gone
SHORT = 1.0  # seconds; a connection that lasts no longer is not made again without a pause

Outcome = tuple[SfuState, str]  # what we are, and why
Upkeep = Callable[[aiohttp.ClientSession, JanusSession, bool], Coroutine[Any, Any, None]]


class JanusConnector:
    """Holds one session with Janus; ``on_change`` is called after each change of the public fields.

    ``upkeep`` runs while the session can be used; its last argument: whether the session was claimed.
    """

    def __init__(
        self,
        server: JanusServerSettings,
        timeout: float,
        on_change: Callable[[], None],
        instance: str,
        log: JanusLog,
        upkeep: Upkeep,
    ) -> None:
        self.state = SfuState.CONNECTING
        self.reason = UNASKED
        self.name = ""
        self.details: dict[str, Any] = {}
        self.version = ""
        self.since = 0.0  # unix time
        self.server = server  # that of the next connection
        self._timeout = timeout
        self._on_change = on_change
        self._instance = instance
        self._log = log
        self._upkeep = upkeep
        self._session: JanusSession | None = None  # the one that can be used
        self._kept: JanusSession | None = None  # the one that is to be claimed
        self._too_late: asyncio.TimerHandle | None = None  # when it cannot be claimed any more
        self._reclaim = 0.0  # seconds for which Janus keeps a session without a connection
        self.old: set[int] = set()  # sessions that we gave up and Janus may still have
        self._away = 0.0  # since when there is none, by the loop's clock
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to connect and return at once; also after ``stop``."""
        self._become(SfuState.CONNECTING, UNASKED)
        self._task = asyncio.create_task(self._run(), name="janus")

    async def stop(self) -> None:
        """End the session on Janus, and disconnect. Idempotent."""
        session, self._session = self._session, None
        if session is not None:  # Janus would keep it to be claimed
            await asyncio.wait([session.post("destroy")], timeout=CLOSE)
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        self._lose("stopped")
        self._become(SfuState.STOPPED, "stopped")

    def give_up(self) -> None:
        """Wait no longer for a connection that broke: its streams are lost. Harmless where there is one."""
        self._lose("we wait for it no longer")

    async def session(self) -> JanusSession:
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

    def current(self) -> JanusSession | None:
        """Return the session if there is one now."""
        return self._session

    async def _run(self) -> None:
        clock = asyncio.get_running_loop().time
        self._away, refusals = clock(), 0
        async with aiohttp.ClientSession() as http:
            while True:
                begun, kept = clock(), self._kept
                state, reason = await self._attempt(http)
                if (state is SfuState.READY and clock() - begun > SHORT) or kept is not self._kept:
                    refusals = 0  # it was there a moment ago: asked again at once
                    continue
                refusals = refusals + 1 if state is SfuState.REFUSED else 0
                if state is not SfuState.READY:
                    if self._kept is None and reason != self.reason:
                        self._log.warning("Janus cannot be used yet: %s; media requests wait, we keep trying", reason)
                    self._become(state, reason)
                await asyncio.sleep(back_off(clock() - self._away, refusals, random.random()))

    async def _attempt(self, http: aiohttp.ClientSession) -> Outcome:
        try:
            return await self._hold(http)
        except Exception:  # nobody else would hear of it, and Janus not be tried again
            self._log.exception("the connection to Janus failed")
            self._session = None
            return SfuState.CONNECTING, "an error of ours"

    async def _hold(self, http: aiohttp.ClientSession) -> Outcome:
        """Connect once and hold the session to the end of the connection; READY: there was one, and it has ended."""
        try:
            async with asyncio.timeout(min(self._timeout, CONNECT)):
                socket = await http.ws_connect(
                    self.server.url,
                    protocols=[SUBPROTOCOL],
                    heartbeat=HEARTBEAT,
                    timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE),
                    max_msg_size=0,
                )
        except TimeoutError:
            return SfuState.CONNECTING, "it does not answer"
        except aiohttp.WSServerHandshakeError as error:
            if error.status in PROXY_FINDS_NOBODY:
                self._lose("nobody is there behind the proxy")
                return SfuState.CONNECTING, "nobody is there behind the proxy"
            return SfuState.CONNECTING, "what answers there is not Janus' WebSocket API"
        except (OSError, aiohttp.ClientError) as error:
            if getattr(error, "errno", None) == errno.ECONNREFUSED:
                self._lose(in_words(error))  # the process is gone, and the session with it
            return SfuState.CONNECTING, in_words(error)
        session = self._kept or JanusSession(self.server.secrets, self._timeout, self._instance, self._log)
        running = asyncio.create_task(session.carry(socket), name="janus-session")
        try:
            return await self._use(http, session, running)
        finally:
            running.cancel()
            await asyncio.wait([running])
            if session is not self._kept:
                session.lose()
            with contextlib.suppress(OSError, aiohttp.ClientError):
                await socket.close()

    async def _use(self, http: aiohttp.ClientSession, session: JanusSession, running: asyncio.Task[str]) -> Outcome:
        claimed = session is self._kept
        opening = asyncio.create_task(self._claim(session) if claimed else self._open(session), name="janus-open")
        try:
            await asyncio.wait([opening, running], return_when=asyncio.FIRST_COMPLETED)
            if not opening.done():
                return SfuState.CONNECTING, "the connection was closed"
        finally:
            opening.cancel()
            await asyncio.wait([opening])
        if (outcome := opening.result())[0] is not SfuState.READY:
            return outcome
        if session.lost:  # it came too late by this much
            return SfuState.CONNECTING, self.reason
        self._settle()
        self._session = session
        self._become(SfuState.READY, "")
        self._log.info("Janus %s is %s", self.version, "back, and its streams go on" if claimed else "ready")
        if not self._reclaim:
            self._log.warning(
                "Janus keeps no session whose connection breaks (reclaim_session_timeout): calls end with it"
            )
        upkeep = asyncio.create_task(self._upkeep(http, session, claimed), name="janus-upkeep")
        try:
            await asyncio.wait([running])
        finally:
            upkeep.cancel()
            await asyncio.wait([upkeep])
        self._ended(session, running.result())
        return outcome

    async def _open(self, session: JanusSession) -> Outcome:
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
        self._reclaim = server.reclaim
        return SfuState.READY, ""

    async def _claim(self, session: JanusSession) -> Outcome:
        try:
            async with asyncio.timeout(min(self._timeout, CONNECT)):
                await session.claim()
        except JanusError as error:
            session.over = error.code == NO_SUCH_SESSION
            self._lose(f"the session cannot be claimed: {error}")
            return SfuState.CONNECTING, self.reason
        except (TimeoutError, McuLost):
            return SfuState.CONNECTING, "it does not answer"
        return SfuState.READY, ""

    def _ended(self, session: JanusSession, why: str) -> None:
        """Keep a session whose connection ended for as long as it can be claimed."""
        loop = asyncio.get_running_loop()
        self._session, self._kept, self._away = None, session, loop.time()
        until = session.heard + self._reclaim  # Janus, too, counts from the last request
        if session.over or until <= loop.time():
            self._lose(why)
            return
        self._too_late = loop.call_at(until, self._lose, why)
        self._log.warning("Janus is away: %s; its streams go on while the session can be claimed", why)
        self._become(SfuState.CONNECTING, why)

    def _lose(self, why: str) -> None:
        """Give up the session that was to be claimed, if there is one, and tell its streams."""
        session = self._kept
        self._settle()
        if session is None:
            return
        self._log.warning("Janus is lost: %s", why)
        self._become(SfuState.CONNECTING, why)
        if not session.over:
            self.old.add(session.id)
        session.lose()

    def _settle(self) -> None:
        """Keep no session to be claimed any more."""
        self._kept = None
        if self._too_late is not None:
            self._too_late.cancel()
            self._too_late = None

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
