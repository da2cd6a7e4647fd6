"""A call whose SFU is killed and stalled again and again, and how long each kind of client is without media.

The kinds are those of docs/mcu.md, "When streams are lost": (a) publishers that are asked to offer again, (b)
publishers that know the protocol document only, (c) subscribers.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from statistics import median

import aiohttp
import aioice.ice
import pytest

from gateway.app import Gateway
from gateway.config import Config, HttpSection, McuSection, SessionsSection
from gateway.tools.fake_nextcloud import FakeNextcloud
from gateway.tools.talk_publishing import PublisherPeer
from mcu.janus.settings import JanusServerSettings
from tests.interop.forsaken import Asked, Caller, Unasked
from tests.interop.member import Watched
from tests.janus_process import ADMIN_KEY, ADMIN_SECRET, API_SECRET, JanusProcess

LIMIT = 60.0  # seconds for media to flow again, an outage of some seconds included
LOOK = 0.02  # seconds between two looks at what flows
STEADY = 5  # pictures that a stream must go on by
NOTICED = 0.3  # seconds after which a killed Janus is told of; measured: some milliseconds
STALL_NOTICED = 8.0  # the same of one that stands still
CLEAN = 90.0  # seconds; what nobody owns is swept once a minute
SECRET = "6f1b0c7d9ae24835b6cf01d27e9a4488"


@dataclass
class Pair:
    """Who receives whom."""

    watcher: Caller
    publisher: Caller

    @property
    def watched(self) -> Watched | None:
        """The connection by which the picture comes."""
        return self.watcher.watched.get((self.publisher.id, "video"))

    @property
    def sid(self) -> str:
        """What the connection is called."""
        return "" if self.watched is None else self.watched.sid

    @property
    def frames(self) -> int:
        """How many pictures came by it."""
        return 0 if self.watched is None else sum(self.watched.peer.frames.values())

    @property
    def seen(self) -> bool:
        """Whether it is the publisher's picture."""
        return self.watched is not None and self.publisher.number in self.watched.peer.numbers.values()

    async def new(self, old: str) -> float:
        """Return when the picture is there by another connection."""
        await _until(lambda: self.sid != old and self.seen, self._say)
        return time.monotonic()

    async def steady(self) -> None:
        """Return when the picture goes on."""
        sid, frames = self.sid, self.frames

        def goes_on() -> bool:
            nonlocal sid, frames
            if self.sid != sid:
                sid, frames = self.sid, self.frames
            return self.seen and self.frames >= frames + STEADY

        await _until(goes_on, self._say)

    def _say(self) -> str:
        state = "nothing" if self.watched is None else self.watched.peer.state()
        return f"{self.watcher.name} does not see {self.publisher.name}: {state}"


async def _until(condition: Callable[[], bool], say: Callable[[], str]) -> None:
    try:
        async with asyncio.timeout(LIMIT):
            while not condition():  # noqa: ASYNC110 - decoded pictures of many connections
                await asyncio.sleep(LOOK)
    except TimeoutError:
        raise AssertionError(say()) from None


@dataclass
class Times:
    """Seconds without media, by kind of client."""

    a: list[float] = field(default_factory=list)  # publishers, from the moment Janus accepts connections
    b: list[float] = field(default_factory=list)  # publishers and who receives them, from the client's own offer
    c: list[float] = field(default_factory=list)  # who receives (a), from the moment Janus accepts connections
    stalls: list[float] = field(default_factory=list)  # until everybody sees everybody, from the end of the stall

    def table(self) -> str:
        """Return rows of Markdown."""
        rows = [f"| {kind} | {len(them)} | {median(them):.2f} s | {max(them):.2f} s |" for kind, them in self._rows()]
        return "\n".join(["| Kind | Measured | Median | Worst |", "|---|---|---|---|", *rows])

    def _rows(self) -> list[tuple[str, list[float]]]:
        what = {
            "(a) publishers that are asked, after Janus accepts connections": self.a,
            "(b) publishers that are not, after their own offer": self.b,
            "(c) who receives (a), after Janus accepts connections": self.c,
            "everybody, after a stall": self.stalls,
        }
        return [(kind, them) for kind, them in what.items() if them]


