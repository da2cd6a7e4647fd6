"""The private parts of aiortc and aioice that the SFU uses; no other module uses any.

Written for aiortc 1.16 and aioice 0.13; ``tests/mcu/inprocess/transport/test_aiortc_internals.py`` fails when an
upgrade changes one of these:

- ``aioice.Connection.get_component_candidates`` is overridden, ``_protocols`` written: the only way to a port range and
  to loopback. ``_nominated`` and ``CandidatePair`` are read: this saves four coroutines per sent packet.
  ``_add_remote_candidate`` is called: the public coroutine does the same for an IP literal.
- ``aioice.ice.StunProtocol.datagram_received`` is overridden: SRTP is received directly, not after an attempt to parse
  it as STUN, through a queue and a task. Only STUN and DTLS reach aioice (an empty datagram would end it).
- ``RTCDtlsTransport``: ``_set_role``, ``_setup_srtp``, ``_rx_srtp``, ``_tx_srtp`` and ``_task`` are used:
  RTCPeerConnection, which uses them otherwise, decodes all media, cannot reject a media section, and negotiates only
  codecs that it can decode. The ICE transport is duck-typed: ``role``, ``_recv`` and ``_send`` are used.
- ``pylibsrtp.Session``: ``_cdata`` and ``_buffer`` are replaced. Their 1500 bytes leave 1356 for a packet, and some
  senders use more (GStreamer's payloaders 1400).
- ``_register_data_receiver`` is overridden: an exception in SCTP (aiortc asserts on received data) would end DTLS.
- ``aioice.Connection.data_received``, ``request_received`` and ``check_incoming``, and the handlers of chunks in
  ``RTCSctpTransport`` are overridden: they store received data, or spend CPU on it, without bound.
- ``RTCDataChannel`` counts a label in characters where RFC 8832 requires bytes: see ``ChannelLabel``.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, cast

import aioice
import pylibsrtp
from aioice.candidate import candidate_foundation, candidate_priority
from aioice.ice import CandidatePair, StunProtocol, get_host_addresses
from aioice.stun import Message
from aiortc import RTCCertificate, RTCDtlsFingerprint, RTCDtlsParameters, RTCDtlsTransport, RTCIceTransport
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
from pylibsrtp import SRTP_MAX_TRAILER_LEN
from pylibsrtp._binding import ffi

from mcu.inprocess.settings import InprocessSettings

RECEIVE_BUFFER = 1 << 20  # bytes per UDP socket: keyframes come in bursts
SRTP_BUFFER = 1 << 16  # bytes: the largest datagram
MAX_PACKET = 65507 - SRTP_MAX_TRAILER_LEN  # bytes that fit into one IPv4 datagram once encrypted
APPLICATION_DATA = 23  # content type of a DTLS record (RFC 6347, 4.1)
COMPONENT = 1  # RTP and RTCP share one (RFC 8834, 4.5)

MAX_QUEUED = 256  # DTLS records that wait for DTLS
MAX_RECORD = 2048  # bytes of a DTLS record
MAX_DATA_RECORD = 1500  # bytes of a record with application data: aiortc reads no more, and keeps the rest for ever
MAX_REMOTE_CANDIDATES = 128  # peer-reflexive ones included
SCTP_CPU = 0.2  # seconds of CPU per second that SCTP of one connection may take
SCTP_WINDOW = 1 << 19  # bytes: the receive window
MAX_TSN_AHEAD = 512  # TSNs ahead of the first missing chunk: more do not fit into one SACK
MAX_WAITING = 512  # chunks of one SCTP stream that wait for a missing one
MAX_FRAGMENTS = 256  # of one message: 64 KiB in parts of 256 bytes
MAX_KEPT_CHUNKS = 2048  # of all SCTP streams
COUNT_CHUNKS_EVERY = 64
MAX_STREAMS = 1024  # SCTP streams
MAX_OPEN_CHANNELS = 64  # data channels of one connection, including closing ones
MAX_CHANNEL_OPEN = 1024  # bytes of a DATA_CHANNEL_OPEN, with label and protocol

log = logging.getLogger("portunus.inprocess")


class NoSocketError(Exception):
    """None of the configured addresses and ports could be bound."""


class ChannelLabel(str):
    """A data channel label whose ``len`` is its UTF-8 length, as aiortc 1.16 needs it for DATA_CHANNEL_OPEN."""

    __slots__ = ()

    def __len__(self) -> int:
        return len(self.encode())


class DtlsTransport(RTCDtlsTransport):
    """DTLS over an ``IceTransport``, with access to the SRTP sessions."""

    protect_rtp: Callable[[bytes], bytes] | None = None  # these four are set once the handshake is done
    protect_rtcp: Callable[[bytes], bytes] | None = None
    unprotect_rtp: Callable[[bytes], bytes] | None = None
    unprotect_rtcp: Callable[[bytes], bytes] | None = None

    def __init__(self, ice: IceTransport, certificate: RTCCertificate | None = None) -> None:
        self.certificate = RTCCertificate.generateCertificate() if certificate is None else certificate
        super().__init__(cast(RTCIceTransport, _IceTransportAdapter(ice)), [self.certificate])

    async def handshake(self, fingerprints: tuple[tuple[str, str], ...], *, client: bool) -> None:
        """Connect to the peer with a certificate of these fingerprints; ``state`` is the result."""
        self._set_role("client" if client else "server")
        await self.start(RTCDtlsParameters([RTCDtlsFingerprint(*fingerprint) for fingerprint in fingerprints]))

    async def close(self) -> None:
        """Close the DTLS connection and wait for the reader task."""
        self.remove_all_listeners()
        reader = self._task
        await self.stop()
        if reader is not None:
            await asyncio.wait([reader])

    async def abandon(self) -> None:
        """Stop reading without notifying the peer, which has already ended this association."""
        self.remove_all_listeners()
        reader, self._task = self._task, None
        if reader is not None:
            reader.cancel()
            await asyncio.wait([reader])

    def forget_received(self, ssrcs: Iterable[bytes]) -> None:
        """Free the SRTP state of received SSRCs."""
        _remove_streams(self._rx_srtp, (int.from_bytes(ssrc, "big") for ssrc in ssrcs))

    def forget_sent(self, ssrcs: Iterable[int]) -> None:
        """Free the SRTP state of sent SSRCs."""
        _remove_streams(self._tx_srtp, ssrcs)

    def _setup_srtp(self) -> None:
        super()._setup_srtp()
        if self._tx_srtp is not None and self._rx_srtp is not None:
            enlarge_buffers(self._tx_srtp, self._rx_srtp)
            self.protect_rtp, self.protect_rtcp = self._tx_srtp.protect, self._tx_srtp.protect_rtcp
            self.unprotect_rtp, self.unprotect_rtcp = self._rx_srtp.unprotect, self._rx_srtp.unprotect_rtcp

    def _register_data_receiver(self, receiver: DataReceiver) -> None:
        super()._register_data_receiver(_SctpGuard(receiver))

    def _unregister_data_receiver(self, receiver: DataReceiver) -> None:
        self._data_receiver = None


def _remove_streams(session: pylibsrtp.Session | None, ssrcs: Iterable[int]) -> None:
    if session is None:
        return
    for ssrc in ssrcs:
        with suppress(pylibsrtp.Error):  # nothing was sent or received
            session.remove_stream(ssrc)


def enlarge_buffers(*sessions: pylibsrtp.Session) -> None:
    """Give SRTP sessions a shared buffer for packets of any size; each call copies its result out of it."""
    memory = ffi.new("char[]", SRTP_BUFFER)
    for session in sessions:
        session._cdata = memory
        session._buffer = ffi.buffer(memory)


class _SctpGuard:
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


class _IceTransportAdapter:
    """The part of RTCIceTransport's interface that RTCDtlsTransport uses."""

    def __init__(self, ice: IceTransport) -> None:
        self._ice = ice
        self._recv = ice.recv
        self._send = ice.send

    @property
    def role(self) -> str:
        return "controlling" if self._ice.ice_controlling else "controlled"


