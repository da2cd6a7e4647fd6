"""One connection to a client: ICE, DTLS-SRTP and data channels in one bundle."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import Protocol

import aioice
import pylibsrtp
from aiortc import RTCDataChannel, RTCDataChannelParameters, RTCSctpCapabilities, RTCSctpTransport

from mcu.base import Candidate, Rejected
from mcu.inprocess.negotiation.parameters import LocalTransportDescription, RemoteTransportDescription
from mcu.inprocess.settings import InprocessSettings
from mcu.inprocess.transport.aiortc_internals import (
    COMPONENT,
    MAX_PACKET,
    ChannelLabel,
    DtlsTransport,
    IceTransport,
    NoSocketError,
)
from mcu.inprocess.transport.impairment import ImpairedLink, Impairment
from sdp.candidates import Candidate as Parsed
from sdp.candidates import parse as parse_candidate
from sdp.document import SdpError

CONNECT_TIMEOUT = 30.0  # seconds from the first description of the client to a connection
MAX_CANDIDATES = 64  # of one client: each is an address that we send checks to

log = logging.getLogger("portunus.inprocess")


class TransportListener(Protocol):
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


class PeerTransport:
    """A bundle's transport; open it, describe it to the client, then connect it to what the client describes."""

    def __init__(self, settings: InprocessSettings, user: TransportListener, *, controlling: bool) -> None:
        self._user = user
        self._announced = settings.announced_address
        self._ice = IceTransport(settings, self._receive, controlling=controlling)
        self._dtls = DtlsTransport(self._ice)
        self._dtls.on("statechange", self._dtls_changed)
        self._sctp: RTCSctpTransport | None = None
        self._sctp_remote: tuple[int, int] | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._lost = False
        self._send_now: Callable[[bytes], bool] = self._ice.send_now
        self._lines: tuple[ImpairedLink, ...] = ()
        self._faults = 0  # packets at which our own code failed
        self.connected = False

    async def open(self) -> LocalTransportDescription:
        """Bind the sockets and return what the client must know.

        Raises:
            Rejected: there is no free port within the range, no such address, or the process may open no more.
        """
        try:
            await self._ice.gather_candidates()
        except (NoSocketError, OSError) as error:  # aioice asks the system for its addresses
            reason = error.strerror if isinstance(error, OSError) else error
            raise Rejected(f"The SFU has no socket for the connection: {reason}.") from None
        candidates = [
            f"candidate:{c.foundation} {c.component} udp {c.priority} {self._announced or c.host} {c.port} typ host"
            for c in self._ice.local_candidates
        ]
        fingerprint = self._dtls.getLocalParameters().fingerprints[0]
        return LocalTransportDescription(
            self._ice.local_username,
            self._ice.local_password,
            f"{fingerprint.algorithm} {fingerprint.value}",
            tuple(dict.fromkeys(candidates)),
            random.getrandbits(62),
        )

    def connect(self, remote: RemoteTransportDescription, *, client: bool) -> None:
        """Begin to connect to the client, as DTLS client or server; later calls only add what is new in ``remote``."""
        for candidate in remote.candidates:
            self.add_candidate(candidate)
        if remote.sctp_port is not None:
            self._sctp_remote = (remote.sctp_port, remote.max_message_size)
        if self._connecting is None and self._closing is None:
            self._connecting = asyncio.create_task(self._connect(remote, client), name="inprocess-connect")
        elif self.connected and self._sctp is not None:
            self._start_sctp()

    def take(self, candidate: Candidate | None) -> None:
        """Take a candidate as clients tell it; the end of the list is not needed."""
        if candidate is None:
            return
        try:
            self.add_candidate(parse_candidate(candidate.candidate))
        except SdpError:
            log.debug("a candidate of a client does not parse")

    def add_candidate(self, candidate: Parsed) -> None:
        """Take a candidate of the client; those we cannot use (TCP, a host name, an RTCP port) are ignored."""
        try:
            address = ip_address(candidate.address)
        except ValueError:
            return
        if candidate.protocol != "udp" or candidate.component != COMPONENT or address.is_unspecified:
            return
        if candidate.type == "prflx" or candidate.port == 0 or self._closing is not None:
            return
        if len(self._ice.remote_candidates) >= MAX_CANDIDATES:
            return
        self._ice.add(
            aioice.Candidate(
                foundation=candidate.foundation,
                component=COMPONENT,
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
        if protect is None or not self.connected or len(packet) > MAX_PACKET:
            return False
        try:
            return self._send_now(protect(packet))
        except pylibsrtp.Error:
            log.debug("a packet could not be encrypted", exc_info=True)
            return False

    def impair(self, impairment: Impairment | None) -> None:
        """Carry packets from now on over lines that lose and delay them; ``None``: over good ones."""
        for line in self._lines:
            line.close()
        self._lines = ()
        self._send_now, self._ice.receive_srtp = self._ice.send_now, self._receive
        if impairment is not None:
            out, back = (
                ImpairedLink(impairment, "out", self._ice.send_now),
                ImpairedLink(impairment, "back", self._receive),
            )
            self._lines = (out, back)
            self._send_now, self._ice.receive_srtp = out.carry, back.carry

    @property
    def silent(self) -> bool:
        """Whether all that the client sends is dropped, as if it were dead."""
        return self._ice.deaf

    @silent.setter
    def silent(self, silent: bool) -> None:
        self._ice.deaf = silent

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
            label=ChannelLabel(like.label),
            protocol=ChannelLabel(like.protocol),
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
        for line in self._lines:
            line.close()
        if self._faults > 1:
            log.error("%d packets of a connection could not be forwarded", self._faults)
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
        if self._sctp is not None:
            await self._sctp.stop()
            self._sctp.remove_all_listeners()
        await self._dtls.shut()
        await self._ice.close()

    async def _connect(self, remote: RemoteTransportDescription, client: bool) -> None:
        self._ice.remote_username = remote.ufrag
        self._ice.remote_password = remote.password
        self._ice.remote_is_lite = remote.lite
        if remote.lite:
            self._ice.ice_controlling = True
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await self._ice.connect()
                await self._dtls.handshake(remote.fingerprints, client=client)
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
        rtp, rtcp = self._dtls.unprotect_rtp, self._dtls.unprotect_rtcp
        if rtp is None or rtcp is None or not self.connected:
            return
        try:
            if 192 <= data[1] <= 208:  # RFC 5761, 4
                self._user.on_rtcp(rtcp(data))
            else:
                self._user.on_rtp(rtp(data))
        except pylibsrtp.Error:
            log.debug("a packet could not be decrypted")
        except Exception:
            self._faults += 1
            if self._faults == 1:
                log.exception("a packet could not be forwarded; more of this connection are only counted")


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
