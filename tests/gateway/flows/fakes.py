"""Typed fakes of the ports of the flows: a connection and a Nextcloud.

They implement ``gateway.flows.ports``, record the calls, and can delay their answers until a gate is opened.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from ipaddress import ip_address
from typing import Any

import msgspec

from gateway.core.ids import ConnectionId
from gateway.core.limits import Backend
from gateway.core.outbox import Outbox
from gateway.flows.ports import NextcloudError
from gateway.tools.fake_talk import FakeTalk
from gateway.tools.talk_answers import NextcloudRoom, TalkAnswers
from gateway.tools.talk_notifier import Answer
from gateway.wire.backend import (
    BackendAnswer,
    BackendRequest,
    RoomRequest,
    SessionRequest,
    encode_request,
    type_of_request,
)

Json = dict[str, Any]

FakeRoom = NextcloudRoom  # the members that the answers to joins of a room do not usually have


class DisconnectedCaller:
    """A caller that has disconnected."""

    def __init__(self, address: str) -> None:
        self.address = ip_address(address)

    async def wait_until_gone(self, seconds: float) -> None:
        """Return at once."""


class FakeConnection:
    """A connection that writes messages at once; while ``stuck``, it writes none, as if the client did not read."""

    def __init__(self, number: int, address: str = "192.0.2.1") -> None:
        self._id = ConnectionId(number)
        self.address = ip_address(address)
        self.user_agent = "fake/1.0 client"
        self._own: list[bytes] = []  # messages that do not come from an outbox
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
        """Break the connection; its waiting messages are not written."""
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


class FakeNextcloudPort:
    """A Nextcloud that answers as Talk does, or with the result of ``answer``; ``gate`` delays answers until set.

    ``without_permissions``: its answers to joins name none and thus permit everything, as in very old versions of Talk.
    """

    def __init__(self, *, without_permissions: bool = False) -> None:
        self.requests: list[tuple[Backend, str, BackendRequest]] = []
        self.rooms: dict[str, NextcloudRoom] = {}  # rooms with answers that differ from those of Talk
        self._other_rooms = NextcloudRoom(without_permissions=without_permissions)
        self._tickets: dict[str, str] = {}
        self._answers: dict[str, TalkAnswers] = {}  # by backend
        self.answer: Callable[[BackendRequest], Json | NextcloudError | None] = lambda request: None
        self.gate: asyncio.Event | None = None
        self.keys: dict[str, str] = {}  # public keys for tokens of hello 2.0, by URL
        self.ping_limit = 0
        self.features: set[str] = set()
        self.renewed_keys: dict[str, str] = {}  # keys that are returned when a key is fetched again
        self.renewals: list[str] = []
        self.capabilities_error: NextcloudError | None = None

    async def ask(self, backend: Backend, url: str, request: BackendRequest) -> BackendAnswer:
        self.requests.append((backend, url, request))
        own = self.answer(request)
        if self.gate is not None:
            await self.gate.wait()
        if isinstance(own, NextcloudError):
            raise own
        request_type = type_of_request[type(request)]
        body = json.loads(encode_request(request))[request_type]
        answer = await self._answers_of(backend).reply(request_type, body) if own is None else own
        try:
            return msgspec.json.decode(msgspec.json.encode(answer), type=BackendAnswer)
        except msgspec.DecodeError as error:
            raise NextcloudError("the answer is not of the expected form") from error

    async def token_key(self, url: str) -> str:
        if self.capabilities_error is not None and url not in self.keys:
            raise self.capabilities_error
        return self.keys.get(url, "")

    async def renewed_token_key(self, url: str, old: str) -> str:
        self.renewals.append(url)
        if self.capabilities_error is not None:
            raise self.capabilities_error
        key = self.renewed_keys.get(url, "")
        return key if key != old else ""

    async def supports(self, url: str, feature: str) -> bool:
        if self.capabilities_error is not None and feature not in self.features:
            raise self.capabilities_error
        return feature in self.features

    async def session_ping_limit(self, url: str) -> int:
        if self.capabilities_error is not None:
            raise self.capabilities_error
        return self.ping_limit

    def ticket(self, userid: str) -> Json:
        """Return the ``params`` of a hello 1.0 for a user, or for a guest if the user id is empty."""
        ticket = f"ticket of {userid}"
        self._tickets[ticket] = userid
        return {"userid": userid or None, "ticket": ticket}

    def joins(self) -> list[RoomRequest]:
        """Return the requests by which sessions join rooms."""
        return [request for request in self._room_requests() if not request.action]

    def leaves(self) -> list[RoomRequest]:
        """Return the requests by which sessions leave rooms."""
        return [request for request in self._room_requests() if request.action == "leave"]

    def sessions(self) -> list[SessionRequest]:
        """Return the requests about virtual sessions."""
        return [request for _, _, request in self.requests if isinstance(request, SessionRequest)]

    def _answers_of(self, backend: Backend) -> TalkAnswers:
        if backend.id not in self._answers:
            talk = FakeTalk(lambda: 0.0, _NoGateway())
            self._answers[backend.id] = TalkAnswers(talk, self.rooms, self._tickets, self._other_rooms)
        return self._answers[backend.id]

    def _room_requests(self) -> Iterable[RoomRequest]:
        return [request for _, _, request in self.requests if isinstance(request, RoomRequest)]


class _NoGateway:
    """No gateway: tests of the flows make requests of the rooms API themselves."""

    attached = changes_only = False

    async def post(self, roomid: str, request: Json) -> Answer:
        raise RuntimeError("tests of the flows make their own requests")
