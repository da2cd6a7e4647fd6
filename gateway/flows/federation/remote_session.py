"""A client's session at the server that hosts its federated room: hello, resume, acknowledged delivery.

A message for the host is kept until it counts as delivered: with the feature ``ack`` (docs/protocol.md, "Acknowledged
delivery") when the host acknowledges it, so that a broken connection neither loses nor doubles a message in either
direction; otherwise when the connection has accepted it.

Source: reference 12.1, 12.3.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, TypeVar

import msgspec

from gateway.core.acknowledged import FEATURE as ACK
from gateway.flows.ports import (
    NETWORK_ERROR,
    RemoteConnection,
    RemoteConnectionLost,
    RemoteMessageTooLong,
    RemoteServers,
    RemoteUnavailable,
)
from gateway.standstill import PeerTimeout
from gateway.wire import remote_messages
from gateway.wire.errors import Code, Error
from gateway.wire.remote_messages import RemoteBye, RemoteError, RemoteHello, RemoteMessage, RemoteWelcome
from gateway.wire.server import Ack

FEDERATION = "federation"  # feature id of a host, and client type in the hello
# Messages that are kept for the host: a session ends above the first two limits. Bytes are bytes of memory (``_size``).
MAX_KEPT_MESSAGES = 1000
MAX_KEPT_BYTES = 1_048_576
MAX_KEPT_BYTES_TOTAL = 67_108_864  # of all sessions; above it, a session with more than ``GUARANTEED_KEPT_BYTES`` ends
GUARANTEED_KEPT_BYTES = 16_384
ACK_EVERY = 16  # messages sent or received between two acknowledgements
NO_SUCH_SESSION = "no_such_session"
SESSION_RESUMED = "session_resumed"  # reason of a ``bye`` that ends a replaced connection, not the session (2.8)
TEXT_LENGTH = 256  # characters of an error's code and text that are passed on

_BYE = '{"type":"bye"}'
_TEMPORARY_ERRORS = frozenset({"internal_error", "too_many_requests", "session_limit_exceeded", "shutdown_scheduled"})
_encoder = msgspec.json.Encoder()
_T = TypeVar("_T")


class SharedBytes:
    """A total that many sessions share: of their kept messages or, in another instance, of lists of participants."""

    def __init__(self) -> None:
        self.total = 0  # bytes


class HostRefused(Exception):
    """The host does not support federation, or refused the hello; ``error`` is for the client."""

    def __init__(self, error: Error) -> None:
        super().__init__(error.code)
        self.error = error

    @property
    def is_temporary(self) -> bool:
        """Whether the hello may be tried again: Nextcloud or the host restarts, or is overloaded."""
        return self.error.code in _TEMPORARY_ERRORS


class RemoteSession:
    """One session at a host; ``connect`` opens it, and after the loss of its connection resumes it or opens another.

    One task calls ``receive`` in a loop, and another one runs ``write``, until the connection is lost.
    ``signaling`` and ``nextcloud`` are the canonical base URLs of the host and of its Nextcloud, ``token`` is the token
    of a hello 2.0 for them; ``features`` are the client's.
    """

    def __init__(
        self,
        servers: RemoteServers,
        signaling: str,
        nextcloud: str,
        token: str,
        features: tuple[str, ...],
        kept_bytes: SharedBytes,
    ) -> None:
        self._servers = servers
        self._signaling = signaling
        self._auth = {"type": FEDERATION, "url": nextcloud, "params": {"token": token}}
        self._features = tuple(feature for feature in features if feature != ACK)
        self._connection: RemoteConnection | None = None
        self.id = ""  # public id at the host; empty until ``connect`` returns
        self._resume_id = ""
        self._kept: deque[str] = deque()  # messages for the host that are not delivered
        self._kept_size = 0  # bytes of memory
        self._kept_bytes = kept_bytes
        self._written = 0  # messages at the head of ``_kept`` that were handed to this connection
        self._acknowledging = False  # whether the session has the feature ``ack``
        self._acknowledged = 0  # number of messages that the host has acknowledged; ``_kept`` begins with the next one
        self._received = 0  # number of messages received from the host
        self._wake = asyncio.Event()  # set if ``write`` may have a message to write, or has to end

    async def connect(self, seconds: float) -> bool:
        """Connect and say hello; return whether the session was resumed.

        Otherwise another session was opened, and the kept messages are dropped. ``seconds``: time limit for
        the host's welcome and its answers to hello, once it has accepted the connection.

        Raises:
            RemoteUnavailable: the host cannot be reached.
            HostRefused: the host does not support federation, or refused the hello.
        """
        self.abort()
        connection = await self._servers.connect(self._signaling)
        try:
            async with PeerTimeout(seconds):
                resumed = await self._greet(connection)
        except TimeoutError as error:
            connection.abort()
            raise RemoteUnavailable(NETWORK_ERROR, "The server did not answer in time.") from error
        except (RemoteConnectionLost, msgspec.DecodeError) as error:
            connection.abort()
            raise RemoteUnavailable(NETWORK_ERROR, "The server ended the connection.") from error
        except BaseException:
            connection.abort()
            raise
        self._connection = connection
        self._wake.set()
        return resumed

    def send(self, text: str) -> bool:
        """Keep a message for ``write`` to send; ``False``: too much was kept, and this session was given up."""
        self._keep(text)
        if self._acknowledging and len(self._kept) % ACK_EVERY == 0:
            self._acknowledge()  # the host answers with the number of messages that it has received
        return not self._end_if_full()

    def request(self, id: str, type: str, body: dict[str, Any]) -> None:
        """Send a request of this server's own; see ``send``."""
        self.send(_encoder.encode({"id": id, "type": type, type: body}).decode())

    async def receive(self) -> tuple[RemoteMessage | None, int]:
        """Return the next message and its size in bytes, as it was sent.

        In place of a malformed message, an ``ack`` or the ``bye`` of a replaced connection, the message is ``None``.

        Raises:
            RemoteConnectionLost: the connection has ended.
        """
        if self._connection is None:
            raise RemoteConnectionLost
        try:
            text = await self._connection.receive()
        except RemoteMessageTooLong:
            self._count_received()  # otherwise the host would send it again after each resume
            raise
        try:
            message = remote_messages.decode(text)
        except msgspec.DecodeError:
            self._count_received()
            return None, _encoded_size(text)
        if isinstance(message, Ack):
            self._confirm(message.ack.received)
            return None, _encoded_size(text)
        if isinstance(message, RemoteBye) and message.bye is not None and message.bye.reason == SESSION_RESUMED:
            return None, _encoded_size(text)
        self._count_received()
        return message, _encoded_size(text)

    async def write(self) -> None:
        """Write kept and later messages to the present connection, until the connection is lost."""
        connection = self._connection
        try:
            while connection is not None and connection is self._connection:
                if self._written == len(self._kept):
                    self._wake.clear()
                    await self._wake.wait()
                    continue
                text = self._kept[self._written]
                self._written += 1
                await connection.send(text)
                if not self._acknowledging and connection is self._connection:
                    self._written -= 1
                    self._drop(1)
        except RemoteConnectionLost:
            pass  # ``receive`` raises it, too

    def abort(self) -> None:
        """End the connection at once; ``connect`` can resume the session at the host. Idempotent."""
        connection, self._connection = self._connection, None
        self._wake.set()
        if connection is not None:
            connection.abort()

    def say_bye(self) -> bool:
        """Let ``write`` end the session after all kept messages; ``False``: no connection, or too much was kept."""
        return self.is_connected and self.send(_BYE)

    def abort_within(self, seconds: float) -> None:
        """End the present connection after ``seconds``, unless the host closes it before."""
        if self._connection is not None:
            asyncio.get_running_loop().call_later(seconds, self._connection.abort)

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection to the host."""
        return self._connection is not None

    # -- hello

    async def _greet(self, connection: RemoteConnection) -> bool:
        """Resume the session or open another one; return whether it was resumed.

        Raises:
            HostRefused: see ``connect``.
            RemoteConnectionLost: also if the host sends anything but the answers.
            msgspec.DecodeError: the host sent a malformed message.
        """
        welcome = await self._expect(connection, RemoteWelcome)
        announced = welcome.welcome.features or ()
        if FEDERATION not in announced or FEDERATION not in connection.features:
            raise HostRefused(Code.FEDERATION_UNSUPPORTED.error())
        if self._resume_id:
            resume: dict[str, Any] = {"version": "2.0", "resumeid": self._resume_id}
            if self._acknowledging:
                resume["received"] = self._received
            await self._say_hello(connection, resume)
            try:
                reply = await self._expect(connection, RemoteHello)
            except HostRefused as refused:
                if refused.error.code != NO_SUCH_SESSION:
                    raise
            else:
                self._written = 0
                if self._acknowledging:
                    self._confirm(reply.hello.received or 0)
                return True
        self.forget()
        acknowledging = ACK in announced
        features = (*self._features, ACK) if acknowledging else self._features
        await self._say_hello(connection, {"version": "2.0", "features": features, "auth": self._auth})
        reply = await self._expect(connection, RemoteHello)
        self.forget()  # messages that were kept while the host answered
        self.id, self._resume_id = reply.hello.sessionid, reply.hello.resumeid
        self._acknowledging = acknowledging and reply.hello.received is not None
        return False

    async def _say_hello(self, connection: RemoteConnection, hello: dict[str, Any]) -> None:
        await connection.send(_encoder.encode({"id": "1", "type": "hello", "hello": hello}).decode())

    async def _expect(self, connection: RemoteConnection, type: type[_T]) -> _T:
        """Return the next message, which has to be of a type.

        Raises:
            HostRefused: the message is an error.
            RemoteConnectionLost: the connection has ended, or the message is of another type.
            msgspec.DecodeError: the message is malformed.
        """
        message = remote_messages.decode(await connection.receive())
        if isinstance(message, RemoteError):
            error = message.error
            raise HostRefused(Error(error.code[:TEXT_LENGTH], error.message[:TEXT_LENGTH]))
        if not isinstance(message, type):
            raise RemoteConnectionLost
        return message

    # -- kept messages

    def _keep(self, text: str) -> None:
        self._kept.append(text)
        self._resize(_size(text))
        self._wake.set()

    def _end_if_full(self) -> bool:
        """Drop the kept messages and end the connection if there are too many; ``connect`` then opens a new session."""
        full = self._kept_bytes.total > MAX_KEPT_BYTES_TOTAL and self._kept_size > GUARANTEED_KEPT_BYTES
        if full or len(self._kept) > MAX_KEPT_MESSAGES or self._kept_size > MAX_KEPT_BYTES:
            self.forget()
            self.abort()
            return True
        return False

    def _drop(self, count: int) -> None:
        for _ in range(count):
            self._resize(-_size(self._kept.popleft()))

    def _resize(self, change: int) -> None:
        self._kept_size += change
        self._kept_bytes.total += change

    def forget(self) -> None:
        """Drop the kept messages and the resume id, so that the next ``connect`` opens another session."""
        self._resume_id = ""
        self._kept.clear()
        self._resize(-self._kept_size)
        self._written = self._acknowledged = self._received = 0
        self._acknowledging = False

    def _count_received(self) -> None:
        self._received += 1
        if self._acknowledging and self._received % ACK_EVERY == 0:
            self._acknowledge()
            self._end_if_full()

    def _acknowledge(self) -> None:
        self._keep(f'{{"type":"ack","ack":{{"received":{self._received}}}}}')

    def _confirm(self, received: int) -> None:
        """Drop the messages that the host has acknowledged, ``received`` in all; ignore an impossible number."""
        count = received - self._acknowledged
        if self._acknowledging and 0 < count <= len(self._kept):
            self._drop(count)
            self._acknowledged = received
            self._written = max(self._written - count, 0)


def _size(text: str) -> int:
    """Return the greatest number of bytes of memory that a text takes: CPython stores 1 to 4 for a character."""
    return len(text) if text.isascii() else 4 * len(text)


def _encoded_size(text: str) -> int:
    """Return the number of bytes of a text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))