class IceTransport(aioice.Connection):
    """ICE on the addresses and ports of the settings."""

    def __init__(self, settings: InprocessSettings, receive: Callable[[bytes], None], *, controlling: bool) -> None:
        super().__init__(ice_controlling=controlling)
        self._settings = settings
        self._pair: CandidatePair | None = None
        self._destination: tuple[Callable[[bytes, Any], None], tuple[str, int]] | None = None
        self.receive_srtp: Callable[[bytes], object] = receive
        self.drops_received = False  # whether all received datagrams are dropped, for tests
        self._renewal: asyncio.Future[None] | None = None  # done once the client's next transport is nominated
        self._sources: set[tuple[str, int]] = set()  # the client's: from candidates and connectivity checks

    async def get_component_candidates(
        self,
        component: int,
        addresses: list[str],
        timeout: int = 5,  # noqa: ASYNC109  aioice's signature
    ) -> list[aioice.Candidate]:
        """Bind one socket per configured address; the addresses that aioice found are not used."""
        candidates: list[aioice.Candidate] = []
        for rank, address in enumerate(self._settings.addresses or _machine_addresses()):
            bound = _bind(address, self._settings)
            if bound is None:
                continue
            _, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: _DemultiplexingSocket(self), sock=bound
            )
            self._protocols.append(protocol)
            host, port = bound.getsockname()[:2]
            protocol.local_candidate = aioice.Candidate(
                foundation=candidate_foundation("host", "udp", host),
                component=component,
                transport="udp",
                priority=candidate_priority(component, "host", max(0, 65535 - rank)),
                host=host,
                port=port,
                type="host",
            )
            candidates.append(protocol.local_candidate)
        if not candidates:
            raise NoSocketError("no UDP port could be bound")
        return candidates

    def add(self, candidate: aioice.Candidate) -> None:
        """Add a remote candidate whose address is an IP literal."""
        self._add_remote_candidate(candidate, candidate.host)
        self._add_source((candidate.host, candidate.port))
        if self._renewal is not None and not self._renewal.done():  # aioice's own checks are over
            for pair in self._check_list:
                if pair.state is CandidatePair.State.FROZEN:
                    self.check_start_task(pair)

    def data_received(self, data: bytes, component: int) -> None:
        """Queue a DTLS record; drop it while too many wait."""
        if self._queue.qsize() < MAX_QUEUED:
            super().data_received(data, component)

    def is_source(self, address: tuple[str, int]) -> bool:
        """Return whether a datagram other than STUN may come from an address."""
        return address in self._sources

    def request_received(self, message: Message, addr: tuple[str, int], protocol: StunProtocol) -> None:
        """Answer a connectivity check; store the source of an authentic one that is received before ``connect``."""
        super().request_received(message, addr, protocol)
        if self._early_checks and self._early_checks[-1][0] is message:
            self._add_source(addr)

    def check_incoming(self, message: Message, addr: tuple[str, int], protocol: StunProtocol) -> None:
        """Handle an authentic check, unless it would add a candidate beyond the limit."""
        if addr not in self._sources and len(self._remote_candidates) >= MAX_REMOTE_CANDIDATES:
            return
        self._add_source(addr)
        super().check_incoming(message, addr, protocol)

    def _add_source(self, address: tuple[str, int]) -> None:
        if len(self._sources) >= 2 * MAX_REMOTE_CANDIDATES:
            self._sources.clear()
            self._sources.update((c.host, c.port) for c in self._remote_candidates[-MAX_REMOTE_CANDIDATES:])
        self._sources.add(address)

    def renew(self, ufrag: str, password: str) -> asyncio.Future[None]:
        """Accept a new transport of the client with these credentials; the future is done once it is nominated.

        The SFU's credentials and sockets stay; the candidates of the client's old transport are removed.
        """
        self.remote_username, self.remote_password = ufrag, password
        running = self._nominated.get(COMPONENT)
        for pair in self._check_list:
            if pair is not running and pair.task is not None:
                pair.task.cancel()
        self._check_list[:] = [] if running is None else [running]
        self._remote_candidates[:] = [] if running is None else [running.remote_candidate]
        if self._renewal is not None:
            self._renewal.cancel()
        self._renewal = asyncio.get_running_loop().create_future()
        return self._renewal

    def check_complete(self, pair: CandidatePair) -> None:
        """End the renewal if a pair other than the running one was nominated."""
        before = self._nominated.get(COMPONENT)
        super().check_complete(pair)
        if self._renewal is not None and not self._renewal.done() and self._nominated.get(COMPONENT) is not before:
            self._renewal.set_result(None)

    def send_now(self, data: bytes) -> bool:
        """Send a datagram on the nominated pair without awaiting; ``False`` if there is none."""
        pair = self._nominated.get(COMPONENT)
        if pair is not self._pair:
            self._pair = pair
            self._destination = None if pair is None else (pair.protocol.transport.sendto, pair.remote_addr)
        if self._destination is None:
            return False
        send, to = self._destination
        send(data, to)
        return True


