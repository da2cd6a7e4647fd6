"""One subscription: a connection to the client, a sink per medium, and the offers it has to answer.

An offer is complete in itself: a new one may be made while an older is unanswered, and counts from then on. A client
that never answers therefore holds up nothing, not even its own next offer.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from aiortc import RTCDataChannel

from mcu.base import Candidate, CloseReason, MediaKind, MediaSelection, Rejected, StreamListener, StreamReport
from mcu.inprocess import rtp
from mcu.inprocess.agreement import LocalTransport, Slot
from mcu.inprocess.channels import Outlet
from mcu.inprocess.counters import SubscriberCounters, sent
from mcu.inprocess.impairment import Impairment, Leg
from mcu.inprocess.ingress import Ingress
from mcu.inprocess.rates import Rates
from mcu.inprocess.reading import read_answer
from mcu.inprocess.settings import Settings
from mcu.inprocess.sink import Sink
from mcu.inprocess.transport import Transport
from mcu.inprocess.writing import write_offer

if TYPE_CHECKING:
    from mcu.inprocess.publisher import Publisher

ANSWER_TIMEOUT = 30.0  # seconds from the first offer to an answer that takes something of it
PATIENCE = 5.0  # seconds an offer may stand unanswered before a change of the media makes the next one

log = logging.getLogger("portunus.inprocess")

_numbers = itertools.count(1)


class Subscriber:
    """Implements ``mcu.base.Subscriber``."""

    def __init__(
        self,
        publisher: Publisher,
        settings: Settings,
        layer: MediaSelection,
        listener: StreamListener,
        ended: Callable[[Subscriber], None],
        closing: Callable[[asyncio.Task[None]], None],
    ) -> None:
        self.publisher = publisher
        self.number = next(_numbers)
        self.closed = False
        self._listener = listener
        self._ended = ended  # tells the backend
        self._keep = closing  # gives the backend the task that closes the sockets
        self._transport = Transport(settings, self, controlling=True)
        self.outlet = Outlet(self._transport)
        self._local: LocalTransport | None = None
        self._sinks: dict[str, Sink] = {}  # by mid
        self._slots: list[Slot] = []  # of the last offer
        self._version = 0
        self._muted: dict[MediaKind, bool] = {}
        self._layer = MediaSelection()  # chosen so far
        self._wants_data = False  # whether the client has agreed to data channels
        self._role = ""  # ours in DTLS, once agreed
        self._offered_at: float | None = None  # monotonic; None: the last offer is answered
        self._stale = False  # the media changed after the last offer
        self._timer: asyncio.TimerHandle | None = None
        self._deadline: asyncio.TimerHandle | None = None  # of the first answer
        self._rates = Rates(time.monotonic())
        self._choose(layer)
        self.impair(publisher.impairments.get(Leg.SUBSCRIBERS))

    # -- mcu.base.Subscriber

    async def accept(self, answer: str) -> None:
        """Take an answer; one to an offer that has been superseded counts for the media that it names."""
        if self.closed:
            raise Rejected("The subscription is closed.")
        accepted, remote = read_answer(answer, self._slots)
        complete = len(accepted) == len(self._slots)
        if remote is not None:
            if not self._role:
                self._role = "passive" if remote.setup == "active" else "active"
            self._transport.connect(remote, client=self._role == "active")
            self._await_answer(False)
        for slot, entry in zip(self._slots, accepted, strict=False):
            sink = self._sinks.get(slot.mid)
            if sink is not None:
                sink.accept(entry)
            elif slot.kind is MediaKind.DATA:
                self._wants_data = entry.receives
        self._open_channels()
        if complete:
            self._offered_at = None
            self._cancel()
            if self._stale:
                self._push()

    async def refresh(self) -> str:
        """Return a new offer; an older one need not be answered any more."""
        if self.closed:
            raise Rejected("The subscription is closed.")
        return self._offer()

    async def select(self, layer: MediaSelection) -> None:
        """Switch audio and video, choose layers."""
        self._choose(layer)

    async def add_candidate(self, candidate: Candidate | None) -> None:
        """Take a candidate; the end of the list is not needed."""
        if not self.closed:
            self._transport.take(candidate)

    async def close(self) -> None:
        """End the subscription."""
        self._finish()
        await self._transport.close()

    # -- for the backend and the publisher

    async def open(self) -> str:
        """Bind the sockets and return the first offer; close the subscription if this fails.

        Raises:
            Rejected: no port is free.
        """
        self._local = await self._transport.open()
        self._await_answer(True)
        return self._offer()

    def media_changed(self) -> None:
        """Offer what the publisher sends now, unless the client still owes an answer: then a little later."""
        if self.closed or self._local is None:
            return
        self._stale = True
        if self._offered_at is None:
            self._push()
        elif self._timer is None:
            rest = max(0.0, self._offered_at + PATIENCE - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(rest, self._push)

    def end(self, reason: CloseReason) -> None:
        """Be closed at once and tell the listener ``reason``."""
        if not self.closed:
            self._finish()
            self._listener.on_closed(reason)

    def reports(self) -> list[StreamReport]:
        """Return what goes to this subscriber."""
        self._rates.look({mid: sink.octets for mid, sink in self._sinks.items()}, time.monotonic())
        key = self.publisher.key
        return [
            StreamReport(
                key,
                subscriber=True,
                kind=sink.ingress.kind,
                codec=sink.ingress.codec.payload.codec,
                bits_per_second=self._rates.of(mid),
                lost=sink.lost,
                round_trip=sink.round_trip,
            )
            for mid, sink in self._sinks.items()
        ]

    def counters(self) -> SubscriberCounters:
        """Return what was counted."""
        media = tuple(sent(mid, sink) for mid, sink in self._sinks.items())
        return SubscriberCounters(self.number, self._transport.connected, media)

    def impair(self, impairment: Impairment | None) -> None:
        """Impair the connection; ``None``: no more."""
        self._transport.impair(impairment)

    # -- for the transport

    def on_connected(self) -> None:
        """Begin to forward."""
        for sink in self._sinks.values():
            sink.start()
        self._open_channels()

    def on_lost(self) -> None:
        """Tell the listener."""
        self.end(CloseReason.FAILED)

    def on_rtp(self, data: bytes) -> None:
        """Drop what a subscriber has no business to send."""

    def on_rtcp(self, data: bytes) -> None:
        """Take reports, requests for packets and for keyframes."""
        if self.closed:
            return
        now = time.monotonic()
        by_ssrc = {sink.ingress.ssrc: sink for sink in self._sinks.values()}
        for item in rtp.control(data):
            if isinstance(item, rtp.Block):
                if (sink := by_ssrc.get(item.ssrc)) is not None:
                    sink.heard(item)
            elif isinstance(item, rtp.Feedback):
                self._feedback(item, by_ssrc, now)

    def on_channel(self, channel: RTCDataChannel) -> None:
        """Ignore what a subscriber says: streams have one direction."""

    # -- inside

    def _feedback(self, item: rtp.Feedback, by_ssrc: dict[int, Sink], now: float) -> None:
        if (item.type, item.format) == (rtp.PSFB, rtp.FIR):
            targets = list(rtp.fir_targets(item.detail))
        elif (item.type, item.format) == (rtp.PSFB, rtp.REMB):
            estimate = rtp.read_remb(item.detail)
            for sink in by_ssrc.values():
                sink.estimate = estimate
            return
        else:
            targets = [item.media]
        for sink in filter(None, map(by_ssrc.get, targets)):
            if (item.type, item.format) == (rtp.RTPFB, rtp.NACK):
                sink.retransmit(rtp.lost_sequences(item.detail))
            elif item.type == rtp.PSFB and item.format in (rtp.PLI, rtp.FIR):
                sink.request_keyframe(now)

    def _offer(self) -> str:
        if self._local is None:
            raise Rejected("The subscription is not open.")
        self._fill()
        self._cancel()
        self._stale = False
        self._version += 1
        self._offered_at = time.monotonic()
        # RFC 8842 5.5: a role once agreed is kept by offering it, or by leaving the choice; browsers want the latter
        return write_offer(self._slots, self._local, setup="actpass", version=self._version)

    def _fill(self) -> None:
        """Bring slots and sinks to what the publisher has: slots keep their places, new media come behind."""
        ingresses = {ingress.mid: ingress for ingress in self.publisher.ingresses.values()}
        for mid in [mid for mid in self._sinks if mid not in ingresses]:
            self._sinks.pop(mid).close()
        slots: list[Slot] = []
        for slot in self._slots:
            ingress = ingresses.get(slot.mid)
            if slot.kind is MediaKind.DATA:
                slots.append(slot)
            elif ingress is not None:
                slots.append(self._slot(ingress))
            else:
                slots.append(replace(slot, sends=False))
        known = {slot.mid for slot in slots}
        slots += [self._slot(new) for mid, new in ingresses.items() if mid not in known and new.sends]
        if self.publisher.data and self.publisher.data_mid not in known:
            slots.append(Slot(MediaKind.DATA, self.publisher.data_mid))
            self._transport.enable_channels()
        self._slots = slots
        for slot in slots:
            if slot.mid in ingresses and slot.mid not in self._sinks:
                self._add_sink(ingresses[slot.mid])

    def _add_sink(self, ingress: Ingress) -> None:
        sink = Sink(ingress, self._transport)
        self._sinks[ingress.mid] = sink
        sink.mute(self._muted.get(ingress.kind, False))
        sink.select(self._layer)
        if self._transport.connected:
            sink.start()

    def _slot(self, ingress: Ingress) -> Slot:
        return Slot(
            kind=ingress.kind,
            mid=ingress.mid,
            sends=ingress.sends,
            codec=ingress.codec,
            ssrc=ingress.ssrc,
            rtx_ssrc=ingress.rtx_ssrc,
            cname=ingress.cname,
            stream=self.publisher.stream,
            track=f"{ingress.kind.value}{ingress.mid}",
        )

    def _open_channels(self) -> None:
        if self._wants_data and self._transport.connected:
            self.outlet.start(self.publisher.channels)

    def _push(self) -> None:
        self._cancel()
        if not self.closed and self._stale:
            self._listener.on_offer(self._offer())

    def _await_answer(self, awaited: bool) -> None:
        """End the subscription of a client that never takes it: until then nothing else notices that it is gone."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if awaited:
            self._deadline = asyncio.get_running_loop().call_later(ANSWER_TIMEOUT, self.end, CloseReason.FAILED)

    def _choose(self, layer: MediaSelection) -> None:
        for kind, wanted in ((MediaKind.AUDIO, layer.audio), (MediaKind.VIDEO, layer.video)):
            if wanted is not None:
                self._muted[kind] = not wanted
                for sink in self._sinks.values():
                    if sink.ingress.kind is kind:
                        sink.mute(not wanted)
        self._layer = MediaSelection(
            self._layer.substream if layer.substream is None else layer.substream,
            self._layer.temporal if layer.temporal is None else layer.temporal,
        )
        for sink in self._sinks.values():
            sink.select(layer)

    def _finish(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._cancel()
        self._await_answer(False)
        self.outlet.close()
        for sink in self._sinks.values():
            sink.close()
        self._keep(self._transport.begin_close())
        self._ended(self)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
