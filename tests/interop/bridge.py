"""A SIP bridge as the protocol document describes one: an internal client that makes and takes phone calls.

Source: signaling API, Internal clients, Control messages, Start dialout. It publishes the mixed sound of its phones;
each phone is a virtual session. Nothing of it comes from the gateway but the Talk client that carries the messages.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import itertools
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from gateway.tools.fake_nextcloud import FakeNextcloud
from gateway.tools.talk_client import Json, TalkClient
from tests.interop.member import Member

TALKING, MUTED, DEAF = 4, 1, 2  # bits of the flags of a virtual session


@dataclass
class Phone:
    """One phone on the line."""

    name: str  # of its virtual session
    room: str
    number: str
    flags: int = 0
    digits: list[str] = field(default_factory=list)
    hung_up: str = ""  # why


class Bridge(Member):
    """Has phones; does at once what it is asked to do."""

    def __init__(self, gateway: str, nextcloud: FakeNextcloud, secret: str, *features: str) -> None:
        super().__init__(gateway, nextcloud, "bridge", 9)
        self.client = TalkClient(gateway, nextcloud.url, features=features)
        self.phones: dict[str, Phone] = {}
        self.orders: list[Json] = []
        self.accepts: Callable[[Json], bool] = lambda order: True
        self._secret = secret
        self._calls = itertools.count(1)
        self._orders: asyncio.Queue[Json] = asyncio.Queue()
        self._clerk: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.client.on_message = self._listen
        await self._stack.enter_async_context(self.client)
        random = secrets.token_hex(32)
        token = hmac.new(self._secret.encode(), random.encode(), hashlib.sha256).hexdigest()
        await self.client.hello_internal({"random": random, "token": token, "backend": self._nextcloud.url})
        self._task = asyncio.create_task(self._work(), name="bridge")
        self._clerk = asyncio.create_task(self._serve(), name="bridge's orders")
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._clerk is not None:
            self._clerk.cancel()
            await asyncio.wait([self._clerk])
        await super().__aexit__(None, None, None)

    # -- what it does

    async def internal(self, kind: str, body: Json, request: str = "") -> None:
        """Send an ``internal`` message."""
        message = {"type": "internal", "internal": {"type": kind, kind: body}}
        await self.client.send(({"id": request} if request else {}) | message)

    async def ring(self, room: str, number: str, *, callid: str = "") -> Phone:
        """Put a phone into a room, as a participant of Talk: somebody calls, or has picked up."""
        phone = Phone(f"phone {next(self._calls)}", room, number, TALKING)
        self.phones[phone.name] = phone
        user = {"displayname": number, "type": "phone", "callid": callid or phone.name, "number": number}
        options = {"actorId": number, "actorType": "phones"}
        body = {"sessionid": phone.name, "roomid": room, "user": user, "flags": phone.flags, "options": options}
        await self.internal("addsession", body)
        return phone

    async def hang_up(self, phone: Phone) -> None:
        """Take a phone out of its room."""
        del self.phones[phone.name]
        await self.internal("removesession", {"sessionid": phone.name, "roomid": phone.room})

    async def report(self, room: str, callid: str, status: str, request: str = "", **more: object) -> None:
        """Tell how a call is doing."""
        body = {"type": "status", "roomid": room, "status": {"callid": callid, "status": status, **more}}
        await self.internal("dialout", body, request)

    # -- what it is asked to do

    def _listen(self, message: Json) -> None:
        self._hear(message)
        if message["type"] in ("internal", "control"):
            self._orders.put_nowait(message)

    async def _serve(self) -> None:
        try:
            while True:
                message = await self._orders.get()
                if message["type"] == "internal":
                    await self._dial(message)
                else:
                    await self._obey(message["control"])
                self._changed.set()
        except Exception as error:
            self.failure = error
            self._changed.set()

    async def _dial(self, message: Json) -> None:
        order = message["internal"]["dialout"]
        self.orders.append(order)
        if not self.accepts(order):
            error = {"type": "error", "roomid": order["roomid"], "error": {"code": "busy", "message": "No line."}}
            await self.internal("dialout", error, message["id"])
            return
        callid = f"call {next(self._calls)}"
        await self.report(order["roomid"], callid, "accepted", message["id"])
        await self.report(order["roomid"], callid, "ringing")
        await self.ring(order["roomid"], order["request"]["number"], callid=callid)
        await self.report(order["roomid"], callid, "connected")

    async def _obey(self, control: Json) -> None:
        phone, data = self.phones[control["recipient"]["sessionid"]], control["data"]
        if data["type"] == "dtmf":
            phone.digits.append(data["digit"])
        elif data["type"] == "mute":
            phone.flags = data["audio"]
            await self.internal("updatesession", {"sessionid": phone.name, "roomid": phone.room, "flags": phone.flags})
        elif data["type"] == "hangup":
            phone.hung_up = data.get("hangup", {}).get("reason", "asked")
            await self.hang_up(phone)