class _DemultiplexingSocket(StunProtocol):
    """A UDP socket that demultiplexes SRTP, DTLS and STUN by the first byte (RFC 7983)."""

    def __init__(self, ice: IceTransport) -> None:
        super().__init__(ice)
        self._ice = ice

    def datagram_received(self, data: bytes | str, addr: tuple[Any, ...]) -> None:
        """Dispatch one datagram; must not raise."""
        if isinstance(data, str) or len(data) < 2 or self._ice.drops_received:
            return
        first = data[0]
        if 127 < first < 192:
            if self._ice.is_source(addr[:2]):
                self._ice.receive_srtp(data)
        elif 19 < first < 64:
            if self._ice.is_source(addr[:2]):
                for record in dtls_records(data):
                    self._ice.data_received(record, COMPONENT)
        elif first < 4:
            try:
                super().datagram_received(data, addr)
            except Exception:
                log.debug("aioice failed on a STUN message", exc_info=True)


def dtls_records(datagram: bytes) -> Iterator[bytes]:
    """Yield the DTLS records of a datagram, except oversized ones, up to the first malformed one.

    aiortc reads one record per datagram, and would keep the others.
    """
    at = 0
    while at < len(datagram):
        first = datagram[at]
        if 31 < first < 64:  # DTLS 1.3, encrypted (RFC 9147, 4)
            header = 2 + bool(first & 0x08) + 2 * bool(first & 0x04)
            has_length = first & 0x04
        else:
            header, has_length = 13, 1
        if at + header > len(datagram):
            return
        length = int.from_bytes(datagram[at + header - 2 : at + header], "big") if has_length else len(datagram)
        end = min(at + header + length, len(datagram)) if not has_length else at + header + length
        if end > len(datagram):
            return
        is_data = first == APPLICATION_DATA or first > 31
        if end - at <= (MAX_DATA_RECORD if is_data else MAX_RECORD):
            yield datagram[at:end]
        at = end


