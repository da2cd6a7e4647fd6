"""The shipped Talk client: speaks the signaling protocol like a client, for tests, load and authors of clients.

Source: signaling API. It brings no media: give it descriptions of a PeerConnection of your own.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import aiohttp

Json = dict[str, Any]

PATIENCE = 15.0  # seconds for anything that is waited for
ACK = "ack"  # feature id of acknowledged delivery (docs/protocol.md)
ACK_EVERY = 16  # messages, in either direction, between two acknowledgements


class RequestRefused(Exception):
    """The gateway answered a request with an error; ``code`` is the protocol's."""

    def __init__(self, error: Json) -> None:
        super().__init__(f"{error.get('code')}: {error.get('message')}")
        self.code: str = error.get("code", "")
        self.error = error


class TalkClient:
    """One session; an async context manager that connects, and leaves without a word.

    ``heard`` holds every message since the connect; ``on_message`` is called for each. With the feature ``ack`` nothing
    is lost or doubled when the connection breaks: ``connect`` and ``resume`` then.
    """

    def __init__(self, gateway: str, backend: str, *, features: tuple[str, ...] = ()) -> None:
        self.messages: list[Json] = []
        self.on_message: Callable[[Json], None] = lambda message: None
        self.on_republish: Callable[[str, str], None] = lambda room_type, sid: None  # with the feature ``republish``
        self.session_id = ""
        self.resume_id = ""
        self.close_code: int | None = None
        self.received = 0  # messages of the session, with the feature ``ack``
        self._sent: deque[str] = deque()  # not known to have come
        self._came = 0  # how many before those came
        self._acknowledging = False  # the session has the feature
        self._resuming = False  # what the latest hello asks for
        self._numbering = False  # the session is there on this connection
        self._caught_up = False  # and what did not come before was sent again
        self._url = gateway.rstrip("/") + "/spreed"
        self._backend = backend
        self._features = features
        self._ids = itertools.count(1)
        self._changed = asyncio.Event()
        self._http: aiohttp.ClientSession | None = None
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.disconnect()

    async def connect(self) -> None:
        """Open the connection and wait for the welcome; also again, to resume afterwards."""
        await self.disconnect()
        self._http = aiohttp.ClientSession()
        try:
            self._socket = await self._http.ws_connect(self._url, max_msg_size=0)
        except BaseException:
            await self.disconnect()
            raise
        self.close_code = None
        self._numbering = self._caught_up = False
        start = len(self.messages)
        self._reader = asyncio.create_task(self._read(self._socket), name="talk-client")
        await self.wait_for(lambda message: message["type"] == "welcome", since=start)

    async def disconnect(self) -> None:
        """Cut the connection without ``bye``; the session can be resumed. Idempotent."""
        reader, self._reader = self._reader, None
        http, self._http = self._http, None
        if self._socket is not None and self._socket._response.connection is not None:
            transport = self._socket._response.connection.transport
            if transport is not None:
                transport.abort()
        if reader is not None:
            reader.cancel()
            await asyncio.wait([reader])
        if http is not None:
            await http.close()

    # -- requests

    async def hello(self, params: Json, version: str = "1.0") -> Json:
        """Open a session with a ticket (1.0) or ``{"token": …}`` (2.0) and return the reply.

        Raises:
            RequestRefused: with the protocol's code.
        """
        auth = {"url": self._backend, "params": params}
        return await self._greet({"version": version, "features": list(self._features), "auth": auth})

    async def hello_internal(self, params: Json, version: str = "1.0") -> Json:
        """Open the session of an internal client: ``params`` has ``random``, ``token`` and ``backend``.

        Raises:
            RequestRefused: with the protocol's code.
        """
        auth = {"type": "internal", "params": params}
        return await self._greet({"version": version, "features": list(self._features), "auth": auth})

    async def resume(self) -> Json:
        """Take the session up again on this connection.

        Raises:
            RequestRefused: with the protocol's code.
        """
        received = {"received": self.received} if self._acknowledging else {}
        return await self._greet({"version": "1.0", "resumeid": self.resume_id} | received)

    async def join(self, room: str, room_session: str = "") -> Json:
        """Join a room with Nextcloud's session id; an empty room leaves.

        Raises:
            RequestRefused: with the protocol's code.
        """
        return await self.request("room", {"roomid": room} | ({"sessionid": room_session} if room_session else {}))

    async def bye(self) -> Json:
        """End the session."""
        return await self.request("bye", {})

    async def request(self, kind: str, body: Json) -> Json:
        """Send a request and return its reply.

        Raises:
            RequestRefused: the reply is an error.
        """
        number = str(next(self._ids))
        start = len(self.messages)
        await self.send({"id": number, "type": kind, kind: body})
        reply = await self.wait_for(lambda message: message.get("id") == number, since=start)
        if reply["type"] == "error":
            raise RequestRefused(reply["error"])
        return reply

    async def send(self, message: Json | str) -> None:
        """Send anything."""
        if self._socket is None:
            raise RuntimeError("connect() first")
        text = message if isinstance(message, str) else json.dumps(message)
        hello = isinstance(message, dict) and message.get("type") == "hello"
        if not self._acknowledging or (hello and not self._numbering):
            await self._socket.send_str(text)
            return
        self._sent.append(text)
        if self._caught_up:
            with contextlib.suppress(ConnectionError):  # it is kept, and sent again after the resume
                await self._socket.send_str(text)
                if len(self._sent) % ACK_EVERY == 0:
                    await self._acknowledge(self._socket)

    async def send_message(self, recipient: str, data: Json, request: str = "") -> None:
        """Send a message to a session."""
        body = {"recipient": {"type": "session", "sessionid": recipient}, "data": data}
        await self.send(({"id": request} if request else {}) | {"type": "message", "message": body})

    # -- what was heard

    async def wait_for(self, wanted: Callable[[Json], bool], *, since: int = 0, patience: float = PATIENCE) -> Json:
        """Return the first message that is wanted, among those heard from position ``since`` on.

        Raises:
            TimeoutError: it did not come.
        """
        async with asyncio.timeout(patience):
            while True:
                for message in self.messages[since:]:
                    if wanted(message):
                        return message
                since = len(self.messages)
                self._changed.clear()
                await self._changed.wait()

    async def closed(self) -> int | None:
        """Wait for the end of the connection and return the close code."""
        async with asyncio.timeout(PATIENCE):
            while self.close_code is None:
                self._changed.clear()
                await self._changed.wait()
        return self.close_code

    async def _greet(self, hello: Json) -> Json:
        self._resuming = "resumeid" in hello
        reply = await self.request("hello", hello)
        self.session_id = reply["hello"]["sessionid"]
        self.resume_id = reply["hello"]["resumeid"]
        return reply

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for frame in socket:
            message = frame.json()
            with contextlib.suppress(ConnectionError):
                await self._count(message, socket)
            self.messages.append(message)
            self.on_message(message)
            if message["type"] == "republish":
                self.on_republish(message["republish"]["roomType"], message["republish"]["sid"])
            self._changed.set()
        self.close_code = socket.close_code or 1006
        self._changed.set()

    # -- acknowledged delivery

    async def _count(self, message: Json, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Number what comes."""
        kind = message["type"]
        if kind == ACK:
            self._confirm(message.get(ACK, {}).get("received", 0))
        elif self._numbering and message.get("bye", {}).get("reason") != "session_resumed":  # that one has no number
            self.received += 1
            if self.received % ACK_EVERY == 0:
                await self._acknowledge(socket)
        elif kind == "hello":
            await self._begin(message.get("hello", {}).get("received"), socket)

    async def _begin(self, came: int | None, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Send again what did not come, and what is sent meanwhile behind it; ``None``: the server counts nothing."""
        if not self._resuming or came is None:
            self.received = self._came = 0
            self._sent.clear()
        self._acknowledging = self._numbering = came is not None
        if came is None:
            return
        self._confirm(came)
        again = 0
        while again < len(self._sent):
            await socket.send_str(self._sent[again])
            again += 1
        self._caught_up = True

    async def _acknowledge(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._sent.append(json.dumps({"type": ACK, ACK: {"received": self.received}}))
        if self._caught_up:
            await socket.send_str(self._sent[-1])

    def _confirm(self, came: int) -> None:
        while self._came < came and self._sent:
            self._sent.popleft()
            self._came += 1
