"""One connection to a client: ICE, DTLS-SRTP and data channels in one bundle. Every touch of aiortc's insides is here.

Written for aiortc 1.16 and aioice 0.13; ``tests/mcu/inprocess/test_internals.py`` fails when an upgrade moves one of
these:

- ``aioice.Connection.get_component_candidates`` is overridden, ``_protocols`` written: the only way to a port range and
  to loopback. ``_nominated`` and ``CandidatePair`` are read: sending without four coroutines per packet.
- ``aioice.ice.StunProtocol.datagram_received`` is overridden: SRTP goes straight to us instead of through an attempt
  to parse it as STUN, a queue and a task. Nothing but STUN and DTLS reaches aioice (an empty datagram would end it).
- ``RTCDtlsTransport``: ``_set_role``, ``_setup_srtp``, ``_rx_srtp``, ``_tx_srtp`` and ``_task`` are used, because their
  only other user, RTCPeerConnection, decodes all that it receives, cannot reject a medium, and negotiates only what it
  can decode. Its ICE transport is duck-typed: it uses ``role``, ``_recv`` and ``_send``.
- ``_register_data_receiver`` is overridden: an exception in SCTP (aiortc asserts on what peers send) would end DTLS.
- ``RTCDataChannel`` counts a label in characters where RFC 8832 wants bytes: see ``_Label``.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import Any, Protocol, cast

import aioice
import pylibsrtp
from aioice.candidate import candidate_foundation, candidate_priority
from aioice.ice import CandidatePair, StunProtocol, get_host_addresses
from aiortc import (
    RTCCertificate,
    RTCDataChannel,
    RTCDataChannelParameters,
    RTCDtlsFingerprint,
    RTCDtlsParameters,
    RTCDtlsTransport,
    RTCIceTransport,
    RTCSctpCapabilities,
    RTCSctpTransport,
)
from aiortc.rtcdtlstransport import DataReceiver

from mcu.inprocess.description import LocalTransport, RemoteTransport
from mcu.inprocess.settings import Settings
from sdp.candidates import Candidate

CONNECT_TIMEOUT = 30.0  # seconds from the first description of the client to a connection
RECEIVE_BUFFER = 1 << 20  # bytes per UDP socket: keyframes come in bursts
MAX_DATAGRAM = 1500 - 144  # bytes pylibsrtp takes
_COMPONENT = 1  # RTP and RTCP share one (RFC 8834, 4.5)

log = logging.getLogger("portunus.inprocess")


class NoSocket(Exception):
    """No address or no port of the configured ones could be bound."""


class User(Protocol):
    """Who owns a transport and hears from it."""

    def on_connected(self) -> None:
        """Learn that SRTP may be sent now."""

    def on_lost(self) -> None:
        """Learn that the connection failed or that the client ended it; called once at most, never after ``close``."""

    def on_rtp(self, data: bytes) -> None:
        """Take a decrypted RTP packet."""

    def on_rtcp(self, data: bytes) -> None:
        """Take a decrypted compound RTCP packet."""

    def on_channel(self, channel: RTCDataChannel) -> None:
        """Take a data channel that the client opened."""


class Transport:
    """A bundle's transport; open it, describe it to the client, then connect it to what the client describes."""

    def __init__(self, settings: Settings, user: User, *, controlling: bool) -> None:
        self._user = user
        self._announced = settings.announced_address
        self._ice = _Ice(settings, self._receive, controlling=controlling)
        self._dtls = _Dtls(cast(RTCIceTransport, _Link(self._ice)), [RTCCertificate.generateCertificate()])
        self._dtls.on("statechange", self._dtls_changed)
        self._sctp: RTCSctpTransport | None = None
        self._sctp_remote: tuple[int, int] | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._lost = False
        self.connected = False

    async def open(self) -> LocalTransport:
        """Bind the sockets and return what the client must know.

        Raises:
            NoSocket: there is no free port within the range, or no such address.
        """
        await self._ice.gather_candidates()
        candidates = [
            f"candidate:{c.foundation} {c.component} udp {c.priority} {self._announced or c.host} {c.port} typ host"
            for c in self._ice.local_candidates
        ]
        fingerprint = self._dtls.getLocalParameters().fingerprints[0]
        return LocalTransport(
            self._ice.local_username,
            self._ice.local_password,
            f"{fingerprint.algorithm} {fingerprint.value}",
            tuple(dict.fromkeys(candidates)),
            random.getrandbits(62),
        )

    def connect(self, remote: RemoteTransport, *, client: bool) -> None:
        """Begin to connect to the client, as DTLS client or server; later calls only add what is new in ``remote``."""
        for candidate in remote.candidates:
            self.add_candidate(candidate)
        if remote.sctp_port is not None:
            self._sctp_remote = (remote.sctp_port, remote.max_message_size)
        if self._connecting is None and self._closing is None:
            self._dtls._set_role("client" if client else "server")
            self._connecting = asyncio.create_task(self._connect(remote), name="inprocess-connect")
        elif self.connected and self._sctp is not None:
            self._start_sctp()

    def add_candidate(self, candidate: Candidate) -> None:
        """Take a candidate of the client; those we cannot use (TCP, a host name, an RTCP port) are ignored."""
        try:
            address = ip_address(candidate.address)
        except ValueError:
            return
        if candidate.protocol != "udp" or candidate.component != _COMPONENT or address.is_unspecified:
            return
        if candidate.type == "prflx" or candidate.port == 0 or self._closing is not None:
            return
        self._ice.add(
            aioice.Candidate(
                foundation=candidate.foundation,
                component=_COMPONENT,
                transport="udp",
                priority=candidate.priority,
                host=str(address),
                port=candidate.port,
                type=candidate.type,
            )
        )

    def send_rtp(self, packet: bytes) -> bool:
        """Encrypt and send; ``False`` if it could not be sent, which is as good as a loss on the way."""
        return self._send(self._dtls.protect_rtp, packet)

    def send_rtcp(self, packet: bytes) -> bool:
        """Encrypt and send a compound packet."""
        return self._send(self._dtls.protect_rtcp, packet)

    def _send(self, protect: Callable[[bytes], bytes] | None, packet: bytes) -> bool:
        if protect is None or not self.connected or len(packet) > MAX_DATAGRAM:
            return False
        try:
            return self._ice.send_now(protect(packet))
        except pylibsrtp.Error:
            log.debug("a packet could not be encrypted", exc_info=True)
            return False

    def enable_channels(self) -> None:
        """Make data channels possible; once the client has agreed, they are."""
        if self._sctp is None:
            self._sctp = RTCSctpTransport(self._dtls)
            self._sctp.on("datachannel", self._user.on_channel)
            if self.connected:
                self._start_sctp()

    def open_channel(self, like: RTCDataChannel) -> RTCDataChannel:
        """Open a channel with the label, protocol and guarantees of another; needs ``enable_channels`` before."""
        if self._sctp is None:
            raise RuntimeError("data channels are not enabled")
        parameters = RTCDataChannelParameters(
            label=_Label(like.label),
            protocol=_Label(like.protocol),
            ordered=like.ordered,
            maxPacketLifeTime=like.maxPacketLifeTime,
            maxRetransmits=like.maxRetransmits,
        )
        return RTCDataChannel(self._sctp, parameters)

    def begin_close(self) -> asyncio.Task[None]:
        """Release all; return the task that does, the same each time: whoever calls must keep it until it is done."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name="inprocess-close")
        return self._closing

    async def close(self) -> None:
        """Release all; idempotent, and goes on to its end when the caller is cancelled."""
        await asyncio.shield(self.begin_close())

    async def _close(self) -> None:
        self.connected = False
        self._dtls.remove_all_listeners()
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
        if self._sctp is not None:
            await self._sctp.stop()
            self._sctp.remove_all_listeners()
        reader = self._dtls._task
        await self._dtls.stop()
        if reader is not None:
            await asyncio.wait([reader])
        await self._ice.close()

    async def _connect(self, remote: RemoteTransport) -> None:
        self._ice.remote_username = remote.ufrag
        self._ice.remote_password = remote.password
        self._ice.remote_is_lite = remote.lite
        if remote.lite:
            self._ice.ice_controlling = True
        prints = [RTCDtlsFingerprint(algorithm, value) for algorithm, value in remote.fingerprints]
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await self._ice.connect()
                await self._dtls.start(RTCDtlsParameters(prints))
        except (ConnectionError, TimeoutError):
            self._lose()
            return
        except Exception:
            log.exception("a connection to a client failed")
            self._lose()
            return
        if self._dtls.state != "connected":
            self._lose()
            return
        self.connected = True
        if self._sctp is not None:
            self._start_sctp()
        self._user.on_connected()

    def _start_sctp(self) -> None:
        if self._sctp is None or self._sctp_remote is None or self._sctp.state != "new":
            return
        port, size = self._sctp_remote
        started = self._sctp.start(RTCSctpCapabilities(maxMessageSize=size), port)
        _run(started, "inprocess-sctp")

    def _dtls_changed(self) -> None:
        if self._dtls.state in ("closed", "failed") and self.connected:
            self._lose()

    def _lose(self) -> None:
        if not self._lost and self._closing is None:
            self._lost = True
            self.connected = False
            self._user.on_lost()

    def _receive(self, data: bytes) -> None:
        """Decrypt what is SRTP or SRTCP and hand it on; no exception may leave here."""
        try:
            session = self._dtls._rx_srtp
            if session is None or not self.connected:
                return
            if 192 <= data[1] <= 208:  # RFC 5761, 4
                self._user.on_rtcp(session.unprotect_rtcp(data))
            else:
                self._user.on_rtp(session.unprotect(data))
        except pylibsrtp.Error:
            log.debug("a packet could not be decrypted")
        except Exception:
            log.exception("a packet could not be forwarded")


_running: set[asyncio.Task[None]] = set()


def _run(work: Awaitable[None], name: str) -> None:
    async def run() -> None:
        try:
            await work
        except ConnectionError:
            log.debug("%s: the connection ended", name)

    task = asyncio.create_task(run(), name=name)
    _running.add(task)
    task.add_done_callback(_running.discard)


class _Label(str):
    """A text whose ``len`` is that of its UTF-8 form, as the sender of DATA_CHANNEL_OPEN in aiortc 1.16 needs it."""

    __slots__ = ()

    def __len__(self) -> int:
        return len(self.encode())


class _Dtls(RTCDtlsTransport):
    """DTLS whose SRTP sessions we use ourselves."""

    protect_rtp: Callable[[bytes], bytes] | None = None
    protect_rtcp: Callable[[bytes], bytes] | None = None

    def _setup_srtp(self) -> None:
        super()._setup_srtp()
        if self._tx_srtp is not None:
            self.protect_rtp = self._tx_srtp.protect
            self.protect_rtcp = self._tx_srtp.protect_rtcp

    def _register_data_receiver(self, receiver: DataReceiver) -> None:
        super()._register_data_receiver(_Guard(receiver))

    def _unregister_data_receiver(self, receiver: DataReceiver) -> None:
        self._data_receiver = None


class _Guard:
    """Keeps an exception in SCTP from ending DTLS."""

    def __init__(self, receiver: DataReceiver) -> None:
        self._receiver = receiver

    async def _handle_data(self, data: bytes) -> None:
        try:
            await self._receiver._handle_data(data)
        except ConnectionError:
            raise
        except Exception:
            log.warning("a client's data channel sent what could not be handled", exc_info=True)


class _Link:
    """What RTCDtlsTransport uses of an RTCIceTransport."""

    def __init__(self, ice: _Ice) -> None:
        self._ice = ice
        self._recv = ice.recv
        self._send = ice.send

    @property
    def role(self) -> str:
        return "controlling" if self._ice.ice_controlling else "controlled"


class _Ice(aioice.Connection):
    """ICE on the addresses and ports of the settings."""

    def __init__(self, settings: Settings, receive: Callable[[bytes], None], *, controlling: bool) -> None:
        super().__init__(ice_controlling=controlling)
        self._settings = settings
        self._pair: CandidatePair | None = None
        self._route: tuple[Callable[[bytes, Any], None], tuple[str, int]] | None = None
        self.receive_srtp = receive

    async def get_component_candidates(
        self,
        component: int,
        addresses: list[str],
        timeout: int = 5,  # noqa: ASYNC109  aioice's signature
    ) -> list[aioice.Candidate]:
        """Bind one socket per address; what aioice found out about the machine is not used."""
        found: list[aioice.Candidate] = []
        for rank, address in enumerate(self._settings.addresses or _machine_addresses()):
            bound = _bind(address, self._settings)
            if bound is None:
                continue
            _, protocol = await asyncio.get_running_loop().create_datagram_endpoint(lambda: _Socket(self), sock=bound)
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
            found.append(protocol.local_candidate)
        if not found:
            raise NoSocket("no UDP port could be bound")
        return found

    def add(self, candidate: aioice.Candidate) -> None:
        """Take a remote candidate whose address is an IP literal."""
        self._add_remote_candidate(candidate, candidate.host)

    def send_now(self, data: bytes) -> bool:
        """Send on the nominated pair without waiting; ``False`` if there is none."""
        pair = self._nominated.get(_COMPONENT)
        if pair is not self._pair:
            self._pair = pair
            self._route = None if pair is None else (pair.protocol.transport.sendto, pair.remote_addr)
        if self._route is None:
            return False
        send, to = self._route
        send(data, to)
        return True


class _Socket(StunProtocol):
    """A UDP socket that tells SRTP, DTLS and STUN apart by their first byte (RFC 7983)."""

    def __init__(self, ice: _Ice) -> None:
        super().__init__(ice)
        self._receive_srtp = ice.receive_srtp

    def datagram_received(self, data: bytes | str, addr: tuple[Any, ...]) -> None:
        """Take one datagram; no exception may leave here."""
        if isinstance(data, str) or len(data) < 2:
            return
        first = data[0]
        if 127 < first < 192:
            self._receive_srtp(data)
        elif 19 < first < 64:
            self.receiver.data_received(data, _COMPONENT)
        elif first < 4:
            try:
                super().datagram_received(data, addr)
            except Exception:
                log.debug("a STUN message could not be handled", exc_info=True)


def _machine_addresses() -> tuple[str, ...]:
    return tuple(get_host_addresses(use_ipv4=True, use_ipv6=True)) or ("127.0.0.1",)


def _bind(address: str, settings: Settings) -> socket.socket | None:
    """Return a socket on a free port of the range, ``None`` if there is none or the address is not the machine's."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    if settings.port_min == 0:
        ports = [0]
    else:
        ports = list(range(settings.port_min, settings.port_max + 1))
        random.shuffle(ports)
    bound = socket.socket(family, socket.SOCK_DGRAM)
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