def _machine_addresses() -> tuple[str, ...]:
    return tuple(get_host_addresses(use_ipv4=True, use_ipv6=True)) or ("127.0.0.1",)


def binding_problem(settings: InprocessSettings) -> str:
    """Return the reason why no address can be bound, in one sentence; empty if one can be bound."""
    try:
        addresses = settings.addresses or _machine_addresses()
    except OSError:
        addresses = ()
    if _can_bind_any(addresses, settings):
        return ""
    if not _can_bind_any(("127.0.0.1", "::1"), InprocessSettings()):
        return "no UDP socket can be opened"
    if _can_bind_any(addresses, InprocessSettings()):
        return "no UDP port from mcu.inprocess.port_min to mcu.inprocess.port_max is free"
    if settings.addresses:
        return "mcu.inprocess.address is not an address of this machine"
    return "this machine has no address that could be bound; set mcu.inprocess.address"


def _can_bind_any(addresses: tuple[str, ...], settings: InprocessSettings) -> bool:
    for address in addresses:
        bound = _bind(address, settings)
        if bound is not None:
            bound.close()
            return True
    return False


def _bind(address: str, settings: InprocessSettings) -> socket.socket | None:
    """Return a socket on a free port of the range; ``None`` if no port is free or the address is not this machine's."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    if settings.port_min == 0:
        ports = [0]
    else:
        ports = list(range(settings.port_min, settings.port_max + 1))
        random.shuffle(ports)
    try:
        bound = socket.socket(family, socket.SOCK_DGRAM)
    except OSError as error:
        log.debug("a UDP socket could not be opened: %s", error.strerror)
        return None
    bound.setblocking(False)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    for port in ports:
        try:
            bound.bind((address, port))
        except OSError as error:
            log.debug("a UDP port is not free: %s", error.strerror)
        else:
            return bound
    bound.close()
    return None
