"""Typed fakes of what the flows need from outside: a connection, a Nextcloud, an SFU.

They keep the promises of ``gateway.flows.ports`` and ``mcu.base``; what they were told is there to be looked at, and
gates hold back their answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

import msgspec

from gateway.core.ids import ConnectionId
from gateway.core.limits import Backend
from gateway.core.outbox import Outbox
from gateway.flows.ports import NextcloudError
from gateway.wire.backend import AuthRequest, BackendAnswer, BackendRequest, RoomRequest, SessionRequest
from mcu.base import (
    Candidate,
    CloseReason,
    Layer,
    Listener,
    McuError,
    McuLost,
    McuStatus,
    Measure,
    NewPeerConnection,
    NoSuchStream,
    PublishOptions,
    SfuState,
    SfuStatus,
    StreamKey,
    StreamReport,
    SubscribeOptions,
)
from sdp import document
from tests.gateway.flows.descriptions import ANSWER, subscriber_offer

Json = dict[str, Any]


class FakeConnection:
    """Drains at once what it is given, unless it is ``stuck``: then as a client that reads nothing."""

    def __init__(self, number: int, address: str = "192.0.2.1") -> None:
        self._id = ConnectionId(number)
        self.address = ip_address(address)
        self.user_agent = "fake/1.0 client"
        self._own: list[bytes] = []
        self._outbox: Outbox | None = None
        self.written: list[bytes] = []
        self.stuck = False
        self.paused = False
        self.finished = False

    @property
    def id(self) -> ConnectionId:
        return self._id

    def send(self, message: bytes) -> None:
        self._own.append(message)
        self._flush()

    def adopt(self, outbox: Outbox) -> None:
        outbox.rewind()
        self._outbox = outbox
        self._flush()

    def wake(self) -> None:
        self._flush()

    def finish(self) -> None:
        self.finished = True

    def displace(self, last: bytes) -> None:
        self._release()
        self.send(last)
        self.finish()

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def lose(self) -> None:
        """End as a broken line does: nothing of what waits is written."""
        self.stuck = True
        self._release()

    def _flush(self) -> None:
        if self.stuck:
            return
        self.written += self._own
        self._own.clear()
        if self._outbox is not None:
            self.written += self._outbox.take(1 << 30)
            self._outbox.confirm()

    def _release(self) -> None:
        if self._outbox is not None:
            self._outbox.rewind()
            self._outbox = None


@dataclass(slots=True)
class FakeRoom:
    """What a join of this room is answered with; ``error`` (an error object) refuses it, and leaves too if told so."""

    properties: Any = None
    permissions: list[str] | None = None
    session: Json | None = None
    error: Json | None = None
    refuses_leaves: bool = False


class FakeNextcloudPort:
    """Answers as Talk does; ``answer`` may answer in its place, ``gate`` holds back every answer until it is set."""

    def __init__(self) -> None:
        self.asked: list[tuple[Backend, str, BackendRequest]] = []
        self.rooms: dict[str, FakeRoom] = {}
        self.refuse_unknown_rooms = False
        self.answer: Callable[[BackendRequest], Json | NextcloudError | None] = lambda request: None
        self.gate: asyncio.Event | None = None
        self.keys: dict[str, str] = {}  # hello 2.0, by URL
        self.ping_limit = 0
        self.features: set[str] = set()
        self.capabilities_error: NextcloudError | None = None

    async def ask(self, backend: Backend, url: str, request: BackendRequest) -> BackendAnswer:
        self.asked.append((backend, url, request))
        own = self.answer(request)
        if self.gate is not None:
            await self.gate.wait()
        if isinstance(own, NextcloudError):
            raise own
        answer = self._reply(request) if own is None else own
        try:
            return msgspec.json.decode(msgspec.json.encode(answer), type=BackendAnswer)
        except msgspec.DecodeError as error:
            raise NextcloudError("the answer is not of the expected form") from error

    async def token_key(self, url: str) -> str:
        if self.capabilities_error is not None:
            raise self.capabilities_error
        return self.keys.get(url, "")

    async def supports(self, url: str, feature: str) -> bool:
        return feature in self.features

    async def session_ping_limit(self, url: str) -> int:
        if self.capabilities_error is not None:
            raise self.capabilities_error
        return self.ping_limit

    def ticket(self, userid: str) -> Json:
        """Return the ``params`` of a hello 1.0 for this user; empty: a guest."""
        return {"userid": userid, "ticket": f"ticket of {userid}"}

    def joins(self) -> list[RoomRequest]:
        """Return the joins that were asked for."""
        return [it for it in self._room_requests() if not it.action]

    def leaves(self) -> list[RoomRequest]:
        """Return the leaves that were told."""
        return [it for it in self._room_requests() if it.action == "leave"]

    def sessions(self) -> list[SessionRequest]:
        """Return what was told of virtual sessions."""
        return [request for _, _, request in self.asked if isinstance(request, SessionRequest)]

    def _room_requests(self) -> Iterable[RoomRequest]:
        return [request for _, _, request in self.asked if isinstance(request, RoomRequest)]

    def _reply(self, request: BackendRequest) -> Json:
        if isinstance(request, AuthRequest):
            params = msgspec.json.decode(request.params)
            if not isinstance(params, dict) or params != self.ticket(params.get("userid", "")):
                error = {"code": "invalid_ticket", "message": "The given ticket is not valid for this user."}
                return {"type": "error", "error": error}
            user = {"user": {"displayname": params["userid"].title()}} if params["userid"] else {}
            return {"type": "auth", "auth": {"userid": params["userid"], **user}}
        if isinstance(request, RoomRequest) and not request.action:
            return self._join(request.roomid)
        if isinstance(request, SessionRequest):
            return {"type": "session", "session": {"version": "1.0", "roomid": request.roomid}}
        if isinstance(request, RoomRequest) and self._refuses_leave(request.roomid):
            return self._join(request.roomid)
        return {"type": "room", "room": {}}

    def _refuses_leave(self, roomid: str) -> bool:
        return roomid in self.rooms and self.rooms[roomid].refuses_leaves

    def _join(self, roomid: str) -> Json:
        room = self.rooms.get(roomid)
        if room is None:
            if self.refuse_unknown_rooms:
                error = {"code": "no_such_room", "message": "The user is not invited to this room."}
                return {"type": "error", "error": error}
            room = FakeRoom(properties={"name": roomid, "type": 2})
        if room.error is not None:
            return {"type": "error", "error": room.error}
        optional = {"permissions": room.permissions, "session": room.session, "properties": room.properties}
        given = {name: value for name, value in optional.items() if value is not None}
        return {"type": "room", "room": {"roomid": roomid, **given}}


@dataclass(eq=False, slots=True)
class FakePublisher:
    """A published stream; ``gate`` holds back updates."""

    mcu: FakeMcu
    key: StreamKey
    offer: str
    options: PublishOptions
    to: Listener
    candidates: list[Candidate | None] = field(default_factory=list)
    updates: list[str] = field(default_factory=list)
    limits: list[int] = field(default_factory=list)
    limit_error: McuError | None = None
    limit_gate: asyncio.Event | None = None
    error: McuError | None = None
    gate: asyncio.Event | None = None
    closed: bool = False

    async def update(self, offer: str) -> str:
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        if self.closed:
            raise NoSuchStream("the publisher is closed")
        theirs, ours = document.identity(document.parse(offer)), document.identity(document.parse(self.offer))
        if not theirs.same_peer_connection(ours):
            raise NewPeerConnection("another ufrag and fingerprint")
        self.updates.append(offer)
        return ANSWER

    async def limit(self, bits_per_second: int) -> None:
        gate = self.limit_gate or self.mcu.limit_gate
        if gate is not None:
            await gate.wait()
        if self.limit_error is not None:
            raise self.limit_error
        self.limits.append(bits_per_second)

    async def request_keyframe(self) -> None:
        """Nothing hears it."""

    async def add_candidate(self, candidate: Candidate | None) -> None:
        self.candidates.append(candidate)

    async def close(self) -> None:
        self.end(CloseReason.PUBLISHER_GONE)

    def end(self, reason_for_subscribers: CloseReason, reason: CloseReason | None = None) -> None:
        """Be gone; ``reason`` is told the publisher's listener, when it did not close it itself."""
        if self.closed:
            return
        self.closed = True
        if self.mcu.publishers.get(self.key) is self:
            del self.mcu.publishers[self.key]
        for subscriber in [it for it in self.mcu.subscribers if it.publisher is self]:
            subscriber.end(reason_for_subscribers)
        if reason is not None:
            self.to.on_closed(reason)


