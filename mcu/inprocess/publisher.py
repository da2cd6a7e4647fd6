"""One published stream: the PeerConnection from the client, its receive tracks, and the subscribers."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable, Mapping

from aiortc import RTCDataChannel

from mcu.base import (
    CloseReason,
    IceCandidate,
    MediaKind,
    NewConnectionRequired,
    PublishOptions,
    Rejected,
    StreamKey,
    StreamListener,
    StreamReport,
    TransportState,
)
from mcu.inprocess.connection_turns import ConnectionTurns
from mcu.inprocess.counters import StreamCounters, impairment_settings, received_media_counters
from mcu.inprocess.forwarding import rtcp, rtp
from mcu.inprocess.forwarding.bitrate import BitrateMeter
from mcu.inprocess.forwarding.demultiplexer import RtpDemultiplexer
from mcu.inprocess.forwarding.receive_track import ReceiveTrack
from mcu.inprocess.forwarding.rtcp_feedback import RtcpFeedback
from mcu.inprocess.forwarding_turns import ForwardingQueue, ForwardingTurns
from mcu.inprocess.negotiation.generation import write_answer
from mcu.inprocess.negotiation.parameters import LocalTransportDescription, PublisherOffer
from mcu.inprocess.negotiation.parsing import codec_preference, read_offer
from mcu.inprocess.settings import InprocessSettings
from mcu.inprocess.subscriber import InprocessSubscriber
from mcu.inprocess.transport.data_channels import PublisherChannels
from mcu.inprocess.transport.impairment import Impairment, StreamLeg
from mcu.inprocess.transport.peer_transport import PeerTransport
from mcu.listener_gate import ListenerGate
from sdp.document import Description, identity
from sdp.offer_answer import transport_mid

TICK = 0.1  # seconds between two rounds of NACKs, PLIs and layer selection
REPORT_TICKS = 10  # ticks between two receiver reports
MEDIA_TIMEOUT = 2.0  # seconds without a packet after which a medium counts as stopped
OFFERED_PER_ITERATION = 4  # subscribers that get changed media in one loop iteration: an offer takes 1 to 4 ms
UNLIMITED_REMB = 20_000_000  # bit/s of the REMB to a publisher without a limit: without a REMB browsers start slowly


class InprocessPublisher:
    """A published stream; implements ``mcu.base.Publisher``."""

    def __init__(
        self,
        key: StreamKey,
        settings: InprocessSettings,
        options: PublishOptions,
        listener: StreamListener,
        on_change: Callable[[InprocessPublisher], None],
        keep_task: Callable[[asyncio.Task[None]], None],
        clock: Callable[[], float],
        turns: ForwardingTurns,
        connection_turns: ConnectionTurns,
    ) -> None:
        """Create a stream that is not connected yet; ``open`` follows.

        Args:
            on_change: called when the connection is up and when the stream has ended.
            keep_task: receives the task that closes the sockets.
            turns: shared by all publishers of the SFU, as are ``connection_turns``.
        """
        self.key = key
        self.has_data_channels = False
        self.subscribers: list[InprocessSubscriber] = []
        self._to_offer: dict[InprocessSubscriber, None] = {}  # subscribers that changed media have to be offered to
        self.closed = False
        self.gate = ListenerGate(listener)
        self.stream_id = secrets.token_hex(8)  # of the MediaStream in the offers to subscribers
        self.impairments: dict[StreamLeg, Impairment] = {}
        self._options = options
        self._preference = codec_preference(options)
        self._limit = 0  # bit/s, 0 = none
        self._on_change = on_change
        self._keep_task = keep_task
        self._clock = clock
        self._transport = PeerTransport(settings, self, connection_turns.take, controlling=False)
        self._packets = ForwardingQueue(turns, self._forward)
        self._local_transport: LocalTransportDescription | None = None
        self._offer: PublisherOffer | None = None  # the last offer with a section in use
        self._answer: Description | None = None  # the last answer
        self._dtls_client = True
        self._version = 0  # of the answer
        self._feedback = RtcpFeedback(random.getrandbits(32), self._transport.send_rtcp)
        self._demultiplexer = RtpDemultiplexer(secrets.token_hex(8), self._feedback)
        self._flowing: dict[MediaKind, bool] = {}
        self._channels = PublisherChannels(lambda: [subscriber.channels for subscriber in self.subscribers])
        self._timer: asyncio.TimerHandle | None = None
        self._ticks = 0
        self._bitrates = BitrateMeter(clock())

    # -- mcu.base.Publisher

    async def update(self, offer: Description) -> Description:
        """Renegotiate; an ICE restart is refused, for it needs a new connection."""
        if self.closed:
            raise Rejected("The stream is closed.")
        parsed = read_offer(offer, self._preference, renegotiation=True)
        negotiated = self._offer
        if negotiated is None:
            raise Rejected("The stream has not been negotiated yet.")
        if identity(parsed.description).restarts_ice(identity(negotiated.description)):
            raise NewConnectionRequired("The offer restarts ICE.")
        return self._negotiate(parsed)

    async def limit(self, bits_per_second: int) -> None:
        """Limit the publisher's bitrate at once, by REMB."""
        self._limit = max(0, bits_per_second)
        self._send_remb()

    async def request_keyframe(self) -> None:
        """Request a keyframe of every video stream."""
        for track in self.tracks.values():
            track.request_keyframe(self._clock())

    async def add_candidate(self, candidate: IceCandidate | None) -> None:
        """Add a remote candidate; the end of candidates is not needed."""
        if not self.closed:
            self._transport.add_trickled_candidate(candidate)

    async def close(self) -> None:
        """End the stream."""
        await self.end_and_close(CloseReason.PUBLISHER_GONE)

    # -- for InprocessMcu

    async def open(self, offer: PublisherOffer) -> Description:
        """Bind the sockets and answer the first offer; the caller closes the publisher if this fails.

        Raises:
            Rejected: no port is free.
        """
        self._local_transport = await self._transport.open()
        answer = self._negotiate(offer)
        self._timer = asyncio.get_running_loop().call_later(TICK, self._tick)
        return answer

    async def end_and_close(self, reason: CloseReason) -> None:
        """End the stream and its subscriptions with ``reason``, and return when all sockets are closed."""
        subscribers = list(self.subscribers)
        self.end(reason)
        await asyncio.gather(self._transport.close(), *(subscriber.close() for subscriber in subscribers))

    def end(self, reason: CloseReason, own_reason: CloseReason | None = None) -> None:
        """End the stream and its subscriptions with ``reason``; a task of InprocessMcu closes the sockets.

        ``own_reason`` is sent to the publisher's own listener, unless ``None``.
        """
        if self.closed:
            return
        self.closed = True
        self.gate.close(own_reason)
        self._keep_task(self._transport.begin_close())
        if self._timer is not None:
            self._timer.cancel()
        self._channels.close()
        self._packets.clear()
        for subscriber in list(self.subscribers):
            subscriber.end(reason)
        self._on_change(self)

    def end_lost(self) -> None:
        """End the stream because the SFU stops, and notify the publisher's listener as well."""
        self.end(CloseReason.LOST, CloseReason.LOST)

    def add_subscriber(self, subscriber: InprocessSubscriber) -> None:
        """Register a subscription, which follows renegotiations and the end of this stream."""
        self.subscribers.append(subscriber)

    def remove_subscriber(self, subscriber: InprocessSubscriber) -> None:
        """Forget a subscription that ended."""
        if subscriber in self.subscribers:
            self.subscribers.remove(subscriber)

    @property
    def connected(self) -> bool:
        """Whether media can flow."""
        return self._transport.connected and not self.closed

    @property
    def tracks(self) -> Mapping[str, ReceiveTrack]:
        """The receive tracks by the publisher's mid, in the order of the offer."""
        return self._demultiplexer.tracks

    @property
    def open_channels(self) -> list[RTCDataChannel]:
        """The publisher's data channels that are open."""
        return self._channels.open

    def reports(self) -> list[StreamReport]:
        """Return a report of each received medium."""
        reports = [
            StreamReport(
                self.key,
                subscriber=False,
                kind=track.kind,
                codec=track.codec.payload.codec,
                bits_per_second=self._bitrates.bits_per_second(mid),
                lost=track.lost,
            )
            for mid, track in self.tracks.items()
        ]
        if self.has_data_channels:
            reports.append(StreamReport(self.key, subscriber=False, kind=MediaKind.DATA))
        return reports

    def counters(self) -> StreamCounters:
        """Return the counters of this stream and its subscriptions."""
        return StreamCounters(
            backend=self.key.backend,
            publisher=self.key.publisher,
            type=self.key.stream_type.value,
            connected=self.connected,
            silent=self._transport.silent,
            impairments={leg.value: impairment_settings(impairment) for leg, impairment in self.impairments.items()},
            media=tuple(received_media_counters(mid, track) for mid, track in self.tracks.items()),
            subscribers=tuple(subscriber.counters() for subscriber in self.subscribers),
        )

    def impair(self, leg: StreamLeg, impairment: Impairment | None) -> None:
        """Impair the connections of a leg, those of later subscriptions included; ``None`` ends the impairment."""
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
        """Drop all datagrams of the client, or stop dropping them."""
        self._transport.silence(silent)

    # -- TransportListener

    def on_ice_connected(self) -> None:
        """Report the state to the listener."""
        self.gate.send(lambda listener: listener.on_transport(TransportState.ICE_CONNECTED))

    def on_connected(self) -> None:
        """Send the bitrate limit, wake the subscriptions that wait for this stream, and report the state."""
        self._send_remb()
        self._on_change(self)
        self.gate.send(lambda listener: listener.on_transport(TransportState.CONNECTED))

    def on_lost(self, reason: CloseReason) -> None:
        """End the stream, and notify the publisher's listener."""
        self.end(CloseReason.PUBLISHER_GONE, reason)

    def on_rtp(self, data: bytes) -> None:
        """Forward a packet, in this loop iteration or in a later one."""
        packet = rtp.parse(data)
        if packet is not None and not self.closed:
            self._packets.receive(packet, self._clock())

    def _forward(self, packet: rtp.RtpPacket, now: float) -> int:
        """Pass a packet, which arrived at ``now``, to its RTP stream; return the number of the stream's down tracks."""
        rtp_stream = self._demultiplexer.streams_by_ssrc.get(packet.ssrc)
        if rtp_stream is None:
            rtp_stream = self._demultiplexer.bind_ssrc(packet, now)
            if rtp_stream is None:
                return 0
        rtp_stream.receive(packet, now)
        if not self._flowing.get(rtp_stream.kind):
            self._set_flowing(rtp_stream.kind, True)
        return rtp_stream.down_track_count

    def on_rtcp(self, data: bytes) -> None:
        """Forward the publisher's clock to the subscribers."""
        now = self._clock()
        for item in rtcp.parse(data):
            if isinstance(item, rtcp.SenderReport):
                rtp_stream = self._demultiplexer.streams_by_ssrc.get(item.ssrc)
                if rtp_stream is not None:
                    rtp_stream.forward_sender_report(item, now)

    def on_channel(self, channel: RTCDataChannel) -> None:
        """Forward the messages of a data channel to the subscribers."""
        if not self.closed:
            self._channels.add(channel)

    # -- negotiation

    def _negotiate(self, offer: PublisherOffer) -> Description:
        if self._local_transport is None:
            raise Rejected("The stream is not open.")
        before = self._media_for_subscribers()
        sections = [section for section in offer.sections if section is not None]
        self._demultiplexer.update(sections, self._clock())
        self.has_data_channels = any(section.kind is MediaKind.DATA for section in sections)
        if self.has_data_channels:
            self._transport.enable_channels()
        renewed = self._answer is not None and transport_mid(self._answer) != transport_mid(offer.description)
        if offer.transport is not None and (self._offer is None or (renewed and offer.transport.setup != "actpass")):
            self._dtls_client = offer.transport.setup != "active"
        self._version += 1
        answer = write_answer(offer, self._local_transport, dtls_client=self._dtls_client, version=self._version)
        if offer.transport is not None:
            self._transport.connect(offer.transport, dtls_client=self._dtls_client, renewed=renewed)
            self._offer = offer
        self._answer = answer
        if self._media_for_subscribers() != before:
            others_wait = bool(self._to_offer)
            self._to_offer |= dict.fromkeys(self.subscribers)
            if not others_wait:
                self._offer_changed_media()
        return answer

    def _offer_changed_media(self) -> None:
        """Offer the changed media to a few subscribers in this loop iteration, and to the others in later ones."""
        for subscriber in list(self._to_offer)[:OFFERED_PER_ITERATION]:
            del self._to_offer[subscriber]
            subscriber.offer_changed_media()
        if self._to_offer:
            asyncio.get_running_loop().call_soon(self._offer_changed_media)

    def _media_for_subscribers(self) -> object:
        """Return the media properties whose change requires a new offer to subscribers."""
        tracks = [(track.mid, track.sends, track.codec.format) for track in self.tracks.values()]
        return self.has_data_channels, tracks

    # -- periodic work

    def _tick(self) -> None:
        if self.closed:
            return
        self._timer = asyncio.get_running_loop().call_later(TICK, self._tick)
        now = self._clock()
        self._ticks += 1
        for track in self.tracks.values():
            track.tick(now)
        self._feedback.tick(now)
        if self._ticks % REPORT_TICKS == 0 and self.connected:
            self._send_reports(now)
            self._send_remb()
            self._bitrates.sample({mid: track.octets for mid, track in self.tracks.items()}, now)
            self._detect_stopped_media(now)

    def _send_reports(self, now: float) -> None:
        rtp_streams = [rtp_stream for track in self.tracks.values() for rtp_stream in track.rtp_streams]
        blocks = [block for rtp_stream in rtp_streams if (block := rtp_stream.report_block(now)) is not None]
        for at in range(0, len(blocks), rtcp.MAX_BLOCKS):
            report = rtcp.pack_receiver_report(self._feedback.sender_ssrc, blocks[at : at + rtcp.MAX_BLOCKS])
            self._transport.send_rtcp(report)

    def _detect_stopped_media(self, now: float) -> None:
        for kind in [kind for kind, flowing in self._flowing.items() if flowing]:
            last_packets = [track.last_packet_at or 0.0 for track in self.tracks.values() if track.kind is kind]
            if not last_packets or now - max(last_packets) > MEDIA_TIMEOUT:
                self._set_flowing(kind, False)

    def _set_flowing(self, kind: MediaKind, flowing: bool) -> None:
        self._flowing[kind] = flowing
        self.gate.send(lambda listener: listener.on_media(kind, flowing))

    def _send_remb(self) -> None:
        ssrcs = [
            rtp_stream.ssrc
            for track in self.tracks.values()
            for rtp_stream in track.rtp_streams
            if rtp_stream.ssrc is not None and "goog-remb" in track.codec.feedback
        ]
        if ssrcs and self.connected:
            limit = min((limit for limit in (self._options.bitrate, self._limit) if limit), default=UNLIMITED_REMB)
            self._transport.send_rtcp(rtcp.pack_remb(self._feedback.sender_ssrc, limit, ssrcs))
