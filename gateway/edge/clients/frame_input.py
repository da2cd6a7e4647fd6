"""The input of a WebSocket connection: its frames, in a bounded number for each iteration of the event loop.

Source: docs/protocol.md, "Limits". A few frames of a connection are handled as soon as they arrive. While others wait,
reading from the connection pauses, and all other waiting connections have their turn. So a connection that sends as
fast as it can delays the others by a few frames, not by all that the kernel has buffered. Of all connections without a
session together, ``FRAMES_WITHOUT_SESSION`` frames are handled on arrival, so that they do not delay the sessions.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Any, Protocol

from gateway.edge.clients.frame_reader import CLOSE, SINGLE_FRAME_HEAD_SIZE, Frame, FrameError, FrameReader

log = logging.getLogger("portunus.edge")

FRAMES = 16  # of one connection, handled at once when data arrive
FRAMES_IN_TURN = 8  # of one waiting connection, handled each time that it is its turn
WAITING_FRAMES = 64  # of all waiting connections, handled in one loop iteration
FRAMES_WITHOUT_SESSION = 32  # of all connections without a session, handled in one loop iteration when they arrive
MAX_DROPPED = 65_536  # octets after the end of a connection that are read and dropped before reading stops

# Size and first octets of a client's close frame, without and with a code.
_CLOSE_FRAMES = ((6, bytes((0x80 | CLOSE, 0x80))), (8, bytes((0x80 | CLOSE, 0x82))))


class FrameHandler(Protocol):
    """The connection whose frames are read."""

    @property
    def has_session(self) -> bool:
        """Whether the client has a session."""

    @property
    def is_ending(self) -> bool:
        """Whether the connection has ended, or ends as soon as its outgoing messages are written."""

    def handle(self, frame: Frame) -> None:
        """Handle a frame; it may be of a message, a fragment or a control frame."""

    def handle_text(self, text: str, size: int) -> None:
        """Handle a text message whose only or last frame has ``size`` bytes."""

    def refuse(self, code: int) -> None:
        """Close the connection with a close code (RFC 6455 7.4.1) after a protocol error of the client."""

    def confirm_close(self) -> None:
        """Record the close frame of the client; close the transport now, or as soon as the server's is written."""


class InputTurns:
    """Shares the event loop among the connections that have sent more frames than are handled at once."""

    def __init__(self) -> None:
        self.frames_without_session = FRAMES_WITHOUT_SESSION  # that may still be handled in this loop iteration
        self._waiting: deque[FrameInput] = deque()
        self._scheduled = False

    def queue(self, connection: FrameInput) -> None:
        """Have frames of a connection handled in a later loop iteration."""
        self._waiting.append(connection)
        self.schedule()

    def schedule(self) -> None:
        """Have ``frames_without_session`` reset, and waiting connections handled, in the next loop iteration."""
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        self._scheduled = False
        self.frames_without_session = FRAMES_WITHOUT_SESSION
        left = WAITING_FRAMES
        for _ in range(len(self._waiting)):
            left -= self._waiting.popleft().take_turn()
            if left <= 0:
                break
        if self._waiting:
            self.schedule()


class FrameInput:
    """Reads the frames of a client and calls its handler; ``limit`` is the greatest size of a message in bytes."""

    __slots__ = (
        "_dropped",
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
        self._held = False  # between ``hold`` and ``release``
        self._paused = False  # reading from the transport is paused
        self._dropped = 0  # octets that were dropped after the connection's end

    def data_received(self, data: bytes) -> None:
        """Handle the first frames, and leave the rest to a later turn of the connection."""
        handler = self._handler
        if handler.is_ending:
            self._drop(data)
            return
        if self._has_session and not (self._waits or self._held):
            # The fast path: one text message exceeds no limit on the frames of a connection.
            try:
                text = self._reader.read_single_frame(data)
                if text is not None:
                    handler.handle_text(text, len(data) - SINGLE_FRAME_HEAD_SIZE)
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
        if turns.frames_without_session > 0:
            turns.frames_without_session -= self._read(min(FRAMES, turns.frames_without_session))
            turns.schedule()
        else:
            self._wait()

    def take_turn(self) -> int:
        """Handle a few frames and return their number."""
        self._waits = False
        handled = 0 if self._held else self._read(FRAMES_IN_TURN)
        self._resume_reading()
        return handled

    @property
    def held(self) -> bool:
        """Whether no frames are handled until ``release``."""
        return self._held

    def hold(self) -> None:
        """Handle no more frames until ``release``."""
        self._held = True
        self._pause()

    def release(self) -> None:
        """Handle frames again, in a later loop iteration."""
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
        self._turns.queue(self)

    def _drop(self, data: bytes | bytearray) -> None:
        """Drop data received after the end of the connection; if they end with a close frame, report it."""
        if any(data[-size : 2 - size] == head for size, head in _CLOSE_FRAMES):
            self._handler.confirm_close()
            return
        self._dropped += len(data)
        if self._dropped > MAX_DROPPED:
            self._pause()

    def _pause(self) -> None:
        if not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._paused and not (self._waits or self._held or self._transport.is_closing()):
            if self._handler.is_ending and self._dropped > MAX_DROPPED:
                return
            self._paused = False
            self._transport.resume_reading()


def _log_fault() -> None:
    log.exception("a WebSocket frame was not handled")
