"""The WebSocket connection of one client: frames in, batches of frames out.

Source: reference 2.1 (numbers), docs/architecture.md, "The hot path". The transport of an upgraded request belongs to
the connection, so that a message costs one call in and one write out, without a task or a queue in between, unless the
client has sent many (``frame_input``). All messages that are queued for a connection in one loop iteration are sent
in one write: the welcome together with the answer to the upgrade, and the last messages with the close frame.

A message that the kernel has accepted counts as delivered (invariant 3). While a part of a batch is in the transport's
buffer, only the messages before that part are confirmed, and no further batch is written. For chat messages, a ping
behind them requests a receipt (``receipts``).
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gateway.core.ids import ConnectionId
from gateway.core.outbox import Outbox
from gateway.core.throttle import Address
from gateway.edge.clients.frame_input import FrameInput
from gateway.edge.clients.frame_reader import BINARY, CLOSE, FRAGMENT, PING, PONG, TEXT, Frame
from gateway.edge.clients.frames import encode_frame
from gateway.edge.clients.receipts import Receipts
from gateway.flows.client_connection import ClientConnection
from gateway.standstill import grace

if TYPE_CHECKING:
    from gateway.edge.clients.websocket import WebSocketEndpoint

MESSAGE_LIMIT = 65536  # bytes of one incoming message, all fragments together (2.1)
PING_PERIOD = 54.0  # seconds; the first ping follows the upgrade at once
READ_DEADLINE = 60.0  # seconds, renewed by every message and pong
WRITE_DEADLINE = 10.0  # seconds until the kernel has accepted a batch
CLOSE_TIME = 2.0  # seconds for the client to answer a close frame
BATCH_SIZE = 65536  # bytes; the message with which a batch reaches this size is its last one
NORMAL_CLOSURE = 1000  # close code of RFC 6455 7.4.1


class WebSocketConnection(asyncio.Protocol):
    """The WebSocket connection of one client; implements ``flows.ports.Connection``."""

    __slots__ = (
        "_call_soon",
        "_client",
        "_client_closed",
        "_close_timer",
        "_closing",
        "_counters",
        "_dirty",
        "_dirty_connections",
        "_due",
        "_endpoint",
        "_frames",
        "_input",
        "_last_received",
        "_on_lost",
        "_outbox",
        "_own",
        "_paused_at",
        "_ping_at",
        "_ping_content",
        "_receipts",
        "_received",
        "_time",
        "_timer",
        "_transport",
        "address",
        "data_received",
        "id",
        "is_ending",
        "user_agent",
    )

    def __init__(
        self,
        id: ConnectionId,
        address: Address,
        endpoint: WebSocketEndpoint,
        transport: asyncio.Transport | asyncio.BaseTransport,
        on_lost: Callable[[Exception | None], object] | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.id = id
        self.address = address
        self.user_agent = ""
        self._endpoint = endpoint
        self._counters = endpoint.counters
        self._frames = endpoint.frames
        self._on_lost = on_lost  # called with the error, if any, when the connection is lost
        self._transport: Any = transport
        input = FrameInput(self, transport, endpoint.turns, MESSAGE_LIMIT)
        self._input: FrameInput | None = input  # None once the connection is lost
        self.data_received = input.data_received  # type: ignore[method-assign]
        self._own: list[bytes] = []  # messages of this connection, not of a session's outbox
        self._outbox: Outbox | None = None
        self._dirty = False
        self._dirty_connections = endpoint.dirty
        self._call_soon = loop.call_soon
        self.is_ending = False
        self._closing = False
        self._client_closed = False  # the client has sent a close frame
        self._paused_at: float | None = None
        self._time = loop.time
        self._last_received = loop.time()
        self._ping_at = loop.time()  # when to send the next ping
        self._due = loop.time()  # when to call ``_tick``
        self._ping_content = 0  # of the last ping
        self._receipts = Receipts()
        self._timer: asyncio.TimerHandle | None = None
        self._close_timer: asyncio.TimerHandle | None = None
        self._client: ClientConnection | None = None
        self._received = endpoint.dispatch.message_received

    def open(self, answer: bytes, early: bytes) -> None:
        """Take over the transport, and send the answer to the upgrade, the first ping and the welcome.

        ``early`` are the octets that arrived together with the request.
        """
        # ``pause_writing`` is called when the first byte stays in the buffer: TLS pauses at the limit, TCP above it.
        secure = self._transport.get_extra_info("sslcontext") is not None
        self._transport.set_write_buffer_limits(high=1 if secure else 0)
        self._transport.set_protocol(self)
        self._dirty = True  # the welcome is written now
        self._client = self._endpoint.dispatch.connection_opened(self)
        self._dirty = False
        welcome, self._own = self._own, []
        self._write(welcome, before=answer + self._next_ping(self._time()))
        self._schedule()
        if early:
            self.data_received(early)

    # -- flows.ports.Connection

    def send(self, message: bytes) -> None:
        """See ``Connection.send``."""
        self._own.append(message)
        self.wake()

    def adopt(self, outbox: Outbox) -> None:
        """See ``Connection.adopt``."""
        outbox.rewind()
        self._outbox = outbox
        self._receipts.clear()
        self.wake()

    def wake(self) -> None:
        """See ``Connection.wake``."""
        if not self._dirty:
            self._dirty = True
            dirty = self._dirty_connections
            if not dirty:
                self._call_soon(self._endpoint.flush)
            dirty.append(self)

    def finish(self) -> None:
        """See ``Connection.finish``."""
        if not self.is_ending:
            self.is_ending = True
            self.wake()

    def displace(self, last: bytes) -> None:
        """See ``Connection.displace``."""
        self._release()
        self.send(last)
        self.finish()

    def pause(self) -> None:
        """See ``Connection.pause``."""
        if self._input is not None:
            self._input.hold()

    def resume(self) -> None:
        """See ``Connection.resume``."""
        if self._input is not None:
            if self._input.held:
                self._last_received = self._time()
            self._input.release()

    # -- outgoing

    def flush(self) -> None:
        """Write the waiting messages until the kernel accepts no more; at the end of the connection, a close frame."""
        self._dirty = False
        if self._paused_at is not None or self._closing:
            return
        outbox = self._outbox
        if self._own:
            own, self._own = self._own, []
            if self.is_ending and outbox is None:
                self._close(NORMAL_CLOSURE, own)
                return
            self._write(own)
            if self._paused_at is not None:
                return
        if outbox is not None:
            while batch := outbox.take(BATCH_SIZE):
                if self.is_ending and not outbox.waiting and outbox.unconfirmed is None:
                    self._close(NORMAL_CLOSURE, batch)
                    return
                size = self._write(batch)
                if self._transport.is_closing():  # the write failed: connection_lost returns the batch to the outbox
                    return
                if self._paused_at is not None:
                    outbox.confirm(self._count_undelivered(batch))
                    return
                outbox.confirm()
                if size < BATCH_SIZE:  # the batch was not limited: it contained all messages
                    break
            if outbox.unconfirmed is not None:
                self._request_receipt(outbox)
        if self.is_ending:
            self._close(NORMAL_CLOSURE)

    def _write(self, messages: list[bytes], before: bytes = b"", behind: bytes = b"") -> int:
        """Write a batch and return its size in bytes, the frames' heads included.

        If the kernel does not accept all of it, the transport calls ``pause_writing`` before this returns. ``before``
        and ``behind`` are other octets for the same write.
        """
        count = len(messages)
        data = self._frames.encode(messages[0]) if count == 1 else b"".join(map(encode_frame, messages))
        size = len(data)
        counters = self._counters
        counters.messages_out += count
        counters.bytes_out += size
        self._transport.write(before + data + behind if before or behind else data)
        return size

    def _count_undelivered(self, batch: list[bytes], behind: int = 0) -> int:
        """Count the messages at the end of a batch that the kernel has not accepted in full.

        ``behind`` is the number of octets that were written behind the batch.
        """
        buffered: int = self._transport.get_write_buffer_size() - behind
        count = 0
        while buffered > 0 and count < len(batch):
            count += 1
            buffered -= len(encode_frame(batch[-count]))
        return count

    def pause_writing(self) -> None:
        """Stop writing: bytes stay in the transport's buffer."""
        self._paused_at = self._time()
        self._schedule()

    def resume_writing(self) -> None:
        """Confirm the last batch and write the next one: the transport's buffer is empty."""
        self._paused_at = None
        if self._outbox is not None:
            self._outbox.confirm()
        if self._closing:
            self._end()
        else:
            self.flush()

    def _close(self, code: int, last: list[bytes] | None = None) -> None:
        """Send ``last`` (messages taken from the outbox if there is one) and a close frame in one write."""
        if self._closing:
            return
        self._closing = self.is_ending = True
        if not self._transport.is_closing():
            frame = encode_frame(struct.pack("!H", code), CLOSE)
            if last is None:
                self._transport.write(frame)
            else:
                self._write(last, behind=frame)
                if self._transport.is_closing():  # the write failed: connection_lost returns the batch to the outbox
                    return
                if self._outbox is not None:
                    paused = self._paused_at is not None
                    self._outbox.confirm(self._count_undelivered(last, len(frame)) if paused else 0)
                if self._paused_at is not None:  # ``resume_writing`` follows
                    return
            self._end()
        self._release()

    def _end(self) -> None:
        """Close the transport once the client has sent its close frame, or ``CLOSE_TIME`` later."""
        self._release()
        if self._client_closed:
            self._transport.close()
        else:
            self._close_timer = asyncio.get_running_loop().call_later(CLOSE_TIME, self._transport.close)

    def _release(self) -> None:
        """Detach the outbox, with the undelivered messages at its front again."""
        if self._outbox is not None:
            self._outbox.rewind()
            self._outbox = None

    def abort(self) -> None:
        """End the connection at once, without a close frame; its session waits for a resume."""
        self._transport.abort()

    # -- edge.clients.frame_input.FrameHandler

    @property
    def has_session(self) -> bool:
        """See ``FrameHandler.has_session``."""
        return self._client is not None and self._client.session is not None

    def handle(self, frame: Frame) -> None:
        """See ``FrameHandler.handle``."""
        opcode, value, size = frame
        if opcode == TEXT:
            self.handle_text(value, size)  # type: ignore[arg-type]  # a text message's value is a str
            return
        if opcode in (FRAGMENT, BINARY):
            self._counters.bytes_in += size
        if self._client is not None and self._endpoint.dispatch.received_frame(self._client, size):
            self._handle_other(self._client, opcode, value)

    def handle_text(self, text: str, size: int) -> None:
        """See ``FrameHandler.handle_text``."""
        counters = self._counters
        counters.messages_in += 1
        counters.bytes_in += size
        self._last_received = self._time()
        if self._client is not None:
            self._received(self._client, text, size)

    def refuse(self, code: int) -> None:
        """Close after a protocol error: message too big (1009), not UTF-8 (1007), any other (1002).

        The answers to the messages before it are written first.
        """
        self.flush()
        self._close(code)

    def confirm_close(self) -> None:
        """See ``FrameHandler.confirm_close``."""
        self._client_closed = True
        if self._closing:
            self._transport.close()

    def _handle_other(self, client: ClientConnection, opcode: int, value: Any) -> None:
        """Handle a frame that is not a text message and is within the limits."""
        if opcode == PONG:
            self._last_received = self._time()
            self._handle_pong(bytes(value))
        elif opcode == PING:
            if self._paused_at is None:
                self._transport.write(encode_frame(bytes(value), PONG))
        elif opcode == CLOSE:
            code = int.from_bytes(value[:2])
            self._close(code or NORMAL_CLOSURE)
            self._transport.close()
        elif opcode != FRAGMENT:
            self._last_received = self._time()
            self._endpoint.dispatch.received_binary(client)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the connection; its session waits for a resume."""
        self._closing = self.is_ending = True
        self._release()
        for timer in (self._timer, self._close_timer):
            if timer is not None:
                timer.cancel()
        self._endpoint.remove(self)
        client, on_lost = self._client, self._on_lost
        self._forget_parts()
        if client is not None:
            self._endpoint.dispatch.connection_closed(client)
        if on_lost is not None:
            on_lost(exc)

    def _forget_parts(self) -> None:
        """Break the cycles of references, so that all objects of the connection are freed without the collector."""
        self._timer = self._close_timer = self._client = self._on_lost = self._input = None
        self.data_received = _ignore  # type: ignore[method-assign]

    # -- time

    def _tick(self) -> None:
        """Abort a connection whose client is silent or does not receive; send a ping if one is due."""
        now = self._time()
        if more := grace(self._due, now, READ_DEADLINE):  # after a standstill, read waiting data first
            self._last_received = max(self._last_received, now + more - READ_DEADLINE)
            if self._paused_at is not None:
                self._paused_at = max(self._paused_at, now + min(more, WRITE_DEADLINE) - WRITE_DEADLINE)
        if self._input is not None and self._input.held:  # its frames and pongs are not read
            self._last_received = now
        stuck = self._paused_at is not None and now >= self._paused_at + WRITE_DEADLINE
        if stuck or now >= self._last_received + READ_DEADLINE:
            self._closing = True
            self._transport.abort()
            return
        if now >= self._ping_at:
            self._ping(now)
        self._schedule()

    def _ping(self, now: float) -> None:
        self._ping_at = now + PING_PERIOD
        if self._paused_at is None and not self._closing:
            self._transport.write(self._next_ping(now))

    def _next_ping(self, now: float) -> bytes:
        """Return a ping with unix time in nanoseconds, or with the next number if the wall clock was set back."""
        self._ping_at = now + PING_PERIOD
        content = max(int(self._endpoint.wall_clock() * 1e9), self._ping_content + 1)
        self._ping_content = content
        self._receipts.ping_sent(now, content, self._outbox)
        return encode_frame(b"%d" % content, PING)

    def _request_receipt(self, outbox: Outbox) -> None:
        """Send a ping that requests a receipt if one is needed, now or when the last ping is old enough."""
        due, now = self._receipts.ping_time(outbox), self._time()
        if due is None:
            return
        if now >= due:
            self._ping(now)
        else:
            self._ping_at = min(self._ping_at, due)
        self._schedule()

    def _schedule(self) -> None:
        """Set the timer to the next deadline or ping."""
        if self._timer is not None:
            self._timer.cancel()
        due = min(self._last_received + READ_DEADLINE, self._ping_at)
        if self._paused_at is not None:
            due = min(due, self._paused_at + WRITE_DEADLINE)
        self._due = due
        self._timer = asyncio.get_running_loop().call_at(due, self._tick)

    def _handle_pong(self, content: bytes) -> None:
        """Confirm messages and measure the round trip by the content of a ping: a decimal number below 2**64."""
        if content.isdigit() and len(content) < 20:
            sent = int(content)
            if self._outbox is not None and self._outbox.unconfirmed is not None:
                self._receipts.pong_received(sent, self._outbox)
                self._request_receipt(self._outbox)
            milliseconds = self._endpoint.wall_clock() * 1e3 - sent / 1e6
            if 0 <= milliseconds < READ_DEADLINE * 1e3:
                self._counters.round_trip.observe(milliseconds)


def _ignore(data: bytes) -> None:
    """Stand for ``data_received`` of a lost connection, for which the transport does not call it."""
