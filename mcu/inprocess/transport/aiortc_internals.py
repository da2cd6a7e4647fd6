"""The private parts of aiortc and aioice that the SFU uses; no other module uses any.

Written for aiortc 1.16 and aioice 0.13; ``tests/mcu/inprocess/transport/test_aiortc_internals.py`` fails when an
upgrade moves one of these:

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
- ``RTCDataChannel`` counts a label in characters where RFC 8832 requires bytes: see ``ChannelLabel``.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
from collections.abc import Callable
from typing import Any, cast

import aioice
import pylibsrtp
from aioice.candidate import candidate_foundation, candidate_priority
from aioice.ice import CandidatePair, StunProtocol, get_host_addresses
from aiortc import RTCCertificate, RTCDtlsFingerprint, RTCDtlsParameters, RTCDtlsTransport, RTCIceTransport
from aiortc.rtcdtlstransport import DataReceiver
from pylibsrtp import SRTP_MAX_TRAILER_LEN
from pylibsrtp._binding import ffi

from mcu.inprocess.settings import InprocessSettings

RECEIVE_BUFFER = 1 << 20  # bytes per UDP socket: keyframes come in bursts
SRTP_BUFFER = 1 << 16  # bytes: the largest datagram
MAX_PACKET = 65507 - SRTP_MAX_TRAILER_LEN  # bytes that fit into one IPv4 datagram once encrypted
COMPONENT = 1  # RTP and RTCP share one (RFC 8834, 4.5)

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
        """Stop reading without telling the peer, which has ended this association already."""
        self.remove_all_listeners()
        reader, self._task = self._task, None
        if reader is not None:
            reader.cancel()
            await asyncio.wait([reader])

    def _setup_srtp(self) -> None:
        super()._setup_srtp()
        if self._tx_srtp is not None and self._rx_srtp is not None:
            enlarge_buffers(self._tx_srtp, self._rx_srtp)
            self.protect_rtp, self.protect_rtcp = self._tx_srtp.protect, self._tx_srtp.protect_rtcp
            self.unprotect_rtp, self.unprotect_rtcp = self._rx_srtp.unprotect, self._rx_srtp.unprotect_rtcp

    def _register_data_receiver(self, receiver: DataReceiver) -> None:
        super()._register_data_receiver(_SctpExceptionGuard(receiver))

    def _unregister_data_receiver(self, receiver: DataReceiver) -> None:
        self._data_receiver = None


def enlarge_buffers(*sessions: pylibsrtp.Session) -> None:
    """Give SRTP sessions a shared buffer for packets of any size; each call copies its result out of it."""
    memory = ffi.new("char[]", SRTP_BUFFER)
    for session in sessions:
        session._cdata = memory
        session._buffer = ffi.buffer(memory)


class _SctpExceptionGuard:
    """A data receiver that keeps an exception in SCTP from ending DTLS."""

    def __init__(self, receiver: DataReceiver) -> None:
        self._receiver = receiver

    async def _handle_data(self, data: bytes) -> None:
        try:
            await self._receiver._handle_data(data)
        except ConnectionError:
            raise
        except Exception:
            log.warning("SCTP failed on received data", exc_info=True)


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
        if self._renewal is not None and not self._renewal.done():  # aioice's own checks are over
            for pair in self._check_list:
                if pair.state is CandidatePair.State.FROZEN:
                    self.check_start_task(pair)

    def renew(self, ufrag: str, password: str) -> asyncio.Future[None]:
        """Expect another transport of the client, with these credentials; the future is done once it is nominated.

        The own credentials and sockets stay. Candidates of the transport that ends are forgotten.
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
        """Note whether another pair than the running one was nominated."""
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
        """Dispatch one datagram; no exception may leave here."""
        if isinstance(data, str) or len(data) < 2 or self._ice.drops_received:
            return
        first = data[0]
        if 127 < first < 192:
            self._ice.receive_srtp(data)
        elif 19 < first < 64:
            self.receiver.data_received(data, COMPONENT)
        elif first < 4:
            try:
                super().datagram_received(data, addr)
            except Exception:
                log.debug("aioice failed on a STUN message", exc_info=True)


def _machine_addresses() -> tuple[str, ...]:
    return tuple(get_host_addresses(use_ipv4=True, use_ipv6=True)) or ("127.0.0.1",)


def binding_problem(settings: InprocessSettings) -> str:
    """Return why a connection could bind none of its addresses, in one sentence; empty if it could."""
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
