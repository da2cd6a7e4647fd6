"""The input of a WebSocket connection: its frames, in a bounded number for each turn of the event loop.

Source: docs/protocol.md, "Limits". A few frames of a connection are handled as soon as they arrive. For the rest,
reading pauses until all other waiting connections have had their turn. So a connection that sends as fast as it can
delays the others by a few frames, not by all that the kernel has buffered. Connections without a session
("strangers") share a smaller budget, so that they do not delay the sessions.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Any, Protocol

from gateway.edge.clients.frame_reader import CLOSE, HEAD_OF_WHOLE, Frame, FrameError, FrameReader

log = logging.getLogger("portunus.edge")

FRAMES = 16  # of one connection, handled when they arrive
FRAMES_IN_TURN = 8  # of one waiting connection, handled in each later turn
WAITING_FRAMES = 256  # of all waiting connections, handled in one turn of the loop
STRANGER_FRAMES = 64  # of all connections without a session, handled when they arrive in one turn of the loop
AFTER_END = 65_536  # octets read and dropped after the connection's end, before reading stops

_CLOSE_FRAMES = ((6, bytes((0x80 | CLOSE, 0x80))), (8, bytes((0x80 | CLOSE, 0x82))))  # without and with a code


class FrameHandler(Protocol):
    """The connection whose frames are read."""

    @property
    def has_session(self) -> bool:
        """Whether the client has a session."""

    @property
    def is_ending(self) -> bool:
        """Whether the connection has ended, or will end when the waiting messages are written."""

    def handle(self, frame: Frame) -> None:
        """Handle a frame."""

    def handle_text(self, text: str, size: int) -> None:
        """Handle a text message of ``size`` bytes, as ``handle`` does."""

    def refuse(self, code: int) -> None:
        """Close the connection after a protocol error."""

    def confirm_close(self) -> None:
        """Close the transport: the client has answered the close frame, or has sent its own close frame."""


class InputTurns:
    """Shares the event loop among the connections that have sent more frames than are handled at once."""

    def __init__(self) -> None:
        self.of_strangers = STRANGER_FRAMES  # frames of connections without a session left in this turn of the loop
        self._waiting: deque[FrameInput] = deque()
        self._scheduled = False

    def wait(self, connection: FrameInput) -> None:
        """Queue a connection for a later turn of the loop."""
        self._waiting.append(connection)
        self.schedule()

    def schedule(self) -> None:
        """Handle frames of the waiting connections in the next turn of the loop."""
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        self._scheduled = False
        self.of_strangers = STRANGER_FRAMES
        left = WAITING_FRAMES
        for _ in range(len(self._waiting)):
            left -= self._waiting.popleft().take_turn()
            if left <= 0:
                break
        if self._waiting:
            self.schedule()


class FrameInput:
    """The frames of a client that are not handled yet; ``limit`` is the greatest size of a message in bytes."""

    __slots__ = (
        "_after_end",
        "_handler",
        "_has_session",
        "_held",
        "_paused",
        "_reader",
        "_transport",
        "_turns",
        "_waits",
    )

    def __init__(self, handler: FrameHandler, transport: Any, turns: InputTurns, limit: int) -> None:
        self._handler = handler
        self._transport = transport
        self._turns = turns
        self._reader = FrameReader(limit)
        self._has_session = False  # as of the last data; a client keeps its session
        self._waits = False  # the connection is queued for a later turn
        self._held = False  # the flows have paused the connection
        self._paused = False  # the transport is not read from
        self._after_end = 0  # octets dropped

    def data_received(self, data: bytes) -> None:
        """Handle the first frames, and leave the rest to a later turn of the connection."""
        handler = self._handler
        if handler.is_ending:
            self._drop(data)
            return
        if self._has_session and not (self._waits or self._held):
            # The fast path: data that are one text message are within every bound on the frames of a connection.
            try:
                text = self._reader.read_whole(data)
                if text is not None:
                    handler.handle_text(text, len(data) - HEAD_OF_WHOLE)
                    return
            except FrameError as error:
                self._refuse(error)
                return
            except Exception:
                _log_fault()
                return
        self._reader.feed(data)
        if self._waits or self._held:
            return
        if handler.has_session:
            self._has_session = True
            self._read(FRAMES)
            return
        turns = self._turns
        if turns.of_strangers > 0:
            turns.of_strangers -= self._read(min(FRAMES, turns.of_strangers))
            turns.schedule()
        else:
            self._wait()

    def take_turn(self) -> int:
        """Handle a few frames and return their number."""
        self._waits = False
        handled = 0 if self._held else self._read(FRAMES_IN_TURN)
        self._read_on()
        return handled

    def hold(self) -> None:
        """Handle no more frames until ``release``."""
        self._held = True
        self._pause()

    def release(self) -> None:
        """Handle frames again, in a later turn of the loop."""
        if self._held:
            self._held = False
            if not self._waits:
                self._wait()

    def _read(self, at_most: int) -> int:
        """Handle at most ``at_most`` frames, until the connection ends or is held; return their number."""
        reader, handler = self._reader, self._handler
        for count in range(at_most):
            try:
                frame = reader.read()
            except FrameError as error:
                self._refuse(error)
                return count + 1
            if frame is None:
                return count
            try:
                handler.handle(frame)
            except Exception:
                _log_fault()
            if handler.is_ending:
                self._drop(reader.discard())
                return count + 1
            if self._held:
                return count + 1
        if reader.unread:
            self._wait()
        return at_most

    def _refuse(self, error: FrameError) -> None:
        self._reader.discard()
        self._handler.refuse(error.code)

    def _wait(self) -> None:
        self._waits = True
        self._pause()
        self._turns.wait(self)

    def _drop(self, data: bytes | bytearray) -> None:
        """Drop data received after the end of the connection; confirm a close frame at their end."""
        if any(data[-size : 2 - size] == head for size, head in _CLOSE_FRAMES):
            self._handler.confirm_close()
            return
        self._after_end += len(data)
        if self._after_end > AFTER_END:
            self._pause()

    def _pause(self) -> None:
        if not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def _read_on(self) -> None:
        if self._paused and not (self._waits or self._held or self._transport.is_closing()):
            if self._handler.is_ending and self._after_end > AFTER_END:
                return
            self._paused = False
            self._transport.resume_reading()


def _log_fault() -> None:
    log.exception("a WebSocket frame was not handled")
