"""One published stream: a connection from the client, an ingress per medium, and the subscribers it feeds."""

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
from mcu.inprocess import rtp
from mcu.inprocess.agreement import LocalTransport, Offer
from mcu.inprocess.channels import Inlet
from mcu.inprocess.counters import StreamCounters, impaired, received
from mcu.inprocess.encoding import Encoding
from mcu.inprocess.impairment import Impairment, Leg
from mcu.inprocess.ingress import Ingress
from mcu.inprocess.rates import Rates
from mcu.inprocess.reading import preference, read_offer
from mcu.inprocess.settings import Settings
from mcu.inprocess.subscriber import Subscriber
from mcu.inprocess.transport import Transport
from mcu.inprocess.upstream import Upstream
from mcu.inprocess.writing import write_answer
from sdp.document import identity

TICK = 0.1  # seconds between looks at what had to wait
REPORT_TICKS = 10  # ticks between two reports to the publisher
MAX_BLOCKS = 31  # of one receiver report
SILENT = 2.0  # seconds without a packet after which a medium does not flow
UNLIMITED = 20_000_000  # bit/s told to a publisher without a limit: browsers start slowly if nothing is told

log = logging.getLogger("portunus.inprocess")


class Publisher:
    """Implements ``mcu.base.Publisher``; also what the backend and the subscribers need to know."""

    def __init__(
        self,
        key: StreamKey,
        settings: Settings,
        options: PublishOptions,
        listener: StreamListener,
        changed: Callable[[Publisher], None],
        closing: Callable[[asyncio.Task[None]], None],
    ) -> None:
        self.key = key
        self.ingresses: dict[str, Ingress] = {}  # by the publisher's mid, in the order of the offer
        self.data = False  # whether data channels are agreed
        self.data_mid = "data"
        self.subscribers: list[Subscriber] = []
        self.closed = False
        self.stream = secrets.token_hex(8)
        self.cname = secrets.token_hex(8)
        self.impairments: dict[Leg, Impairment] = {}
        self._options = options
        self._preference = preference(options)
        self._limit = 0
        self._listener = listener
        self._changed = changed  # tells the backend that the connection came up or went away
        self._keep = closing  # gives the backend the task that closes the sockets
        self._transport = Transport(settings, self, controlling=False)
        self._local: LocalTransport | None = None
        self._offer: Offer | None = None
        self._client = True
        self._version = 0
        self._mids = 0
        self._upstream = Upstream(random.getrandbits(32), self._transport.send_rtcp)
        self._routes: dict[int, Encoding] = {}  # by SSRC of the publisher
        self._flowing: dict[MediaKind, bool] = {}
        self._inlet = Inlet(lambda: [subscriber.outlet for subscriber in self.subscribers])
        self._timer: asyncio.TimerHandle | None = None
        self._ticks = 0
        self._rates = Rates(time.monotonic())

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
        for ingress in self.ingresses.values():
            ingress.request_keyframe(time.monotonic())

    async def add_candidate(self, candidate: Candidate | None) -> None:
        """Take a candidate; the end of the list is not needed."""
        if not self.closed:
            self._transport.take(candidate)

    async def close(self) -> None:
        """End the stream."""
        await self.shut(CloseReason.PUBLISHER_GONE)

    # -- for the backend

    async def open(self, offer: Offer) -> str:
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
                kind=ingress.kind,
                codec=ingress.codec.payload.codec,
                bits_per_second=self._rates.of(mid),
                lost=ingress.lost,
            )
            for mid, ingress in self.ingresses.items()
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
            media=tuple(received(mid, ingress) for mid, ingress in self.ingresses.items()),
            subscribers=tuple(subscriber.counters() for subscriber in self.subscribers),
        )

    def impair(self, leg: Leg, impairment: Impairment | None) -> None:
        """Impair the connections of a leg, and subscribers' to come; ``None``: no more."""
        if impairment is None:
            self.impairments.pop(leg, None)
        else:
            self.impairments[leg] = impairment
        if leg is Leg.PUBLISHER:
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
        """Hand a packet to its ingress."""
        packet = rtp.parse(data)
        if packet is None or self.closed:
            return
        now = time.monotonic()
        encoding = self._routes.get(packet.ssrc)
        if encoding is None:
            encoding = self._claim(packet, now)
            if encoding is None:
                return
        encoding.receive(packet, now)
        if not self._flowing.get(encoding.kind):
            self._flows(encoding.kind, True)

    def on_rtcp(self, data: bytes) -> None:
        """Pass the publisher's clock on."""
        now = time.monotonic()
        for item in rtp.control(data):
            if isinstance(item, rtp.SenderReport) and (encoding := self._routes.get(item.ssrc)) is not None:
                encoding.report(item, now)

    def on_channel(self, channel: RTCDataChannel) -> None:
        """Take a data channel."""
        if not self.closed:
            self._inlet.add(channel)

    @property
    def channels(self) -> list[RTCDataChannel]:
        """The publisher's data channels that are open."""
        return self._inlet.channels

    # -- inside

    def _negotiate(self, offer: Offer) -> str:
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

    def _take(self, offer: Offer) -> None:
        """Make, change and remove ingresses as the offer says."""
        media = {medium.mid: medium for medium in offer.media if medium is not None and medium.codec is not None}
        for mid in [mid for mid in self.ingresses if mid not in media]:
            for encoding in self.ingresses.pop(mid).encodings:
                self._upstream.forget(encoding)
        for mid, medium in media.items():
            if mid in self.ingresses:
                self.ingresses[mid].update(medium)
            else:
                self.ingresses[mid] = Ingress(medium, str(self._mids), self.cname, self._upstream)
                self._mids += 1
        self.data = any(medium is not None and medium.kind is MediaKind.DATA for medium in offer.media)
        if self.data:
            self._transport.enable_channels()
        self._reroute()

    def _shape(self) -> object:
        """What subscribers must be told of when it changes."""
        media = [(ingress.mid, ingress.sends, ingress.codec.format) for ingress in self.ingresses.values()]
        return self.data, media

    def _reroute(self) -> None:
        self._routes = {}
        for ingress in self.ingresses.values():
            self._routes |= ingress.routes

    def _claim(self, packet: rtp.Packet, now: float) -> Encoding | None:
        """Find the medium of an SSRC that the description does not name: by mid, else by payload type."""
        mid = next((mid for ident in self._mid_idents() if (mid := rtp.element(packet, ident)) is not None), None)
        if mid is not None:
            named = self.ingresses.get(mid.decode("ascii", "replace"))
            candidates = [named] if named is not None else []
        else:
            candidates = [ingress for ingress in self.ingresses.values() if ingress.carries(packet.payload_type)]
            if len(candidates) != 1:
                return None
        for ingress in candidates:
            encoding = ingress.claim(packet, now)
            if encoding is not None:
                self._reroute()
                return encoding
        return None

    def _mid_idents(self) -> set[int]:
        return {ident for ingress in self.ingresses.values() if (ident := ingress.mid_ident) is not None}

    def _flows(self, kind: MediaKind, flowing: bool) -> None:
        self._flowing[kind] = flowing
        self._listener.on_media(kind, flowing)

    def _tick(self) -> None:
        if self.closed:
            return
        self._timer = asyncio.get_running_loop().call_later(TICK, self._tick)
        now = time.monotonic()
        self._ticks += 1
        for ingress in self.ingresses.values():
            ingress.tick(now)
        self._upstream.tick(now)
        if self._ticks % REPORT_TICKS == 0 and self.connected:
            self._report(now)

    def _report(self, now: float) -> None:
        encodings = [encoding for ingress in self.ingresses.values() for encoding in ingress.encodings]
        blocks = [block for encoding in encodings if (block := encoding.receiver_block(now)) is not None]
        for at in range(0, len(blocks), MAX_BLOCKS):
            report = rtp.receiver_report(self._upstream.reporter, blocks[at : at + MAX_BLOCKS])
            self._transport.send_rtcp(report)
        self._send_limit()
        self._rates.look({mid: ingress.octets for mid, ingress in self.ingresses.items()}, now)
        for kind in [kind for kind, flowing in self._flowing.items() if flowing]:
            heard = [ingress.heard_at or 0.0 for ingress in self.ingresses.values() if ingress.kind is kind]
            if not heard or now - max(heard) > SILENT:
                self._flows(kind, False)

    def _send_limit(self) -> None:
        sources = [
            encoding.source
            for ingress in self.ingresses.values()
            for encoding in ingress.encodings
            if encoding.source is not None and "goog-remb" in ingress.codec.feedback
        ]
        if sources and self.connected:
            limits = [limit for limit in (self._options.bitrate, self._limit) if limit]
            self._transport.send_rtcp(rtp.remb(self._upstream.reporter, min(limits, default=UNLIMITED), sources))

    def _must_be_open(self) -> None:
        if self.closed:
            raise Rejected("The stream is closed.")