@dataclass(eq=False, slots=True)
class FakeSubscriber:
    """A subscription; ``gate`` holds back its verbs."""

    mcu: FakeMcu
    publisher: FakePublisher
    options: SubscribeOptions
    to: Listener
    answers: list[str] = field(default_factory=list)
    candidates: list[Candidate | None] = field(default_factory=list)
    layers: list[Layer] = field(default_factory=list)
    refreshed: int = 0
    error: McuError | None = None
    gate: asyncio.Event | None = None
    closed: bool = False

    async def _work(self) -> None:
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        if self.closed:
            raise NoSuchStream("the subscription is closed")

    @property
    def layer(self) -> Layer:
        """What it receives from the start."""
        return self.options.layer

    async def accept(self, answer: str) -> None:
        await self._work()
        self.answers.append(answer)

    async def refresh(self) -> str:
        await self._work()
        self.refreshed += 1
        return subscriber_offer(f"refreshed {self.refreshed}")

    async def select(self, layer: Layer) -> None:
        await self._work()
        self.layers.append(layer)

    async def add_candidate(self, candidate: Candidate | None) -> None:
        await self._work()
        self.candidates.append(candidate)

    async def close(self) -> None:
        self.end(None)

    def end(self, reason: CloseReason | None) -> None:
        """Be gone; ``reason`` is told the listener, when its owner did not close it itself."""
        if self.closed:
            return
        self.closed = True
        self.mcu.subscribers.remove(self)
        if reason is not None:
            self.to.on_closed(reason)


