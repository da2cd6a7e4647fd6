"""The connection to one Janus server: connect, check, keep alive, reconnect.

When the connection breaks and Janus still runs, the session is claimed over the next connection, and its streams go on;
they are lost when Janus is gone, has ended the session, or does not come back in time. A cause is logged once, not at
each attempt, and never with an address (invariant 7).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import aiohttp

from mcu.base import McuLost, Rejected, SfuState
from mcu.janus.connection.back_off import back_off
from mcu.janus.connection.diagnosis import refusal
from mcu.janus.connection.log import JanusLog
from mcu.janus.connection.messages import (
    NO_SUCH_SESSION,
    RECOMMENDED_VERSION,
    JanusError,
    JanusMessage,
    loggable,
    reason_unusable,
    restriction,
    server_details,
    version_numbers,
)
from mcu.janus.connection.session import Clock, JanusSession
from mcu.janus.connection.web_socket import NO_ANSWER, NoConnection, close, open_socket
from mcu.janus.settings import JanusServerSettings

CONNECT_TIMEOUT = 2.0  # seconds for one attempt to connect, or to claim; a frozen Janus does not answer it
TCP_TIMEOUT = 1.5  # seconds for TCP's part of a connection
STALL_TIMEOUT = 25.0  # seconds after Janus' last frame at which the session with a stalled Janus is given up
UNREACHABLE_TIMEOUT = 10.0  # the same while Janus' host accepts no TCP connection
PROBE_INTERVAL = 0.5  # seconds between attempts at another connection during a stall
ANSWER_WAIT = 1.0  # seconds for an answer over the stalled connection once another one has succeeded
CLOSE_TIMEOUT = 1.0  # seconds for the closing handshake: a frozen Janus never answers it
MIN_LIFETIME = 1.0  # seconds; after a connection that was shorter there is a pause before the next one

STALL_REASON = "Janus does not answer any more"
NO_ATTEMPT = "Janus has not been asked yet"


Outcome = tuple[SfuState, str]  # the state after an attempt, and the reason
Check = Callable[[JanusSession], Coroutine[Any, Any, str]]
Upkeep = Callable[[aiohttp.ClientSession, JanusSession, bool], Coroutine[Any, Any, None]]


class JanusConnector:
    """Keeps one session with a Janus; ``on_change`` is called after each change of the public attributes.

    ``check`` returns one sentence why streams cannot be published over a new session, empty if they can. ``upkeep``
    runs while the session can be used; its last argument says whether the session was claimed.
    """

    def __init__(
        self,
        settings: JanusServerSettings,
        timeout: float,
        instance: str,
        log: JanusLog,
        clock: Clock,
        wall_clock: Clock,
        on_change: Callable[[], None],
        check: Check,
        upkeep: Upkeep,
    ) -> None:
        self.state = SfuState.CONNECTING
        self.reason = NO_ATTEMPT  # of any state but READY
        self.name = ""
        self.details: dict[str, Any] = {}
        self.version = ""
        self.event_handlers = False  # whether Janus reports events, to this gateway or elsewhere
        self.restriction = ""  # one sentence about the functions that a usable Janus lacks
        self.connected_since = 0.0  # unix time
        self.settings = settings  # of the next connection
        self.abandoned: set[int] = set()  # sessions that were given up and that Janus may still have
        self._timeout = timeout
        self._instance = instance
        self._log = log
        self._clock = clock
        self._wall_clock = wall_clock
        self._on_change = on_change
        self._check = check
        self._upkeep = upkeep
        self._session: JanusSession | None = None  # the usable session
        self._claimable: JanusSession | None = None  # the session to be claimed over the next connection
        self._claim_deadline: asyncio.TimerHandle | None = None
        self._dead_socket: aiohttp.ClientWebSocketResponse | None = None  # open until its session has been claimed
        self._reclaim_timeout = 0.0  # seconds for which Janus keeps a session without a connection
        self._disconnected_at = 0.0
        self._changed = asyncio.Event()  # replaced at each change
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to connect and return at once; also after ``stop``."""
        self._set_state(SfuState.CONNECTING, NO_ATTEMPT)
        self._task = asyncio.create_task(self._run(), name="janus")

    async def stop(self) -> None:
        """End the session on Janus, and disconnect. Idempotent."""
        session, self._session = self._session, None
        if session is not None:  # otherwise Janus would keep it to be claimed
            await asyncio.wait([session.post("destroy")], timeout=CLOSE_TIMEOUT)
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            _, running = await asyncio.wait([task], timeout=3 * CLOSE_TIMEOUT)
            if running:
                self._log.error("the connection to Janus did not end within %g s", 3 * CLOSE_TIMEOUT)
        self._lose_claimable("stopped")
        self._set_state(SfuState.STOPPED, "stopped")

    def give_up_claim(self) -> None:
        """Lose the streams of a broken connection now instead of waiting for the claim; no effect while connected."""
        self._lose_claimable("it is not waited for any longer")

    async def wait_for_session(self) -> JanusSession:
        """Return the session, waiting for a connection to Janus; the caller sets the time limit.

        Raises:
            Rejected: this Janus cannot be used.
            McuLost: the connector has been stopped.
        """
        while (session := self.session) is None:
            if self.state is SfuState.REFUSED:
                raise Rejected(self.reason)
            if self.state is SfuState.STOPPED:
                raise McuLost(self.reason)
            await self._changed.wait()
        return session

    @property
    def reclaim_timeout(self) -> float:
        """Seconds for which Janus keeps a session without a connection, as it reported last."""
        return self._reclaim_timeout

    @property
    def session(self) -> JanusSession | None:
        """The session while it can be used."""
        return self._session

    async def _run(self) -> None:
        self._disconnected_at, refusals, retried_at_once = self._clock(), 0, False
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(sock_connect=TCP_TIMEOUT)) as http:
            while True:
                if self._claimable is None:
                    await self._close_dead_socket()
                begun, claimable = self._clock(), self._claimable
                state, reason = await self._attempt(http)
                lasted = state is SfuState.READY and self._clock() - begun > MIN_LIFETIME
                if lasted or (claimable is not self._claimable and not retried_at_once):
                    # Janus was there a moment ago: connect again without a pause, but once only unless it lasted.
                    refusals, retried_at_once = 0, not lasted
                    continue
                retried_at_once = False
                refusals = refusals + 1 if state is SfuState.REFUSED else 0
                if state is not SfuState.READY:
                    if self._claimable is None and reason != self.reason:
                        self._log.warning("Janus cannot be used yet: %s; media requests wait, we keep trying", reason)
                    self._set_state(state, reason)
                await asyncio.sleep(back_off(self._clock() - self._disconnected_at, refusals, random.random()))

    async def _attempt(self, http: aiohttp.ClientSession) -> Outcome:
        try:
            return await self._connect(http)
        except Exception:  # unhandled it would end the task, and Janus would not be tried again
            self._log.exception("the connection to Janus failed")
            self._session = None
            return SfuState.CONNECTING, "an internal error"

    async def _connect(self, http: aiohttp.ClientSession) -> Outcome:
        """Connect once and use the session until the connection ends; READY: the session could be used until then."""
        try:
            socket = await self._open_socket(http)
        except NoConnection as error:
            if error.gone:
                self._lose_claimable(str(error))
            return SfuState.CONNECTING, str(error)
        session = self._claimable or JanusSession(self.settings.secrets, self._instance, self._log, self._clock)
        carrying = asyncio.create_task(session.carry(socket), name="janus-session")
        try:
            return await self._use(http, session, carrying)
        finally:
            if session is not self._claimable and session.id and session.carried and not session.lost:
                # otherwise Janus would keep the session to be claimed
                await asyncio.wait([session.post("destroy")], timeout=CLOSE_TIMEOUT)
            await cancel(carrying)
            if session is not self._claimable:
                session.lose()
            if session is self._claimable and not socket.closed and self._dead_socket is None:
                self._dead_socket = socket  # kept open: a Janus without a reclaim timeout ends the session with it
            else:
                await close(socket)

    async def _open_socket(self, http: aiohttp.ClientSession) -> aiohttp.ClientWebSocketResponse:
        """Connect to Janus' WebSocket API.

        Raises:
            NoConnection: the attempt failed.
        """
        limit = min(self._timeout, CONNECT_TIMEOUT)
        return await open_socket(http, self.settings.url, limit, CLOSE_TIMEOUT)

    async def _close_dead_socket(self) -> None:
        socket, self._dead_socket = self._dead_socket, None
        if socket is not None:
            await close(socket)

    async def _use(self, http: aiohttp.ClientSession, session: JanusSession, carrying: asyncio.Task[str]) -> Outcome:
        claiming = session is self._claimable
        outcome = await self._open_or_claim(session, carrying, claiming=claiming)
        if outcome[0] is not SfuState.READY:
            return outcome
        if session.lost:  # the claim succeeded just after the deadline
            return SfuState.CONNECTING, self.reason
        await self._close_dead_socket()
        self._log.info("Janus %s is %s", self.version, "back, and its streams go on" if claiming else "ready")
        if not self._reclaim_timeout:
            self._log.warning(
                "Janus keeps no session whose connection breaks (reclaim_session_timeout): calls end with it"
            )
        while await self._use_until_stall(http, session, carrying, claimed=claiming):
            if not await self._wait_until_answering(http, session, carrying):
                break
            self._log.info("Janus answers again, and its streams go on")
            claiming = False
        return outcome

    async def _use_until_stall(
        self, http: aiohttp.ClientSession, session: JanusSession, carrying: asyncio.Task[str], *, claimed: bool
    ) -> bool:
        """Use the session until Janus stalls (return true) or the connection ends (return false)."""
        self._clear_claimable()
        self._session = session
        self._set_state(SfuState.READY, "")
        upkeep = asyncio.create_task(self._upkeep(http, session, claimed), name="janus-upkeep")
        stalled = asyncio.create_task(session.stalled.wait(), name="janus-stalled")
        try:
            await asyncio.wait([carrying, stalled], return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancel(upkeep, stalled)
        if carrying.done():
            self._on_disconnected(session, carrying.result())
            return False
        return True

    async def _wait_until_answering(
        self, http: aiohttp.ClientSession, session: JanusSession, carrying: asyncio.Task[str]
    ) -> bool:
        """Wait while a stalled Janus keeps the connection up; return whether Janus answers over this connection again.

        If not, the session is lost, or has to be claimed over another connection because this one is dead.
        """
        self._session, self._claimable, self._disconnected_at = None, session, self._clock()
        self._give_up_at(session.last_received + max(STALL_TIMEOUT, self._reclaim_timeout), STALL_REASON)
        self._log.warning("%s; its streams go on if it comes back in time", STALL_REASON)
        self._set_state(SfuState.CONNECTING, STALL_REASON)
        answering = asyncio.create_task(session.answering.wait(), name="janus-answering")
        probe = asyncio.create_task(self._probe(http, session), name="janus-probe")
        try:
            await asyncio.wait([carrying, answering, probe], return_when=asyncio.FIRST_COMPLETED)
            if probe.done():  # Janus is there: it would answer over this connection as well
                await asyncio.wait([carrying, answering], timeout=ANSWER_WAIT, return_when=asyncio.FIRST_COMPLETED)
            answers = answering.done()
        finally:
            await cancel(answering, probe)
        if carrying.done():
            self._on_disconnected(session, carrying.result())
            return False
        return answers

    async def _probe(self, http: aiohttp.ClientSession, session: JanusSession) -> None:
        """Try to connect until an attempt succeeds; if there is no Janus any more, give up the session and return."""
        while True:
            try:
                socket = await self._open_socket(http)
            except NoConnection as error:
                if error.gone:
                    self._lose_claimable(str(error))
                    return
                if not error.reached:
                    deadline = session.last_received + max(UNREACHABLE_TIMEOUT, self._reclaim_timeout)
                    self._give_up_at(max(deadline, self._clock()), STALL_REASON)
                else:
                    self._give_up_at(session.last_received + max(STALL_TIMEOUT, self._reclaim_timeout), STALL_REASON)
            else:
                await close(socket)
                return
            await asyncio.sleep(PROBE_INTERVAL)

    async def _open_or_claim(self, session: JanusSession, carrying: asyncio.Task[str], *, claiming: bool) -> Outcome:
        opening = asyncio.create_task(self._claim(session) if claiming else self._open(session), name="janus-open")
        try:
            await asyncio.wait([opening, carrying], return_when=asyncio.FIRST_COMPLETED)
            if not opening.done():
                return SfuState.CONNECTING, "the connection was closed"
        finally:
            opening.cancel()
            await asyncio.wait([opening])
        return opening.result()

    async def _open(self, session: JanusSession) -> Outcome:
        try:
            async with asyncio.timeout(self._timeout):
                server_info = await session.request("info")
                reason = reason_unusable(server_info)
                if not reason:
                    await session.open()
                    reason = await self._check(session)
        except JanusError as error:
            return SfuState.REFUSED, refusal(error)
        except (TimeoutError, McuLost):
            return SfuState.CONNECTING, NO_ANSWER
        if reason:
            return SfuState.REFUSED, reason
        self._apply(server_info)
        return SfuState.READY, ""

    def _apply(self, server_info: JanusMessage) -> None:
        before = self.version
        self.name, self.version = loggable(server_info.name), loggable(server_info.version_string)
        self.details = server_details(server_info)
        self.restriction = restriction(server_info)
        self._reclaim_timeout = server_info.reclaim_timeout
        self.event_handlers = server_info.event_handlers
        if self.version != before and () < version_numbers(self.version) < RECOMMENDED_VERSION:
            self._log.warning(
                "Janus %s lacks security fixes; %s is the oldest version that is recommended",
                self.version,
                ".".join(map(str, RECOMMENDED_VERSION)),
            )
        if self.restriction:
            self._log.warning("%s", self.restriction)

    async def _claim(self, session: JanusSession) -> Outcome:
        try:
            async with asyncio.timeout(min(self._timeout, CONNECT_TIMEOUT)):
                await session.claim()
        except JanusError as error:
            session.ended_by_janus = error.code == NO_SUCH_SESSION
            self._lose_claimable(f"the session cannot be claimed: {error}")
            return SfuState.CONNECTING, self.reason
        except (TimeoutError, McuLost):
            return SfuState.CONNECTING, NO_ANSWER
        return SfuState.READY, ""

    def _on_disconnected(self, session: JanusSession, reason: str) -> None:
        """Keep the session of a connection that has ended for as long as it can be claimed."""
        now = self._clock()
        if session.lost:
            return
        self._session, self._claimable, self._disconnected_at = None, session, now
        deadline = session.last_received + self._reclaim_timeout  # an estimate: Janus counts from the last request
        if session.ended_by_janus or deadline <= now:
            self._lose_claimable(reason)
            return
        self._give_up_at(deadline, reason)
        self._log.warning("Janus is away: %s; its streams go on while the session can be claimed", reason)
        self._set_state(SfuState.CONNECTING, reason)

    def _give_up_at(self, deadline: float, reason: str) -> None:
        """Lose the streams of the claimable session at ``deadline``, unless Janus is back before."""
        if self._claim_deadline is not None:
            self._claim_deadline.cancel()
        delay = deadline - self._clock()
        self._claim_deadline = asyncio.get_running_loop().call_later(delay, self._lose_claimable, reason)

    def _lose_claimable(self, reason: str) -> None:
        """Give up the session that was to be claimed, if there is one: its streams are lost."""
        session = self._claimable
        self._clear_claimable()
        if session is None:
            return
        self._log.warning("Janus is lost: %s", reason)
        self._set_state(SfuState.CONNECTING, reason)
        if not session.ended_by_janus:
            self.abandoned.add(session.id)
        session.lose()

    def _clear_claimable(self) -> None:
        self._claimable = None
        if self._claim_deadline is not None:
            self._claim_deadline.cancel()
            self._claim_deadline = None

    def _set_state(self, state: SfuState, reason: str) -> None:
        changed = (state, reason) != (self.state, self.reason)
        self.state, self.reason = state, reason
        self.connected_since = self._wall_clock() if state is SfuState.READY else 0.0
        self._changed.set()
        self._changed = asyncio.Event()
        if changed:
            self._on_change()


async def cancel(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait until they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
