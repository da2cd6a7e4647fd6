"""DTLS over an ``IceTransport``, and the SRTP sessions that it agrees on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import cast

import pylibsrtp
from aiortc import RTCCertificate, RTCDtlsFingerprint, RTCDtlsParameters, RTCDtlsTransport, RTCIceTransport
from aiortc.rtcdtlstransport import DataReceiver, SRTPProtectionProfile
from OpenSSL import SSL
from pylibsrtp import SRTP_MAX_TRAILER_LEN
from pylibsrtp._binding import ffi

from mcu.inprocess.transport.aiortc_internals.ice import IceTransport
from mcu.inprocess.transport.aiortc_internals.sctp import SctpGuard

SRTP_BUFFER = 1 << 16  # bytes: the largest datagram
MAX_PACKET = 65507 - SRTP_MAX_TRAILER_LEN  # bytes that fit into one IPv4 datagram once encrypted


class Certificate(RTCCertificate):
    """A certificate whose DTLS connections are never renegotiated.

    OpenSSL refuses it to DTLS clients only; a client that is the DTLS server could request one after another.
    """

    def _create_ssl_context(self, srtp_profiles: list[SRTPProtectionProfile]) -> SSL.Context:
        context = super()._create_ssl_context(srtp_profiles)
        context.set_options(SSL.OP_NO_RENEGOTIATION)
        return context


async def no_turn() -> None:
    """Continue at once, for a DTLS transport that shares the event loop with no others."""


class DtlsTransport(RTCDtlsTransport):
    """DTLS over an ``IceTransport``, with access to the SRTP sessions."""

    protect_rtp: Callable[[bytes], bytes] | None = None  # these four are set once the handshake is done
    protect_rtcp: Callable[[bytes], bytes] | None = None
    unprotect_rtp: Callable[[bytes], bytes] | None = None
    unprotect_rtcp: Callable[[bytes], bytes] | None = None

    def __init__(
        self,
        ice: IceTransport,
        take_turn: Callable[[], Awaitable[None]] = no_turn,
        certificate: RTCCertificate | None = None,
    ) -> None:
        """Create a transport that is not connected; ``take_turn`` is awaited before each step of the handshake."""
        self.certificate = Certificate.generateCertificate() if certificate is None else certificate
        self._adapter = _IceTransportAdapter(ice, take_turn)
        super().__init__(cast(RTCIceTransport, self._adapter), [self.certificate])

    async def handshake(self, fingerprints: tuple[tuple[str, str], ...], *, client: bool) -> None:
        """Connect to the peer with a certificate of these fingerprints; ``state`` is the result."""
        self._set_role("client" if client else "server")
        await self.start(RTCDtlsParameters([RTCDtlsFingerprint(*fingerprint) for fingerprint in fingerprints]))
        self._adapter.shaking_hands = False

    @property
    def ice_ended(self) -> bool:
        """Whether reading ended because ICE did: the client does not answer consent checks any more (RFC 7675)."""
        return self._adapter.ended

    async def close(self) -> None:
        """Close the DTLS connection and wait for the reader task."""
        self.remove_all_listeners()
        reader = self._task
        await self.stop()
        if reader is not None:
            await asyncio.wait([reader])

    def detach(self) -> None:
        """Read and send nothing more, and emit no events: the peer has begun another association in place of this one.

        A handshake under way fails at its next read, even if ``asyncio.wait_for`` swallows its cancellation, as that of
        Python 3.11 does when a record arrives at the same time.
        """
        self.remove_all_listeners()
        self._adapter.attached = False

    async def abandon(self) -> None:
        """Stop reading, without notifying the peer."""
        self.detach()
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
        super()._register_data_receiver(SctpGuard(receiver))

    def _unregister_data_receiver(self, receiver: DataReceiver) -> None:
        self._data_receiver = None


def _remove_streams(session: pylibsrtp.Session | None, ssrcs: Iterable[int]) -> None:
    if session is None:
        return
    for ssrc in ssrcs:
        with suppress(pylibsrtp.Error):  # nothing was sent or received
            session.remove_stream(ssrc)


def enlarge_buffers(*sessions: pylibsrtp.Session) -> None:
    """Replace the buffers of SRTP sessions by a shared one for packets of any size; each call copies its result."""
    memory = ffi.new("char[]", SRTP_BUFFER)
    for session in sessions:
        session._cdata = memory
        session._buffer = ffi.buffer(memory)


class _IceTransportAdapter:
    """The part of RTCIceTransport's interface that RTCDtlsTransport uses."""

    def __init__(self, ice: IceTransport, take_turn: Callable[[], Awaitable[None]]) -> None:
        self._ice = ice
        self._take_turn = take_turn
        self.attached = True
        self.shaking_hands = True  # whether the next record continues the handshake, which takes 1 to 5 ms
        self.ended = False  # whether ICE has ended while DTLS was reading

    async def _recv(self) -> bytes:
        if not self.attached:
            raise ConnectionError("the association is detached")
        try:
            record = await self._ice.recv()
        except ConnectionError:
            self.ended = True
            raise
        if self.shaking_hands:
            await self._take_turn()
        return record

    async def _send(self, data: bytes) -> None:
        if self.attached:
            await self._ice.send(data)

    @property
    def role(self) -> str:
        return "controlling" if self._ice.ice_controlling else "controlled"