class FakeMcu:
    """An SFU without media; everything on it is in ``publishers`` and ``subscribers``."""

    def __init__(self) -> None:
        self.publishers: dict[StreamKey, FakePublisher] = {}
        self.subscribers: list[FakeSubscriber] = []
        self.published: list[FakePublisher] = []  # all there ever were
        self.subscribed: list[FakeSubscriber] = []
        self.waiting = 0  # calls of ``publish`` and ``subscribe`` that have not returned
        self.publish_gate: asyncio.Event | None = None
        self.limit_gate: asyncio.Event | None = None
        self.subscribe_gate: asyncio.Event | None = None
        self.publish_error: McuError | None = None
        self.subscribe_error: McuError | None = None
        self.away = False  # verbs wait for it to come back
        self.on_state: Callable[[McuStatus], None] = lambda status: None
        self._news = asyncio.Condition()
        self._locks: dict[StreamKey, asyncio.Lock] = {}

    async def start(self, on_state: Callable[[McuStatus], None]) -> None:
        self.on_state = on_state
        on_state(self.status())

    def lose(self, reason: CloseReason = CloseReason.LOST, *, back: bool = False) -> None:
        """Lose all streams, as when the SFU is killed; ``back``: it is there again at once."""
        self.away = not back
        self.on_state(self.status())
        for publisher in list(self.publishers.values()):
            publisher.end(reason, reason)

    async def come_back(self) -> None:
        """Take streams again."""
        self.away = False
        self.on_state(self.status())
        async with self._news:
            self._news.notify_all()

    async def _present(self, seconds: float) -> None:
        """Wait for the SFU."""
        if not self.away:
            return
        try:
            async with asyncio.timeout(seconds), self._news:
                await self._news.wait_for(lambda: not self.away)
        except TimeoutError:
            raise McuLost("the SFU is away") from None

    async def publish(
        self, key: StreamKey, offer: str, options: PublishOptions, to: Listener
    ) -> tuple[FakePublisher, str]:
        self.waiting += 1
        try:
            async with self._locks.setdefault(key, asyncio.Lock()):
                await self._present(options.timeout)
                if (running := self.publishers.get(key)) is not None:
                    running.end(CloseReason.REPLACED)
                if self.publish_gate is not None:
                    await self.publish_gate.wait()
                if self.publish_error is not None:
                    raise self.publish_error
                made = self.publishers[key] = FakePublisher(self, key, offer, options, to)
                self.published.append(made)
        finally:
            self.waiting -= 1
        async with self._news:
            self._news.notify_all()
        return made, ANSWER

    async def subscribe(self, key: StreamKey, options: SubscribeOptions, to: Listener) -> tuple[FakeSubscriber, str]:
        self.waiting += 1
        try:
            await self._present(options.timeout)
            async with asyncio.timeout(options.timeout), self._news:
                await self._news.wait_for(lambda: key in self.publishers)
            if self.subscribe_gate is not None:
                await self.subscribe_gate.wait()
            if self.subscribe_error is not None:
                raise self.subscribe_error
            if key not in self.publishers:
                raise NoSuchStream("the publisher went away")
            made = FakeSubscriber(self, self.publishers[key], options, to)
        except TimeoutError:
            raise NoSuchStream("nobody published the stream") from None
        finally:
            self.waiting -= 1
        self.subscribers.append(made)
        self.subscribed.append(made)
        return made, subscriber_offer(f"subscription {len(self.subscribed)}")

    def status(self) -> McuStatus:
        state = SfuState.CONNECTING if self.away else SfuState.READY
        sfu = SfuStatus("", state, publishers=len(self.publishers), subscribers=len(self.subscribers))
        return McuStatus("fake", (sfu,))

    def streams(self) -> Iterable[StreamReport]:
        return ()

    def measures(self) -> Iterable[Measure]:
        return ()

    def feed(self, frame: bytes) -> None:
        """There is no feed."""

    async def reconfigure(self, settings: object) -> None:
        """There is nothing to set."""

    async def stop(self) -> None:
        for publisher in list(self.publishers.values()):
            publisher.end(CloseReason.PUBLISHER_GONE)

    @property
    def clean(self) -> bool:
        """Whether nothing is left on the SFU, and nothing on its way."""
        return not (self.publishers or self.subscribers or self.waiting)
