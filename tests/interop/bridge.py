"""A SIP bridge as the protocol document describes it: an internal client that makes and receives phone calls.

It publishes the mixed audio of its phones; each phone is a virtual session. It uses no code of the gateway but the
Talk client.

Source: signaling API, Internal clients, Control messages, Start dialout.
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
    """A phone in a call."""

    session_id: str  # of its virtual session, as the bridge names it
    room: str
    number: str
    flags: int = 0
    digits: list[str] = field(default_factory=list)
    hangup_reason: str = ""  # empty: not hung up


class SipBridge(Member):
    """The bridge; it accepts dialout requests while ``accepts`` returns true, and obeys control messages."""

    def __init__(self, gateway: str, nextcloud: FakeNextcloud, secret: str, *features: str) -> None:
        super().__init__(gateway, nextcloud, "bridge", 9)
        self.client = TalkClient(gateway, nextcloud.url, features=features)
        self.phones: dict[str, Phone] = {}
        self.dialouts: list[Json] = []  # the dialout requests received
        self.accepts: Callable[[Json], bool] = lambda dialout: True
        self._secret = secret
        self._calls = itertools.count(1)
        self._requests: asyncio.Queue[Json] = asyncio.Queue()
        self._request_task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.client.on_message = self._on_message
        await self._stack.enter_async_context(self.client)
        random = secrets.token_hex(32)
        token = hmac.new(self._secret.encode(), random.encode(), hashlib.sha256).hexdigest()
        await self.client.hello_internal({"random": random, "token": token, "backend": self._nextcloud.url})
        self._task = asyncio.create_task(self._handle_messages(), name="bridge")
        self._request_task = asyncio.create_task(self._handle_requests(), name="bridge's requests")
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._request_task is not None:
            self._request_task.cancel()
            await asyncio.wait([self._request_task])
        await super().__aexit__(None, None, None)

    # -- actions

    async def send_internal(self, message_type: str, body: Json, request: str = "") -> None:
        """Send an ``internal`` message."""
        message = {"type": "internal", "internal": {"type": message_type, message_type: body}}
        await self.client.send(({"id": request} if request else {}) | message)

    async def add_phone(self, room: str, number: str, *, callid: str = "") -> Phone:
        """Add a phone to a room as a virtual session: it has dialled in, or answered."""
        phone = Phone(f"phone {next(self._calls)}", room, number, TALKING)
        self.phones[phone.session_id] = phone
        user = {"displayname": number, "type": "phone", "callid": callid or phone.session_id, "number": number}
        options = {"actorId": number, "actorType": "phones"}
        body = {"sessionid": phone.session_id, "roomid": room, "user": user, "flags": phone.flags, "options": options}
        await self.send_internal("addsession", body)
        return phone

    async def remove_phone(self, phone: Phone) -> None:
        """Remove a phone from its room."""
        del self.phones[phone.session_id]
        await self.send_internal("removesession", {"sessionid": phone.session_id, "roomid": phone.room})

    async def send_call_status(self, room: str, callid: str, status: str, request: str = "", **fields: object) -> None:
        """Send the status of a dialout call."""
        body = {"type": "status", "roomid": room, "status": {"callid": callid, "status": status, **fields}}
        await self.send_internal("dialout", body, request)

    # -- requests of the gateway

    def _on_message(self, message: Json) -> None:
        super()._on_message(message)
        if message["type"] in ("internal", "control"):
            self._requests.put_nowait(message)

    async def _handle_requests(self) -> None:
        try:
            while True:
                message = await self._requests.get()
                if message["type"] == "internal":
                    await self._dial_out(message)
                else:
                    await self._handle_control(message["control"])
                self._changed.set()
        except Exception as error:
            self.failure = error
            self._changed.set()

    async def _dial_out(self, message: Json) -> None:
        dialout = message["internal"]["dialout"]
        self.dialouts.append(dialout)
        if not self.accepts(dialout):
            error = {"type": "error", "roomid": dialout["roomid"], "error": {"code": "busy", "message": "No line."}}
            await self.send_internal("dialout", error, message["id"])
            return
        callid = f"call {next(self._calls)}"
        await self.send_call_status(dialout["roomid"], callid, "accepted", message["id"])
        await self.send_call_status(dialout["roomid"], callid, "ringing")
        await self.add_phone(dialout["roomid"], dialout["request"]["number"], callid=callid)
        await self.send_call_status(dialout["roomid"], callid, "connected")

    async def _handle_control(self, control: Json) -> None:
        phone, data = self.phones[control["recipient"]["sessionid"]], control["data"]
        if data["type"] == "dtmf":
            phone.digits.append(data["digit"])
        elif data["type"] == "mute":
            phone.flags = data["audio"]
            await self.send_internal(
                "updatesession", {"sessionid": phone.session_id, "roomid": phone.room, "flags": phone.flags}
            )
        elif data["type"] == "hangup":
            phone.hangup_reason = data.get("hangup", {}).get("reason", "requested")
            await self.remove_phone(phone)
