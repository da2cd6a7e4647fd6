"""The shipped Talk client: a signaling client without a user interface, for tests, load and client authors.

Source: signaling API. It has no media: the caller passes the session descriptions of its own PeerConnections.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import ssl
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import aiohttp

Json = dict[str, Any]

WAIT_TIMEOUT = 30.0  # seconds that ``wait_for`` and ``wait_closed`` wait
ACK = "ack"  # feature id of acknowledged delivery (docs/protocol.md)
ACK_EVERY = 16  # messages sent or received between two acknowledgements


class RequestRefused(Exception):
    """The gateway answered a request with an error; ``code`` is its protocol error code."""

    def __init__(self, error: Json) -> None:
        super().__init__(f"{error.get('code')}: {error.get('message')}")
        self.code: str = error.get("code", "")
        self.error = error


class TalkClient:
    """A client with one session; as an async context manager it connects, and disconnects without ``bye``.

    ``messages`` holds every message received since the first connect; ``on_message`` is called for each one. With the
    feature ``ack`` no message is lost or duplicated when the connection breaks; then call ``connect`` and ``resume``.
    ``tls`` replaces the system's certificate authorities.
    """

    def __init__(
        self, gateway: str, backend: str, *, features: tuple[str, ...] = (), tls: ssl.SSLContext | None = None
    ) -> None:
        self.messages: list[Json] = []
        self.on_message: Callable[[Json], None] = lambda message: None
        self.on_republish: Callable[[str, str], None] = lambda room_type, sid: None  # with the feature ``republish``
        self.session_id = ""
        self.resume_id = ""
        self.close_code: int | None = None
        self.received = 0  # number of messages received in the session, with the feature ``ack``
        self._unacknowledged: deque[str] = deque()  # sent but not acknowledged
        self._acknowledged = 0  # number of acknowledged messages, all before ``_unacknowledged``
        self._acknowledging = False  # the session has the feature ``ack``
        self._resuming = False  # the latest hello resumes a session
        self._numbering = False  # whether messages of this connection are numbered: from the reply to its hello on
        self._caught_up = False  # the unacknowledged messages were sent again on this connection
        self._url = gateway.rstrip("/") + "/spreed"
        self._backend = backend
        self._features = features
        self._tls = tls
        self._ids = itertools.count(1)
        self._changed = asyncio.Event()
        self._http: aiohttp.ClientSession | None = None
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.disconnect()

    async def connect(self) -> None:
        """Open a connection and wait for the welcome message; call it again before ``resume``."""
        await self.disconnect()
        self._http = aiohttp.ClientSession()
        try:
            self._socket = await self._http.ws_connect(self._url, max_msg_size=0, ssl=self._tls or True)
        except BaseException:
            await self.disconnect()
            raise
        self.close_code = None
        self._numbering = self._caught_up = False
        start = len(self.messages)
        self._reader = asyncio.create_task(self._read(self._socket), name="talk-client")
        await self.wait_for(lambda message: message["type"] == "welcome", since=start)

    async def disconnect(self) -> None:
        """Abort the connection without ``bye``; the session can be resumed. Idempotent."""
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
            RequestRefused: the gateway answers with an error.
        """
        auth = {"url": self._backend, "params": params}
        return await self._send_hello({"version": version, "features": list(self._features), "auth": auth})

    async def hello_internal(self, params: Json, version: str = "1.0") -> Json:
        """Open the session of an internal client: ``params`` has ``random``, ``token`` and ``backend``.

        Raises:
            RequestRefused: the gateway answers with an error.
        """
        auth = {"type": "internal", "params": params}
        return await self._send_hello({"version": version, "features": list(self._features), "auth": auth})

    async def resume(self) -> Json:
        """Resume the session on this connection.

        Raises:
            RequestRefused: the gateway answers with an error.
        """
        received = {"received": self.received} if self._acknowledging else {}
        return await self._send_hello({"version": "1.0", "resumeid": self.resume_id} | received)

    async def join(self, room: str, room_session: str = "") -> Json:
        """Join a room with Nextcloud's session id; an empty room id leaves the room.

        Raises:
            RequestRefused: the gateway answers with an error.
        """
        return await self.request("room", {"roomid": room} | ({"sessionid": room_session} if room_session else {}))

    async def bye(self) -> Json:
        """End the session with a ``bye``."""
        return await self.request("bye", {})

    async def request(self, message_type: str, body: Json) -> Json:
        """Send a request and return its reply.

        Raises:
            RequestRefused: the reply is an error.
        """
        request_id = str(next(self._ids))
        start = len(self.messages)
        await self.send({"id": request_id, "type": message_type, message_type: body})
        reply = await self.wait_for(lambda message: message.get("id") == request_id, since=start)
        if reply["type"] == "error":
            raise RequestRefused(reply["error"])
        return reply

    async def send(self, message: Json | str) -> None:
        """Send a message as JSON, or a text unchanged."""
        if self._socket is None:
            raise RuntimeError("connect() first")
        text = message if isinstance(message, str) else json.dumps(message)
        hello = isinstance(message, dict) and message.get("type") == "hello"
        if not self._acknowledging or (hello and not self._numbering):
            await self._socket.send_str(text)
            return
        self._unacknowledged.append(text)
        if self._caught_up:
            with contextlib.suppress(ConnectionError):  # the message is kept, and sent again after a resume
                await self._socket.send_str(text)
                if len(self._unacknowledged) % ACK_EVERY == 0:
                    await self._acknowledge(self._socket)

    async def send_message(self, recipient: str, data: Json, request_id: str = "") -> None:
        """Send a message with ``data`` to a session; an empty ``request_id`` is left out."""
        body = {"recipient": {"type": "session", "sessionid": recipient}, "data": data}
        await self.send(({"id": request_id} if request_id else {}) | {"type": "message", "message": body})

    # -- received messages

    async def wait_for(self, wanted: Callable[[Json], bool], *, since: int = 0, limit: float = WAIT_TIMEOUT) -> Json:
        """Return the first message for which ``wanted`` is true, from index ``since`` of ``messages`` on.

        Raises:
            TimeoutError: there was none within ``limit`` seconds.
        """
        async with asyncio.timeout(limit):
            while True:
                for message in self.messages[since:]:
                    if wanted(message):
                        return message
                since = len(self.messages)
                self._changed.clear()
                await self._changed.wait()

    async def wait_closed(self) -> int | None:
        """Wait for the end of the connection and return the close code."""
        async with asyncio.timeout(WAIT_TIMEOUT):
            while self.close_code is None:
                self._changed.clear()
                await self._changed.wait()
        return self.close_code

    async def _send_hello(self, hello: Json) -> Json:
        self._resuming = "resumeid" in hello
        reply = await self.request("hello", hello)
        self.session_id = reply["hello"]["sessionid"]
        self.resume_id = reply["hello"]["resumeid"]
        return reply

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        async for frame in socket:
            message = frame.json()
            with contextlib.suppress(ConnectionError):
                await self._count_received(message, socket)
            self.messages.append(message)
            self.on_message(message)
            if message["type"] == "republish":
                self.on_republish(message["republish"]["roomType"], message["republish"]["sid"])
            self._changed.set()
        self.close_code = socket.close_code or 1006
        self._changed.set()

    # -- acknowledged delivery

    async def _count_received(self, message: Json, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Count a received message if it is numbered, and acknowledge each ``ACK_EVERY``-th one."""
        message_type = message["type"]
        if message_type == ACK:
            self._drop_acknowledged(message.get(ACK, {}).get("received", 0))
        elif self._numbering and message.get("bye", {}).get("reason") != "session_resumed":  # has no number
            self.received += 1
            if self.received % ACK_EVERY == 0:
                await self._acknowledge(socket)
        elif message_type == "hello":
            await self._begin_numbering(message.get("hello", {}).get("received"), socket)

    async def _begin_numbering(self, received: int | None, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Send the messages again that the server has not received.

        ``received`` is the number of messages that it has received, ``None`` without the feature ``ack``.
        """
        if not self._resuming or received is None:
            self.received = self._acknowledged = 0
            self._unacknowledged.clear()
        self._acknowledging = self._numbering = received is not None
        if received is None:
            return
        self._drop_acknowledged(received)
        index = 0
        while index < len(self._unacknowledged):  # messages may be appended meanwhile
            await socket.send_str(self._unacknowledged[index])
            index += 1
        self._caught_up = True

    async def _acknowledge(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._unacknowledged.append(json.dumps({"type": ACK, ACK: {"received": self.received}}))
        if self._caught_up:
            await socket.send_str(self._unacknowledged[-1])

    def _drop_acknowledged(self, received: int) -> None:
        while self._acknowledged < received and self._unacknowledged:
            self._unacknowledged.popleft()
            self._acknowledged += 1