@dataclass
class HealingCall:
    """Three callers who receive each other through a Janus that fails."""

    url: str
    janus: JanusProcess
    callers: list[Caller]
    times: Times = field(default_factory=Times)

    @property
    def pairs(self) -> list[Pair]:
        """Return who receives whom."""
        return [Pair(*two) for two in itertools.permutations(self.callers, 2)]

    async def begin(self) -> None:
        """Let everybody publish, ask for each other, and see each other."""
        for caller in self.callers:
            await caller.begin()
        for pair in self.pairs:
            await pair.watcher.ask(pair.publisher)
        await self.steady()

    async def steady(self) -> None:
        """Wait until everybody's picture goes on everywhere."""
        await asyncio.gather(*(pair.steady() for pair in self.pairs))

    async def kill(self, *, away: float, again: float | None = None) -> None:
        """Kill Janus, start it after ``away`` seconds, and once more ``again`` seconds into the recovery."""
        if again is not None:
            await self.janus.kill()
            await self.janus.start()
            await asyncio.sleep(again)
        asked = [(it, it.connection if it.connected else None) for it in self.callers if isinstance(it, Asked)]
        watched = [(pair, pair.sid) for pair in self.pairs]
        await self.janus.kill()
        await asyncio.sleep(away)
        if away >= NOTICED:
            assert await self.ready() == 503
        await self.janus.start()
        there = time.monotonic()
        publish = [self._publishes(*it, there) for it in asked]
        await asyncio.gather(*publish, *(self._recovers(*it, there) for it in watched))
        await self.steady()

    async def _publishes(self, caller: Asked, old: PublisherPeer | None, there: float) -> None:
        await _until(lambda: caller.connection is not old and caller.connected, lambda: f"{caller.name} publishes not")
        self.times.a.append(time.monotonic() - there)

    async def _recovers(self, pair: Pair, old: str, there: float) -> None:
        seen = await pair.new(old)
        if isinstance(pair.publisher, Asked):
            self.times.c.append(seen - there)
        else:
            self.times.b.append(seen - max(pair.publisher.offered, there))

    async def stall(self, seconds: float) -> None:
        """Let Janus stand still."""
        self.janus.freeze()
        await asyncio.sleep(seconds)
        if seconds >= STALL_NOTICED:
            assert await self.ready() == 503
        self.janus.thaw()
        there = time.monotonic()
        await self.steady()
        self.times.stalls.append(time.monotonic() - there)

    async def end(self) -> None:
        """Let everybody leave the call, and wait until Janus holds nothing of it."""
        for caller in self.callers:
            await caller.rest()
            await caller.in_call(0)
        rooms, handles = await self.janus.rooms(), await self.janus.handles()
        try:
            async with asyncio.timeout(CLEAN):
                while rooms or len(handles) > 1:
                    await asyncio.sleep(0.2)
                    rooms, handles = await self.janus.rooms(), await self.janus.handles()
        except TimeoutError:
            raise AssertionError(f"left on Janus: {len(rooms)} rooms, {len(handles)} handles") from None

    async def ready(self) -> int:
        """Return the status of the readiness check."""
        async with aiohttp.ClientSession() as http, http.get(self.url + "/readyz") as response:
            return response.status


@asynccontextmanager
async def healing_call() -> AsyncIterator[HealingCall]:
    """Start Nextcloud, Janus and gateway, and let three enter a call."""
    async with AsyncExitStack() as stack:
        nextcloud = await stack.enter_async_context(FakeNextcloud())
        janus = await stack.enter_async_context(JanusProcess())
        server = JanusServerSettings(
            janus.url,
            api_secret=API_SECRET,
            admin_key=ADMIN_KEY,
            admin_url=janus.admin_url,
            admin_secret=ADMIN_SECRET,
        )
        gateway = Gateway(
            Config(
                sessions=SessionsSection(secret=SECRET),
                http=HttpSection(listen=("127.0.0.1:0",)),
                backends=(nextcloud.backend(),),
                mcu=McuSection(type="janus", settings=(server,)),
            )
        )
        (url,) = await gateway.start()
        stack.push_async_callback(gateway.stop)
        kinds: tuple[type[Caller], ...] = (Asked, Unasked, Asked)
        callers = [
            kind(url, nextcloud, name, number)
            for number, (kind, name) in enumerate(zip(kinds, ("anna", "ben", "cleo"), strict=True), 1)
        ]
        for caller in callers:
            await stack.enter_async_context(caller)
            await caller.in_call()
        yield HealingCall(url, janus, callers)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let PeerConnections of the tests fail after some seconds without consent, and not after thirty."""
    monkeypatch.setattr(aioice.ice, "CONSENT_INTERVAL", 1)
    monkeypatch.setattr(aioice.ice, "CONSENT_FAILURES", 3)
