"""A scripted host of federated rooms; implements ``gateway.flows.ports.RemoteServers``."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from gateway.flows.ports import RemoteConnectionLost, RemoteUnavailable

Json = dict[str, Any]

REMOTE_ID, REMOTE_RESUME_ID = "id at the host", "resume id at the host"
NO_ANSWER = ...  # in place of an answer: the host sends none


class FakeHostConnection:
    """A connection of the gateway to the host: ``sent`` has the messages of the gateway."""

    def __init__(self, host: FakeHost) -> None:
        self._host = host
        self._messages: asyncio.Queue[str | None] = asyncio.Queue()
        self.features = frozenset(host.features)
        self.sent: list[Json] = []
        self.aborted = False

    def deliver(self, message: Json | str) -> None:
        """Deliver a message of the host to the gateway."""
        self._messages.put_nowait(message if isinstance(message, str) else json.dumps(message))

    def lose(self) -> None:
        """Break the connection once the gateway has received all delivered messages."""
        self._messages.put_nowait(None)

    async def receive(self) -> str:
        text = await self._messages.get()
        if text is None:
            self.aborted = True
            raise RemoteConnectionLost
        return text

    async def send(self, text: str) -> None:
        if self.aborted:
            raise RemoteConnectionLost
        message = json.loads(text)
        self.sent.append(message)
        self._host.answer(self, message)

    def abort(self) -> None:
        self.aborted = True
        self.lose()


class FakeHost:
    """A host; ``hello``, ``resume`` and ``join`` are its answers to these requests: body, error, or ``NO_ANSWER``."""

    def __init__(self, *features: str) -> None:
        self.features = ("federation", *features)
        self.welcome: Any = {"type": "welcome", "welcome": {"version": "fake", "features": list(self.features)}}
        self.hello: Any = {"sessionid": REMOTE_ID, "resumeid": REMOTE_RESUME_ID} | (
            {"received": 0} if "ack" in features else {}
        )
        self.resume: Any = self.hello
        self.join: Any = {}  # further members of the reply
        self.unavailable: bool | str = False  # a code of ``RemoteUnavailable``, or ``network_error``
        self.answer_bye = True  # whether a ``bye`` ends the connection
        self.connects: list[float] = []  # times
        self.connections: list[FakeHostConnection] = []

    async def connect(self, url: str) -> FakeHostConnection:
        self.connects.append(asyncio.get_running_loop().time())
        if self.unavailable:
            code = self.unavailable if isinstance(self.unavailable, str) else "network_error"
            raise RemoteUnavailable(code, "The server could not be reached.")
        connection = FakeHostConnection(self)
        self.connections.append(connection)
        if self.welcome is not NO_ANSWER:
            connection.deliver(self.welcome)
        return connection

    @property
    def connection(self) -> FakeHostConnection:
        """The latest connection."""
        return self.connections[-1]

    def sent(self, type: str) -> list[Json]:
        """Return the messages of one type that the gateway sent over all connections."""
        return [message for connection in self.connections for message in connection.sent if message["type"] == type]

    def answer(self, connection: FakeHostConnection, message: Json) -> None:
        """Answer a request as the host does."""
        if message["type"] == "hello":
            body = self.resume if "resumeid" in message["hello"] else self.hello
            self._reply(connection, message, "hello", body)
        elif message["type"] == "room":
            body = self.join
            if body is not NO_ANSWER and "code" not in body:
                body = {"roomid": message["room"]["roomid"]} | body
            self._reply(connection, message, "room", body)
        elif message["type"] == "bye" and self.answer_bye:
            connection.lose()

    @staticmethod
    def _reply(connection: FakeHostConnection, message: Json, type: str, body: Any) -> None:
        if body is NO_ANSWER:
            return
        type = "error" if "code" in body else type
        connection.deliver({"id": message["id"], "type": type, type: body})


def error(code: str) -> Json:
    """Return an answer that is an error."""
    return {"code": code, "message": "text"}
