"""Levels ``flows`` and ``socket``: the flows over fakes, and a whole gateway over sockets."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import msgspec
from aiohttp import web

from gateway.app import Gateway
from gateway.config import Config, HttpSection, InternalSection, McuSection, SessionsSection
from gateway.core.hub import Hub
from gateway.core.limits import Limits
from gateway.flows.delivery import Delivery
from gateway.flows.ports import NextcloudError
from gateway.tools.fake_nextcloud import FakeNextcloud, SigningKey
from gateway.tools.talk_answers import NextcloudRoom
from gateway.wire.backend import encode_request
from mcu.inprocess.settings import InprocessSettings
from tests.conversations import message_forms, request_forms
from tests.conversations.player import Conversation, ConversationClient, Json
from tests.gateway.edge.raw_client import BINARY, WAIT_TIMEOUT, RawClient
from tests.gateway.flows import fakes
from tests.gateway.flows.harness import (
    CLOUD,
    INTERNAL_SECRET,
    OTHER_CLOUD,
    WALL_TIME,
    FakeClient,
    FlowHarness,
    internal_params,
)
from tests.gateway.flows.virtual_time import settle

_BARRIER = "the only message that arrives"
_FORGER = SigningKey()  # a key that is not Nextcloud's
_AGES = {"": 0, "expired": -1000, "early": 1000}  # seconds


def _claims(userid: str, flaw: str, now: float) -> dict[str, Any]:
    issued = now + _AGES.get(flaw, 0)
    return {"iat": issued, "exp": issued + 300, "sub": userid, "userdata": {"displayname": userid.title()}}


def _type_prefix(type: str) -> bytes:
    return b'{"type":"%s"' % type.encode()


# -- flows


class FlowsLevel:
    """The flows over fakes, in virtual time."""

    def __init__(self, harness: FlowHarness) -> None:
        self.harness = harness
        self.cloud_url = ""
        self.url = CLOUD.urls[0]
        self._key = SigningKey()
        harness.nextcloud.keys[self.url] = self._key.published
        self._request_count = 0
        self._clients: list[FakeClient] = []

    async def connect(self) -> FlowsClient:
        client = self.harness.connect()
        self._clients.append(client)
        return FlowsClient(client)

    async def check_all(self, mcu: bool) -> None:
        """Check the form of every message and request, received by a step or not."""
        await settle()
        for client in self._clients:
            for message in client.connection.written:
                message_forms.check_message(json.loads(message), mcu=mcu)
        for _, _, request in self.harness.nextcloud.requests:
            request_forms.check_request(json.loads(encode_request(request)))

    def ticket(self, userid: str) -> Json:
        return self.harness.nextcloud.ticket(userid)

    def token(self, userid: str, flaw: str) -> str:
        claims = _claims(userid, flaw, WALL_TIME + self.harness.services.clock())
        return (_FORGER if flaw == "forged" else self._key).sign(claims)

    def internal_params(self) -> Json:
        return internal_params(self.url)

    def set_room_answer(self, room: str, answer: Json) -> None:
        self.harness.nextcloud.rooms[room] = fakes.FakeRoom(**answer)

    def set_answer(self, type: str, answer: Json) -> None:
        given = NextcloudError("junk") if answer is None else answer
        self.harness.nextcloud.answer = lambda request: (
            given if encode_request(request).startswith(_type_prefix(type)) else None
        )

    async def next_request(self) -> Json:
        await settle()
        assert self._request_count < len(self.harness.nextcloud.requests), "no request was sent"
        self._request_count += 1
        return json.loads(encode_request(self.harness.nextcloud.requests[self._request_count - 1][2]))

    async def send(self, room: str, request: Json) -> None:
        self.harness.rooms_api(room, request)

    async def dial(self, room: str, call: Json) -> tuple[int, Json]:
        status, body = await self.harness.dial_out(room, call)
        return status, {"type": "dialout", "dialout": body}

    async def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds)):
            await self.harness.sweep(1.0)
            self.harness.pings.sweep(self.harness.services.clock())

    async def set_sfu_away(self, away: bool) -> None:
        await settle()
        if away:
            self.harness.mcu.lose_streams()
        else:
            await self.harness.mcu.recover()

    async def drain(self) -> None:
        await settle()
        self.harness.flows.draining.begin(60.0)

    async def send_as_host(self, session: str, message: Json) -> None:
        raise AssertionError("there is a host at the level federated only")


class FlowsClient:
    """A client at the level of the flows."""

    def __init__(self, client: FakeClient) -> None:
        self._client = client
        self._received: list[Json] = []

    async def send(self, message: Json) -> None:
        self._client.send(message)

    async def send_binary(self, octets: bytes) -> None:
        self._client.harness.dispatch.received_binary(self._client.client_connection)

    async def receive(self) -> Json:
        async with asyncio.timeout(WAIT_TIMEOUT):
            while not self._received:
                await self._collect()
        return self._received.pop(0)

    async def receives_nothing(self) -> bool:
        await self._collect()
        return not self._received

    async def lose(self) -> None:
        await settle()
        self._client.disconnect()

    async def is_closed(self) -> bool:
        finished = await self.receives_nothing() and self._client.connection.finished
        self._client.disconnect()
        return finished

    async def _collect(self) -> None:
        await settle()
        self._received += self._client.received()


@asynccontextmanager
async def flows_level(conversation: Conversation) -> AsyncIterator[FlowsLevel]:
    """Wire the flows over fakes; requires a loop with virtual time."""
    server = conversation.server
    backend = msgspec.structs.replace(CLOUD, session_limit=server.get("session_limit", 0))
    async with FlowHarness(backend, OTHER_CLOUD, mcu=conversation.mcu) as harness:
        harness.change_settings(limits=msgspec.convert(server.get("limits", {}), Limits))
        harness.change_settings(internal_secret=INTERNAL_SECRET if server.get("internal", True) else "")
        level = FlowsLevel(harness)
        yield level
        await level.check_all(conversation.mcu)


# -- socket

INPROCESS = McuSection(type="inprocess", settings=InprocessSettings(address="127.0.0.1"))


class SocketLevel:
    """A whole gateway and a real HTTP server as its Nextcloud."""

    hub: Hub
    delivery: Delivery

    def __init__(self, cloud: FakeNextcloud, gateway: str) -> None:
        self.cloud = cloud
        self.gateway = gateway
        self.cloud_url = ""
        self.url = cloud.url
        self._request_count = 0
        self.clients: list[RawClient] = []

    async def connect(self) -> ConversationClient:
        parts = urlsplit(self.gateway)
        client = await RawClient.connect((parts.hostname or "", parts.port or 0))
        self.clients.append(client)
        return SocketClient(client)

    def ticket(self, userid: str) -> Json:
        return self.cloud.ticket(userid)

    def token(self, userid: str, flaw: str) -> str:
        return (_FORGER if flaw == "forged" else self.cloud.key).sign(_claims(userid, flaw, time.time()))

    def internal_params(self) -> Json:
        return internal_params(self.url)

    def set_room_answer(self, room: str, answer: Json) -> None:
        self.cloud.rooms[room] = NextcloudRoom(**answer)

    def set_answer(self, type: str, answer: Json) -> None:
        given = web.Response(text="junk") if answer is None else answer
        self.cloud.hook = lambda seen: given if seen.type == type else None

    async def next_request(self) -> Json:
        self._request_count += 1
        seen = await self.cloud.wait_for(lambda seen: seen.type != "capabilities", self._request_count)
        return {"type": seen.type, seen.type: seen.body}

    async def send(self, room: str, request: Json) -> None:
        status, text = await self.cloud.send(self.gateway, room, request)
        assert (status, text) == (200, "{}"), (status, text)

    async def dial(self, room: str, call: Json) -> tuple[int, Json]:
        status, text = await self.cloud.send(self.gateway, room, {"type": "dialout", "dialout": call})
        return status, json.loads(text)

    async def pass_time(self, seconds: float) -> None:
        raise AssertionError("time passes at the level of the flows only")

    async def set_sfu_away(self, away: bool) -> None:
        raise AssertionError("the SFU is lost at the level of the flows only")

    async def drain(self) -> None:
        raise AssertionError("the gateway is drained at the level of the flows only")

    async def send_as_host(self, session: str, message: Json) -> None:
        raise AssertionError("there is a host at the level federated only")


class SocketClient:
    """A client over a real socket."""

    def __init__(self, client: RawClient) -> None:
        self.client = client

    async def send(self, message: Json) -> None:
        self.client.send(message)

    async def send_binary(self, octets: bytes) -> None:
        self.client.send(octets, opcode=BINARY)

    async def receive(self) -> Json:
        return await self.client.receive()

    async def receives_nothing(self) -> bool:
        """Send a message that is answered at once: messages on their way arrive before the answer."""
        self.client.send({"id": _BARRIER, "type": "message"})
        return bool((await self.client.receive()).get("id") == _BARRIER)

    async def lose(self) -> None:
        await self.receives_nothing()  # earlier messages have arrived at the gateway then
        self.client.writer.close()
        await self.client.wait_closed()

    async def is_closed(self) -> bool:
        return await self.client.wait_closed() == 1000


@asynccontextmanager
async def socket_level(
    conversation: Conversation,
    sfu: McuSection = INPROCESS,
    create_gateway: Callable[[Config], Gateway] = Gateway,
    **sections: Any,
) -> AsyncIterator[SocketLevel]:
    """Start a gateway on a free port, and its Nextcloud; ``sections`` are added to its configuration."""
    server = conversation.server
    async with FakeNextcloud() as cloud:
        config = Config(
            sessions=SessionsSection(secret="0123456789abcdef0123456789abcdef"),
            http=HttpSection(listen=("127.0.0.1:0",)),
            internal=InternalSection(secret=INTERNAL_SECRET if server.get("internal", True) else ""),
            backends=(cloud.backend(session_limit=server.get("session_limit", 0)),),
            mcu=sfu if conversation.mcu else McuSection(),
            limits=msgspec.convert(server.get("limits", {}), Limits),
            **sections,
        )
        gateway = create_gateway(config)
        (url,) = await gateway.start()
        cloud.gateway = url
        level = SocketLevel(cloud, url)
        level.hub = gateway.hub
        level.delivery = gateway._services.delivery
        try:
            yield level
        finally:
            for client in level.clients:
                client.writer.transport.abort()
            await gateway.stop()
