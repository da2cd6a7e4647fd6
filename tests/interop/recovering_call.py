"""A call whose SFU is killed and stalled repeatedly, and the outages of its members.

The groups are those of docs/mcu.md, "When streams are lost": (a) publishers that the gateway asks to offer again, (b)
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
from tests.interop.conftest import SECRET
from tests.interop.member import ReceivedStream
from tests.interop.recovering_member import ProtocolOnlyMember, RecoveringMember, RepublishingMember
from tests.janus_process import ADMIN_KEY, ADMIN_SECRET, API_SECRET, JanusProcess

TIMEOUT = 60.0  # seconds for media to flow again, an outage of some seconds included
POLL_INTERVAL = 0.02  # seconds between two checks of the decoded pictures
STEADY_PICTURES = 5  # pictures decoded after which a stream counts as flowing
KILL_DETECTED = 0.3  # seconds; a killed Janus that is away for longer has to be reported
STALL_DETECTED = 8.0  # seconds; a longer stall has to be reported
CLEAN_UP_TIMEOUT = 90.0  # seconds; orphan handles are swept once a minute


@dataclass
class Reception:
    """The video of one member at another one."""

    subscriber: RecoveringMember
    publisher: RecoveringMember

    @property
    def received(self) -> ReceivedStream | None:
        """The connection on which the video is received."""
        return self.subscriber.received.get((self.publisher.id, "video"))

    @property
    def sid(self) -> str:
        """The sid of the connection; empty without one."""
        return "" if self.received is None else self.received.sid

    @property
    def frames(self) -> int:
        """The pictures decoded on the connection."""
        return 0 if self.received is None else sum(self.received.peer.frames.values())

    @property
    def decoded(self) -> bool:
        """Whether a picture of the publisher was decoded on the connection."""
        return self.received is not None and self.publisher.number in self.received.peer.numbers.values()

    async def wait_for_new_connection(self, old_sid: str) -> float:
        """Wait for a picture on another connection, and return its time."""
        await _until(lambda: self.sid != old_sid and self.decoded, self._describe)
        return time.monotonic()

    async def wait_until_steady(self) -> None:
        """Wait until the video flows."""
        sid, frames = self.sid, self.frames

        def is_steady() -> bool:
            nonlocal sid, frames
            if self.sid != sid:
                sid, frames = self.sid, self.frames
            return self.decoded and self.frames >= frames + STEADY_PICTURES

        await _until(is_steady, self._describe)

    def _describe(self) -> str:
        state = "nothing" if self.received is None else self.received.peer.state()
        return f"{self.subscriber.name} does not receive {self.publisher.name}: {state}"


async def _until(condition: Callable[[], bool], describe: Callable[[], str]) -> None:
    try:
        async with asyncio.timeout(TIMEOUT):
            while not condition():  # noqa: ASYNC110 - decoded pictures of many connections
                await asyncio.sleep(POLL_INTERVAL)
    except TimeoutError:
        raise AssertionError(describe()) from None


@dataclass
class Outages:
    """Seconds without media, by group of clients."""

    republishing: list[float] = field(default_factory=list)  # (a), from the moment Janus accepts connections
    protocol_only: list[float] = field(default_factory=list)  # (b) and their subscribers, from the client's own offer
    subscribers: list[float] = field(default_factory=list)  # (c) of (a), from the moment Janus accepts connections
    stalls: list[float] = field(default_factory=list)  # until all video flows, from the end of the stall

    def table(self) -> str:
        """Return a Markdown table."""
        rows = [
            f"| {group} | {len(durations)} | {median(durations):.2f} s | {max(durations):.2f} s |"
            for group, durations in self._rows()
        ]
        return "\n".join(["| Group | Measured | Median | Worst |", "|---|---|---|---|", *rows])

    def _rows(self) -> list[tuple[str, list[float]]]:
        groups = {
            "(a) publishers that are asked, after Janus accepts connections": self.republishing,
            "(b) publishers that are not, after their own offer": self.protocol_only,
            "(c) subscribers of (a), after Janus accepts connections": self.subscribers,
            "all, after a stall": self.stalls,
        }
        return [(group, outages) for group, outages in groups.items() if outages]


@dataclass
class RecoveringCall:
    """Three members that receive each other through a failing Janus."""

    url: str
    janus: JanusProcess
    members: list[RecoveringMember]
    outages: Outages = field(default_factory=Outages)

    @property
    def receptions(self) -> list[Reception]:
        """The receptions of each member's video by each other member."""
        return [Reception(*pair) for pair in itertools.permutations(self.members, 2)]

    async def begin(self) -> None:
        """Have all members publish and receive each other."""
        for member in self.members:
            await member.begin()
        for reception in self.receptions:
            await reception.subscriber.request_offer(reception.publisher)
        await self.wait_until_steady()

    async def wait_until_steady(self) -> None:
        """Wait until all video flows."""
        await asyncio.gather(*(reception.wait_until_steady() for reception in self.receptions))

    async def kill(self, *, away: float, killed_before: float | None = None) -> None:
        """Kill Janus, start it after ``away`` seconds, and record the outages.

        ``killed_before``: it is also killed this many seconds before, so that the recovery is interrupted.
        """
        if killed_before is not None:
            await self.janus.kill()
            await self.janus.start()
            await asyncio.sleep(killed_before)
        republishing = [member for member in self.members if isinstance(member, RepublishingMember)]
        published = [(member, member.connection if member.connected else None) for member in republishing]
        received = [(reception, reception.sid) for reception in self.receptions]
        await self.janus.kill()
        await asyncio.sleep(away)
        if away >= KILL_DETECTED:
            await self.wait_for_readiness(503)
        await self.janus.start()
        restored_at = time.monotonic()
        await asyncio.gather(
            *(self._measure_publishing(*old, restored_at) for old in published),
            *(self._measure_reception(*old, restored_at) for old in received),
        )
        await self.wait_until_steady()

    async def _measure_publishing(
        self, member: RepublishingMember, old: PublisherPeer | None, restored_at: float
    ) -> None:
        await _until(
            lambda: member.connection is not old and member.connected, lambda: f"{member.name} does not publish"
        )
        self.outages.republishing.append(time.monotonic() - restored_at)

    async def _measure_reception(self, reception: Reception, old_sid: str, restored_at: float) -> None:
        decoded_at = await reception.wait_for_new_connection(old_sid)
        if isinstance(reception.publisher, RepublishingMember):
            self.outages.subscribers.append(decoded_at - restored_at)
        else:
            self.outages.protocol_only.append(decoded_at - max(reception.publisher.offered_at, restored_at))

    async def stall(self, seconds: float) -> None:
        """Stall Janus, and record the outage."""
        self.janus.freeze()
        await asyncio.sleep(seconds)
        if seconds >= STALL_DETECTED:
            await self.wait_for_readiness(503)
        self.janus.thaw()
        restored_at = time.monotonic()
        await self.wait_until_steady()
        self.outages.stalls.append(time.monotonic() - restored_at)

    async def end(self) -> None:
        """Have all members leave the call, and wait until Janus has no room and no handle of it."""
        for member in self.members:
            await member.stop()
            await member.set_in_call(0)
        rooms, handles = await self.janus.rooms(), await self.janus.handles()
        try:
            async with asyncio.timeout(CLEAN_UP_TIMEOUT):
                while rooms or len(handles) > 1:
                    await asyncio.sleep(0.2)
                    rooms, handles = await self.janus.rooms(), await self.janus.handles()
        except TimeoutError:
            raise AssertionError(f"left on Janus: {len(rooms)} rooms, {len(handles)} handles") from None

    async def wait_for_readiness(self, status: int) -> None:
        """Wait until the readiness check has an HTTP status."""
        async with asyncio.timeout(TIMEOUT), aiohttp.ClientSession() as http:
            while True:
                async with http.get(self.url + "/readyz") as response:
                    if response.status == status:
                        return
                await asyncio.sleep(POLL_INTERVAL)


@asynccontextmanager
async def recovering_call() -> AsyncIterator[RecoveringCall]:
    """Start Nextcloud, Janus and the gateway, and have three members join a call."""
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
        nextcloud.gateway = url
        stack.push_async_callback(gateway.stop)
        classes: tuple[type[RecoveringMember], ...] = (RepublishingMember, ProtocolOnlyMember, RepublishingMember)
        members = [
            cls(url, nextcloud, name, number)
            for number, (cls, name) in enumerate(zip(classes, ("anna", "ben", "cleo"), strict=True), 1)
        ]
        for member in members:
            await stack.enter_async_context(member)
            await member.set_in_call()
        yield RecoveringCall(url, janus, members)


@pytest.fixture
def fast_consent_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the PeerConnections of the tests fail after some seconds without consent instead of thirty."""
    monkeypatch.setattr(aioice.ice, "CONSENT_INTERVAL", 1)
    monkeypatch.setattr(aioice.ice, "CONSENT_FAILURES", 3)
