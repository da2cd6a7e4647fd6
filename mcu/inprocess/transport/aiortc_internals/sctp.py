"""SCTP with limits on the memory and CPU time that a peer can use."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from aiortc.rtcdtlstransport import DataReceiver
from aiortc.rtcsctptransport import (
    DATA_CHANNEL_OPEN,
    WEBRTC_DCEP,
    Chunk,
    DataChunk,
    ForwardTsnChunk,
    RTCSctpTransport,
    SackChunk,
)

if TYPE_CHECKING:
    from mcu.inprocess.transport.aiortc_internals.dtls import DtlsTransport

SCTP_CPU = 0.2  # seconds of CPU per second that SCTP of one connection may take
SCTP_WINDOW = 1 << 19  # bytes: the receive window
MAX_TSN_AHEAD = 512  # TSNs ahead of the first missing chunk: more do not fit into one SACK
MAX_WAITING = 512  # chunks of one SCTP stream that wait for a missing one
MAX_FRAGMENTS = 256  # of one message: 64 KiB in parts of 256 bytes
MAX_KEPT_CHUNKS = 2048  # of all SCTP streams
COUNT_CHUNKS_EVERY = 64  # received chunks
MAX_STREAMS = 1024  # SCTP streams
MAX_OPEN_CHANNELS = 64  # data channels of one connection, including closing ones
MAX_CHANNEL_OPEN = 1024  # bytes of a DATA_CHANNEL_OPEN, with label and protocol

log = logging.getLogger("portunus.inprocess")


class ChannelLabel(str):
    """A data channel label whose ``len`` is its UTF-8 length, as aiortc 1.16 needs it for DATA_CHANNEL_OPEN."""

    __slots__ = ()

    def __len__(self) -> int:
        return len(self.encode())


class SctpGuard:
    """A data receiver that keeps SCTP from ending DTLS by an exception, and from taking more than its share of CPU.

    Beyond ``SCTP_CPU`` seconds of a second packets are dropped, as if they were lost.
    """

    def __init__(
        self,
        receiver: DataReceiver,
        cpu_clock: Callable[[], float] = time.thread_time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._receiver = receiver
        self._cpu_clock = cpu_clock
        self._clock = clock
        self._second_ends_at = 0.0
        self._spent = 0.0  # seconds of CPU in the current second
        self._failed = False

    async def _handle_data(self, data: bytes) -> None:
        now = self._clock()
        if now >= self._second_ends_at:
            self._second_ends_at, self._spent = now + 1.0, 0.0
        elif self._spent > SCTP_CPU:
            return
        begun = self._cpu_clock()
        try:
            await self._receiver._handle_data(data)
        except ConnectionError:
            raise
        except Exception:
            if not self._failed:
                log.warning("SCTP failed on received data; further failures of this connection are not logged")
                log.debug("SCTP failed", exc_info=True)
            self._failed = True
        self._spent += self._cpu_clock() - begun


class SctpTransport(RTCSctpTransport):
    """SCTP with bounds on the received data that it keeps.

    A chunk beyond a bound is dropped without being acknowledged, as if it were lost. A message that stays incomplete
    ends the association.
    """

    def __init__(self, dtls: DtlsTransport) -> None:
        super().__init__(dtls)
        self._advertised_rwnd = SCTP_WINDOW
        self._inbound_streams_max = MAX_STREAMS
        self._ended = False
        self._uncounted = 0  # chunks received since ``kept_chunks`` was last checked

    @property
    def kept_chunks(self) -> int:
        """Number of received chunks of messages that are incomplete or out of order."""
        return sum(len(stream.reassembly) for stream in self._inbound_streams.values())

    async def _receive_chunk(self, chunk: Chunk) -> None:
        if not self._ended:
            await super()._receive_chunk(chunk)

    async def _receive_data_chunk(self, chunk: DataChunk) -> None:
        if self._last_received_tsn is None or chunk.stream_id >= MAX_STREAMS:
            return
        ahead = chunk.tsn - self._last_received_tsn & 0xFFFFFFFF
        if MAX_TSN_AHEAD < ahead < 1 << 31:
            return
        stream = self._inbound_streams.get(chunk.stream_id)
        waiting = 0 if stream is None else len(stream.reassembly)
        if ahead > 1 and (waiting >= MAX_WAITING or self._advertised_rwnd < 0):
            return
        self._uncounted += 1
        if self._uncounted >= COUNT_CHUNKS_EVERY:
            self._uncounted = 0
            self._ended = self.kept_chunks > MAX_KEPT_CHUNKS
        if self._ended or waiting >= MAX_WAITING + MAX_FRAGMENTS or self._advertised_rwnd < -SCTP_WINDOW:
            await self._end()
            return
        await super()._receive_data_chunk(chunk)

    async def _end(self) -> None:
        log.info("data channels of a connection end: their client sent a message without end")
        self._ended = True
        self._inbound_streams.clear()
        await self._abort()
        self._set_state(self.State.CLOSED)

    async def _receive_sack_chunk(self, chunk: SackChunk) -> None:
        newest = self._local_tsn - 1 & 0xFFFFFFFF
        outstanding = newest - self._last_sacked_tsn & 0xFFFFFFFF
        acknowledged = chunk.cumulative_tsn - self._last_sacked_tsn & 0xFFFFFFFF
        end = 0
        for first, last in chunk.gaps:
            if not end < first <= last <= outstanding:
                return
            end = last
        if acknowledged <= outstanding:
            await super()._receive_sack_chunk(chunk)

    async def _receive_forward_tsn_chunk(self, chunk: ForwardTsnChunk) -> None:
        if self._last_received_tsn is not None and all(id < MAX_STREAMS for id, _ in chunk.streams):
            await super()._receive_forward_tsn_chunk(chunk)

    async def _data_channel_receive(self, stream_id: int, pp_id: int, data: bytes) -> None:
        opens = pp_id == WEBRTC_DCEP and data[:1] == bytes([DATA_CHANNEL_OPEN])
        if opens and (len(self._data_channels) >= MAX_OPEN_CHANNELS or len(data) > MAX_CHANNEL_OPEN):
            return
        await super()._data_channel_receive(stream_id, pp_id, data)
