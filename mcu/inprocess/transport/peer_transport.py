"""The transport of one PeerConnection: ICE, DTLS-SRTP and SCTP in one bundle."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Protocol

import pylibsrtp
from aiortc import RTCDataChannel, RTCDataChannelParameters, RTCSctpCapabilities, RTCSctpTransport

import sdp.candidates
from mcu.base import CloseReason, IceCandidate, Rejected
from mcu.inprocess.negotiation.parameters import LocalTransportDescription, RemoteTransportDescription
from mcu.inprocess.settings import InprocessSettings
from mcu.inprocess.transport.aiortc_internals.dtls import MAX_PACKET, DtlsTransport, no_turn
from mcu.inprocess.transport.aiortc_internals.ice import IceTransport, NoSocketError
from mcu.inprocess.transport.aiortc_internals.sctp import ChannelLabel, SctpTransport
from mcu.inprocess.transport.impairment import ImpairedLink, Impairment
from mcu.inprocess.transport.remote_candidates import usable_candidate
from sdp.document import SdpError

CONNECT_TIMEOUT = 30.0  # seconds for ICE, for a DTLS handshake, and for the client to begin its next transport
CANCEL_INTERVAL = 0.1  # seconds between two cancellations of a task that goes on
MAX_CANDIDATES = 64  # of one client: each is an address that connectivity checks are sent to
MAX_SSRCS = 512  # received SSRCs: a browser has two for each layer of a medium

log = logging.getLogger("portunus.inprocess")


class TransportListener(Protocol):
    """The owner of a transport, which receives its events and packets."""

    def on_ice_connected(self) -> None:
        """Handle the first nomination of a candidate pair; DTLS follows."""

    def on_connected(self) -> None:
        """Handle the connection being up: SRTP can be sent from now on."""

    def on_lost(self, reason: CloseReason) -> None:
        """Handle the end of the connection by failure or by the client; called once at most, never after ``close``."""

    def on_rtp(self, data: bytes) -> None:
        """Handle a decrypted RTP packet."""

    def on_rtcp(self, data: bytes) -> None:
        """Handle a decrypted compound RTCP packet."""

    def on_channel(self, channel: RTCDataChannel) -> None:
        """Handle a data channel that the client opened."""


class PeerTransport:
    """A bundle's transport: ``open`` it, then ``connect`` it to the client's transport description."""

    def __init__(
        self,
        settings: InprocessSettings,
        listener: TransportListener,
        take_turn: Callable[[], Awaitable[None]] = no_turn,
        *,
        controlling: bool,
    ) -> None:
        """Create a transport without sockets; ``controlling`` is the ICE role.

        ``take_turn`` is awaited before each step of the DTLS handshake.
        """
        self.connected = False
        self._take_turn = take_turn
        self._listener = listener
        self._announced_address = settings.announced_address
        self._ice = IceTransport(settings, self._receive, self._on_renewed, self._is_connected, controlling=controlling)
        self._dtls = self._new_dtls()
        self._sctp: RTCSctpTransport | None = None
        self._sctp_remote: tuple[int, int] | None = None  # port and maximum message size
        self._fingerprints: tuple[tuple[str, str], ...] = ()  # the client's, by its last transport description
        self._dtls_client = True
        self._connecting: asyncio.Task[None] | None = None
        self._handshaking: asyncio.Task[None] | None = None
        self._renewed = False  # whether the client's next transport is nominated, and its handshake is to follow
        self._renewal_timer: asyncio.TimerHandle | None = None
        self._starting_sctp: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._lost = False
        self._send_datagram: Callable[[bytes], bool] = self._ice.send_now
        self._impaired_links: tuple[ImpairedLink, ...] = ()
        self._ssrcs: set[bytes] = set()  # received lately
        self._older_ssrcs: set[bytes] = set()  # received before ``_ssrcs``
        self._listener_faults = 0  # packets for which the listener raised

    async def open(self) -> LocalTransportDescription:
        """Bind the sockets and return the description for the client.

        Raises:
            Rejected: no port of the range is free, no address can be bound, or the process may open no more sockets.
        """
        try:
            await self._ice.gather_candidates()
        except (NoSocketError, OSError) as error:  # OSError: aioice asks the system for its addresses
            reason = error.strerror if isinstance(error, OSError) else error
            raise Rejected(f"The SFU has no socket for the connection: {reason}.") from None
        candidates = [
            f"candidate:{c.foundation} {c.component} udp {c.priority} "
            f"{self._announced_address or c.host} {c.port} typ host"
            for c in self._ice.local_candidates
        ]
        fingerprint = self._dtls.getLocalParameters().fingerprints[0]
        return LocalTransportDescription(
            ufrag=self._ice.local_username,
            password=self._ice.local_password,
            fingerprint=f"{fingerprint.algorithm} {fingerprint.value}",
            candidates=tuple(dict.fromkeys(candidates)),
            session_id=random.getrandbits(62),
        )

    def connect(self, remote: RemoteTransportDescription, *, dtls_client: bool, renewed: bool = False) -> None:
        """Start connecting to the client, as DTLS client or server; later calls only add candidates and SCTP.

        ``renewed``: the client may begin a new transport in place of its old one, even of one that is not connected
        yet. The SFU switches to it as soon as it is nominated, with this role and these fingerprints, and keeps its own
        credentials, candidates and certificate.
        """
        if self._closing is not None:
            return
        if self._connecting is None or renewed:
            self._fingerprints, self._dtls_client = remote.fingerprints, dtls_client
        if self._connecting is None:
            self._ice.set_remote(remote.ufrag, remote.password, lite=remote.ice_lite)
        elif renewed:
            self._begin_renewal(remote)
        for candidate in remote.candidates:
            self._add_candidate(candidate)
        if remote.sctp_port is not None:
            self._sctp_remote = (remote.sctp_port, remote.max_message_size)
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._connect(again=False), name="inprocess-connect")
        elif self.connected:
            self._start_sctp()

    def add_trickled_candidate(self, candidate: IceCandidate | None) -> None:
        """Add a remote candidate of a candidate message; ``None`` (end of candidates) is ignored."""
        if candidate is None:
            return
        try:
            self._add_candidate(sdp.candidates.parse(candidate.candidate))
        except SdpError:
            log.debug("a client's candidate does not parse")

    def _add_candidate(self, candidate: sdp.candidates.Candidate) -> None:
        usable = usable_candidate(candidate)
        if usable is not None and self._closing is None and len(self._ice.remote_candidates) < MAX_CANDIDATES:
            self._ice.add(usable)

    def send_rtp(self, packet: bytes) -> bool:
        """Encrypt and send an RTP packet; ``False`` if it could not be sent, which equals a loss on the way."""
        return self._send(self._dtls.protect_rtp, packet)

    def send_rtcp(self, packet: bytes) -> bool:
        """Encrypt and send a compound RTCP packet."""
        return self._send(self._dtls.protect_rtcp, packet)

    def _send(self, protect: Callable[[bytes], bytes] | None, packet: bytes) -> bool:
        if protect is None or not self.connected or len(packet) > MAX_PACKET:
            return False
        try:
            return self._send_datagram(protect(packet))
        except pylibsrtp.Error:
            log.debug("a packet could not be encrypted", exc_info=True)
            return False

    def impair(self, impairment: Impairment | None) -> None:
        """Lose and delay packets from now on; ``None`` ends the impairment."""
        for link in self._impaired_links:
            link.close()
        self._impaired_links = ()
        self._send_datagram, self._ice.receive_srtp = self._ice.send_now, self._receive
        if impairment is not None:
            outgoing = ImpairedLink(impairment, "out", self._ice.send_now)
            incoming = ImpairedLink(impairment, "back", self._receive)
            self._impaired_links = (outgoing, incoming)
            self._send_datagram, self._ice.receive_srtp = outgoing.send, incoming.send

    @property
    def silent(self) -> bool:
        """Whether all datagrams of the client are dropped, as if it had vanished."""
        return self._ice.drops_received

    def silence(self, silent: bool) -> None:
        """Drop all datagrams of the client, or stop dropping them."""
        self._ice.drops_received = silent

    def enable_channels(self) -> None:
        """Start SCTP, as soon as the client has accepted it and the connection is up."""
        if self._sctp is None:
            self._sctp = SctpTransport(self._dtls)
            self._sctp.on("datachannel", self._listener.on_channel)
            if self.connected:
                self._start_sctp()

    def open_channel(self, model: RTCDataChannel) -> RTCDataChannel:
        """Open a data channel with label, protocol and reliability of ``model``; ``enable_channels`` comes first."""
        if self._sctp is None:
            raise RuntimeError("data channels are not enabled")
        parameters = RTCDataChannelParameters(
            label=ChannelLabel(model.label),
            protocol=ChannelLabel(model.protocol),
            ordered=model.ordered,
            maxPacketLifeTime=model.maxPacketLifeTime,
            maxRetransmits=model.maxRetransmits,
        )
        return RTCDataChannel(self._sctp, parameters)

    def begin_close(self) -> asyncio.Task[None]:
        """Start to release all resources and return the task, the same one each time; the caller must own it."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(), name="inprocess-close")
        return self._closing

    async def close(self) -> None:
        """Release all resources, even if the caller is cancelled. Idempotent."""
        await asyncio.shield(self.begin_close())

    async def _close(self) -> None:
        self.connected = False
        for link in self._impaired_links:
            link.close()
        if self._listener_faults > 1:
            log.error("%d packets of a connection could not be forwarded", self._listener_faults)
        if self._renewal_timer is not None:
            self._renewal_timer.cancel()
        for task in filter(None, (self._connecting, self._handshaking, self._starting_sctp)):
            while not task.done():  # asyncio.wait_for of Python 3.11 may swallow a cancellation
                task.cancel()
                await asyncio.wait([task], timeout=CANCEL_INTERVAL)
        if self._sctp is not None:
            await self._sctp.stop()
            self._sctp.remove_all_listeners()
        await self._dtls.close()
        await self._ice.close()

    async def _connect(self, *, again: bool) -> None:
        """Connect to the client, or ``again`` to its next transport, and to each further transport that it begins."""
        try:
            if not again:
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    await self._ice.connect()
                self._listener.on_ice_connected()
            while True:
                if again:
                    await self._end_association()
                self._renewed = False
                self._handshaking = asyncio.create_task(self._handshake(), name="inprocess-handshake")
                await asyncio.wait([self._handshaking])
                if not self._renewed:
                    return
                again = True
        except (ConnectionError, TimeoutError):
            self._lose(CloseReason.ICE_FAILED)
        except Exception:
            log.exception("a connection to a client failed")
            self._lose(CloseReason.FAILED)

    async def _handshake(self) -> None:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await self._dtls.handshake(self._fingerprints, client=self._dtls_client)
        except (ConnectionError, TimeoutError):
            log.debug("a DTLS handshake failed")
        except Exception:
            log.exception("a connection to a client failed")
        if self._renewed:
            return
        if self._dtls.state != "connected":
            self._lose_unless_renewing(CloseReason.DTLS_FAILED)
            return
        self.connected = True
        self._start_sctp()
        self._listener.on_connected()

    async def _end_association(self) -> None:
        """End DTLS and SCTP without notifying the client, and prepare the next association."""
        had_channels = self._sctp is not None
        await self._end_sctp()
        await self._dtls.abandon()
        self._dtls = self._new_dtls(self._dtls)
        if had_channels:
            self.enable_channels()

    def _new_dtls(self, before: DtlsTransport | None = None) -> DtlsTransport:
        dtls = DtlsTransport(self._ice, self._take_turn, None if before is None else before.certificate)
        dtls.on("statechange", self._on_dtls_state)
        return dtls

    def _begin_renewal(self, remote: RemoteTransportDescription) -> None:
        self._ice.renew(remote.ufrag, remote.password)
        if self._renewal_timer is not None:
            self._renewal_timer.cancel()
        self._renewal_timer = asyncio.get_running_loop().call_later(CONNECT_TIMEOUT, self._end_renewal)

    def _is_connected(self) -> bool:
        return self.connected

    def _on_renewed(self) -> None:
        """Leave the DTLS association with the client's old transport, if any, and begin the next association."""
        if self._closing is not None:
            return
        self._renewed, self.connected = True, False
        if self._connecting is None or self._handshaking is None:
            return  # the first handshake follows
        self._dtls.detach()
        self._handshaking.cancel()
        if self._connecting.done():
            self._connecting = asyncio.create_task(self._connect(again=True), name="inprocess-connect")

    def _end_renewal(self) -> None:
        """Go on with the old transport; report the connection as lost if that transport has ended."""
        self._ice.end_renewal()
        if self._handshaking is not None and self._handshaking.done() and not self.connected:
            self._lose(CloseReason.ICE_FAILED)

    async def _end_sctp(self) -> None:
        """End the SCTP association; a new one follows on the next DTLS association."""
        sctp, self._sctp, self._starting_sctp = self._sctp, None, None
        if sctp is not None:
            await sctp.stop()
            sctp.remove_all_listeners()

    def _start_sctp(self) -> None:
        if self._sctp is None or self._sctp_remote is None or self._starting_sctp is not None:
            return
        self._starting_sctp = asyncio.create_task(
            self._run_sctp_start(self._sctp, *self._sctp_remote), name="inprocess-sctp"
        )

    async def _run_sctp_start(self, sctp: RTCSctpTransport, port: int, max_message_size: int) -> None:
        try:
            await sctp.start(RTCSctpCapabilities(maxMessageSize=max_message_size), port)
        except ConnectionError:
            log.debug("the connection ended before SCTP was started")

    def _on_dtls_state(self) -> None:
        if self._dtls.state in ("closed", "failed") and self.connected:
            self.connected = False
            if self._ice.doubtful_address is not None:
                self._ice.assign_to_next_transport()
            else:
                by_client = CloseReason.CLIENT_CLOSED  # its close_notify has arrived
                self._lose_unless_renewing(CloseReason.ICE_FAILED if self._dtls.ice_ended else by_client)

    def _lose_unless_renewing(self, reason: CloseReason) -> None:
        if not self._ice.renewing:
            self._lose(reason)

    def _lose(self, reason: CloseReason) -> None:
        if not self._lost and self._closing is None:
            self._lost = True
            self.connected = False
            self._listener.on_lost(reason)

    def _receive(self, data: bytes) -> bool:
        """Decrypt an SRTP or SRTCP packet, pass it to the listener; return whether it was authentic. Must not raise."""
        rtp, rtcp = self._dtls.unprotect_rtp, self._dtls.unprotect_rtcp
        if rtp is None or rtcp is None or not self.connected:
            return False
        try:
            if 192 <= data[1] <= 208:  # RFC 5761, 4
                ssrc, packet, deliver = data[4:8], rtcp(data), self._listener.on_rtcp
            else:
                ssrc, packet, deliver = data[8:12], rtp(data), self._listener.on_rtp
            if ssrc not in self._ssrcs:
                self._note_ssrc(ssrc)
            deliver(packet)
        except pylibsrtp.Error:
            log.debug("a packet could not be decrypted")
            return False
        except Exception:
            self._listener_faults += 1
            if self._listener_faults == 1:
                log.exception("a packet could not be forwarded; further ones of this connection are only counted")
        return True

    def _note_ssrc(self, ssrc: bytes) -> None:
        """Record an authenticated SSRC; keep libsrtp's state of the latest ones, ``MAX_SSRCS`` to twice as many."""
        self._ssrcs.add(ssrc)
        if len(self._ssrcs) >= MAX_SSRCS:
            self._dtls.forget_received(self._older_ssrcs - self._ssrcs)
            self._older_ssrcs, self._ssrcs = self._ssrcs, set()

    def forget_sent(self, *ssrcs: int) -> None:
        """Free the SRTP state of SSRCs that are never sent again."""
        self._dtls.forget_sent(ssrcs)
