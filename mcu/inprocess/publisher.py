"""One published stream: a connection from the client, a track per medium, and the subscribers it feeds."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Callable

from aiortc import RTCDataChannel

from mcu.base import (
    Candidate,
    CloseReason,
    MediaKind,
    NewPeerConnection,
    PublishOptions,
    Rejected,
    StreamKey,
    StreamListener,
    StreamReport,
)
from mcu.inprocess.counters import StreamCounters, impaired, received
from mcu.inprocess.forwarding import rtcp, rtp
from mcu.inprocess.forwarding.bitrate import BitrateMeter
from mcu.inprocess.forwarding.receive_track import ReceiveTrack
from mcu.inprocess.forwarding.rtcp_feedback import RtcpFeedback
from mcu.inprocess.forwarding.rtp_stream import RtpStream
from mcu.inprocess.negotiation.generation import write_answer
from mcu.inprocess.negotiation.parameters import LocalTransportDescription, PublisherOffer
from mcu.inprocess.negotiation.parsing import preference, read_offer
from mcu.inprocess.settings import InprocessSettings
from mcu.inprocess.subscriber import InprocessSubscriber
from mcu.inprocess.transport.data_channels import PublisherChannels
from mcu.inprocess.transport.impairment import Impairment, StreamLeg
from mcu.inprocess.transport.peer_transport import PeerTransport
from sdp.document import identity

TICK = 0.1  # seconds between looks at what had to wait
REPORT_TICKS = 10  # ticks between two reports to the publisher
MAX_BLOCKS = 31  # of one receiver report
SILENT = 2.0  # seconds without a packet after which a medium does not flow
UNLIMITED = 20_000_000  # bit/s told to a publisher without a limit: browsers start slowly if nothing is told

log = logging.getLogger("portunus.inprocess")


class InprocessPublisher:
    """Implements ``mcu.base.Publisher``; also what the backend and the subscribers need to know."""

    def __init__(
        self,
        key: StreamKey,
        settings: InprocessSettings,
        options: PublishOptions,
        listener: StreamListener,
        changed: Callable[[InprocessPublisher], None],
        closing: Callable[[asyncio.Task[None]], None],
    ) -> None:
        self.key = key
        self.tracks: dict[str, ReceiveTrack] = {}  # by the publisher's mid, in the order of the offer
        self.data = False  # whether data channels are agreed
        self.data_mid = "data"
        self.subscribers: list[InprocessSubscriber] = []
        self.closed = False
        self.stream = secrets.token_hex(8)
        self.cname = secrets.token_hex(8)
        self.impairments: dict[StreamLeg, Impairment] = {}
        self._options = options
        self._preference = preference(options)
        self._limit = 0
        self._listener = listener
        self._changed = changed  # tells the backend that the connection came up or went away
        self._keep = closing  # gives the backend the task that closes the sockets
        self._transport = PeerTransport(settings, self, controlling=False)
        self._local: LocalTransportDescription | None = None
        self._offer: PublisherOffer | None = None
        self._client = True
        self._version = 0
        self._mids = 0
        self._feedback = RtcpFeedback(random.getrandbits(32), self._transport.send_rtcp)
        self._routes: dict[int, RtpStream] = {}  # by SSRC of the publisher
        self._flowing: dict[MediaKind, bool] = {}
        self._inlet = PublisherChannels(lambda: [subscriber.outlet for subscriber in self.subscribers])
        self._timer: asyncio.TimerHandle | None = None
        self._ticks = 0
        self._rates = BitrateMeter(time.monotonic())

    # -- mcu.base.Publisher

    async def update(self, offer: str) -> str:
        """Renegotiate; ICE restarts need a new connection, so they are refused like another PeerConnection's offer."""
        self._must_be_open()
        read = read_offer(offer, self._preference)
        running = self._offer
        if running is None:
            raise Rejected("The stream has not been negotiated yet.")
        one, other = identity(running.description), identity(read.description)
        if not one.same_peer_connection(other) or other.restarts_ice(one):
            raise NewPeerConnection("The offer needs a new connection.")
        return self._negotiate(read)

    async def limit(self, bits_per_second: int) -> None:
        """Tell the publisher at once, by REMB."""
        self._limit = max(0, bits_per_second)
        self._send_limit()

    async def request_keyframe(self) -> None:
        """Ask for a keyframe of every picture."""
        for track in self.tracks.values():
            track.request_keyframe(time.monotonic())

    async def add_candidate(self, candidate: Candidate | None) -> None:
        """Take a candidate; the end of the list is not needed."""
        if not self.closed:
            self._transport.take(candidate)

    async def close(self) -> None:
        """End the stream."""
        await self.shut(CloseReason.PUBLISHER_GONE)

    # -- for the backend

    async def open(self, offer: PublisherOffer) -> str:
        """Bind the sockets and answer the first offer; close the publisher if this fails.

        Raises:
            Rejected: no port is free.
        """
        self._local = await self._transport.open()
        answer = self._negotiate(offer)
        self._timer = asyncio.get_running_loop().call_later(TICK, self._tick)
        return answer

    async def shut(self, reason: CloseReason) -> None:
        """End the stream, tell the subscribers ``reason``, and return when all sockets are closed."""
        subscribers = list(self.subscribers)
        self.end(reason)
        await asyncio.gather(self._transport.close(), *(subscriber.close() for subscriber in subscribers))

    def end(self, reason: CloseReason) -> None:
        """Be closed at once and tell the subscribers ``reason``; the sockets close in a task of the backend."""
        if self.closed:
            return
        self.closed = True
        self._keep(self._transport.begin_close())
        if self._timer is not None:
            self._timer.cancel()
        self._inlet.close()
        for subscriber in list(self.subscribers):
            subscriber.end(reason)
        self._changed(self)

    def lose(self) -> None:
        """End as the SFU does when it is stopped: the publisher's listener hears of it as well."""
        if not self.closed:
            self.end(CloseReason.LOST)
            self._listener.on_closed(CloseReason.LOST)

    @property
    def connected(self) -> bool:
        """Whether media can flow."""
        return self._transport.connected and not self.closed

    def reports(self) -> list[StreamReport]:
        """Return the publisher's legs as it sends them."""
        found = [
            StreamReport(
                self.key,
                subscriber=False,
                kind=track.kind,
                codec=track.codec.payload.codec,
                bits_per_second=self._rates.of(mid),
                lost=track.lost,
            )
            for mid, track in self.tracks.items()
        ]
        if self.data:
            found.append(StreamReport(self.key, subscriber=False, kind=MediaKind.DATA))
        return found

    def counters(self) -> StreamCounters:
        """Return what was counted, of the subscribers, too."""
        return StreamCounters(
            backend=self.key.backend,
            publisher=self.key.publisher,
            type=self.key.stream_type.value,
            connected=self.connected,
            silent=self._transport.silent,
            impairments={leg.value: impaired(impairment) for leg, impairment in self.impairments.items()},
            media=tuple(received(mid, track) for mid, track in self.tracks.items()),
            subscribers=tuple(subscriber.counters() for subscriber in self.subscribers),
        )

    def impair(self, leg: StreamLeg, impairment: Impairment | None) -> None:
        """Impair the connections of a leg, and subscribers' to come; ``None``: no more."""
        if impairment is None:
            self.impairments.pop(leg, None)
        else:
            self.impairments[leg] = impairment
        if leg is StreamLeg.PUBLISHER:
            self._transport.impair(impairment)
        else:
            for subscriber in self.subscribers:
                subscriber.impair(impairment)

    def silence(self, silent: bool) -> None:
        """Drop all that the client sends, or no more."""
        self._transport.silent = silent

    # -- for the transport

    def on_connected(self) -> None:
        """Wake who waits for this stream, and tell the publisher its limit."""
        self._send_limit()
        self._changed(self)

    def on_lost(self) -> None:
        """Tell the publisher's listener and the subscribers."""
        if self.closed:
            return
        self.end(CloseReason.PUBLISHER_GONE)
        self._listener.on_closed(CloseReason.FAILED)

    def on_rtp(self, data: bytes) -> None:
        """Hand a packet to its track."""
        packet = rtp.parse(data)
        if packet is None or self.closed:
            return
        now = time.monotonic()
        rtp_stream = self._routes.get(packet.ssrc)
        if rtp_stream is None:
            rtp_stream = self._claim(packet, now)
            if rtp_stream is None:
                return
        rtp_stream.receive(packet, now)
        if not self._flowing.get(rtp_stream.kind):
            self._flows(rtp_stream.kind, True)

    def on_rtcp(self, data: bytes) -> None:
        """Pass the publisher's clock on."""
        now = time.monotonic()
        for item in rtcp.parse(data):
            if isinstance(item, rtcp.SenderReport) and (rtp_stream := self._routes.get(item.ssrc)) is not None:
                rtp_stream.report(item, now)

    def on_channel(self, channel: RTCDataChannel) -> None:
        """Take a data channel."""
        if not self.closed:
            self._inlet.add(channel)

    @property
    def channels(self) -> list[RTCDataChannel]:
        """The publisher's data channels that are open."""
        return self._inlet.channels

    # -- inside

    def _negotiate(self, offer: PublisherOffer) -> str:
        if self._local is None:
            raise Rejected("The stream is not open.")
        before = self._shape()
        self._take(offer)
        if self._offer is None:
            self._client = offer.transport.setup != "active"
        self._offer = offer
        self._version += 1
        answer = write_answer(offer, self._local, client=self._client, version=self._version)
        self._transport.connect(offer.transport, client=self._client)
        if self._shape() != before:
            for subscriber in list(self.subscribers):
                subscriber.media_changed()
        return answer

    def _take(self, offer: PublisherOffer) -> None:
        """Make, change and remove tracks as the offer says."""
        media = {medium.mid: medium for medium in offer.media if medium is not None and medium.codec is not None}
        for mid in [mid for mid in self.tracks if mid not in media]:
            for rtp_stream in self.tracks.pop(mid).rtp_streams:
                self._feedback.forget(rtp_stream)
        for mid, medium in media.items():
            if mid in self.tracks:
                self.tracks[mid].update(medium)
            else:
                self.tracks[mid] = ReceiveTrack(medium, str(self._mids), self.cname, self._feedback)
                self._mids += 1
        self.data = any(medium is not None and medium.kind is MediaKind.DATA for medium in offer.media)
        if self.data:
            self._transport.enable_channels()
        self._reroute()

    def _shape(self) -> object:
        """What subscribers must be told of when it changes."""
        media = [(track.mid, track.sends, track.codec.format) for track in self.tracks.values()]
        return self.data, media

    def _reroute(self) -> None:
        self._routes = {}
        for track in self.tracks.values():
            self._routes |= track.routes

    def _claim(self, packet: rtp.RtpPacket, now: float) -> RtpStream | None:
        """Find the medium of an SSRC that the description does not name: by mid, else by payload type."""
        mid = next(
            (mid for ident in self._mid_idents() if (mid := rtp.extension_element(packet, ident)) is not None), None
        )
        if mid is not None:
            named = self.tracks.get(mid.decode("ascii", "replace"))
            candidates = [named] if named is not None else []
        else:
            candidates = [track for track in self.tracks.values() if track.carries(packet.payload_type)]
            if len(candidates) != 1:
                return None
        for track in candidates:
            rtp_stream = track.claim(packet, now)
            if rtp_stream is not None:
                self._reroute()
                return rtp_stream
        return None

    def _mid_idents(self) -> set[int]:
        return {ident for track in self.tracks.values() if (ident := track.mid_ident) is not None}

    def _flows(self, kind: MediaKind, flowing: bool) -> None:
        self._flowing[kind] = flowing
        self._listener.on_media(kind, flowing)

    def _tick(self) -> None:
        if self.closed:
            return
        self._timer = asyncio.get_running_loop().call_later(TICK, self._tick)
        now = time.monotonic()
        self._ticks += 1
        for track in self.tracks.values():
            track.tick(now)
        self._feedback.tick(now)
        if self._ticks % REPORT_TICKS == 0 and self.connected:
            self._report(now)

    def _report(self, now: float) -> None:
        rtp_streams = [rtp_stream for track in self.tracks.values() for rtp_stream in track.rtp_streams]
        blocks = [block for rtp_stream in rtp_streams if (block := rtp_stream.receiver_block(now)) is not None]
        for at in range(0, len(blocks), MAX_BLOCKS):
            report = rtcp.pack_receiver_report(self._feedback.reporter, blocks[at : at + MAX_BLOCKS])
            self._transport.send_rtcp(report)
        self._send_limit()
        self._rates.look({mid: track.octets for mid, track in self.tracks.items()}, now)
        for kind in [kind for kind, flowing in self._flowing.items() if flowing]:
            heard = [track.heard_at or 0.0 for track in self.tracks.values() if track.kind is kind]
            if not heard or now - max(heard) > SILENT:
                self._flows(kind, False)

    def _send_limit(self) -> None:
        sources = [
            rtp_stream.source
            for track in self.tracks.values()
            for rtp_stream in track.rtp_streams
            if rtp_stream.source is not None and "goog-remb" in track.codec.feedback
        ]
        if sources and self.connected:
            limits = [limit for limit in (self._options.bitrate, self._limit) if limit]
            self._transport.send_rtcp(rtcp.pack_remb(self._feedback.reporter, min(limits, default=UNLIMITED), sources))

    def _must_be_open(self) -> None:
        if self.closed:
            raise Rejected("The stream is closed.")
