"""One subscription: a connection to the client, a down track per medium, and the offers it has to answer.

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
from mcu.inprocess.counters import SubscriberCounters, sent
from mcu.inprocess.forwarding import rtcp
from mcu.inprocess.forwarding.bitrate import BitrateMeter
from mcu.inprocess.forwarding.down_track import DownTrack
from mcu.inprocess.forwarding.receive_track import ReceiveTrack
from mcu.inprocess.negotiation.generation import write_offer
from mcu.inprocess.negotiation.parameters import LocalTransportDescription, SubscriberSection
from mcu.inprocess.negotiation.parsing import read_answer
from mcu.inprocess.settings import InprocessSettings
from mcu.inprocess.transport.data_channels import SubscriberChannels
from mcu.inprocess.transport.impairment import Impairment, StreamLeg
from mcu.inprocess.transport.peer_transport import PeerTransport

if TYPE_CHECKING:
    from mcu.inprocess.publisher import InprocessPublisher

ANSWER_TIMEOUT = 30.0  # seconds from the first offer to an answer that takes something of it
PATIENCE = 5.0  # seconds an offer may stand unanswered before a change of the media makes the next one

log = logging.getLogger("portunus.inprocess")

_numbers = itertools.count(1)


class InprocessSubscriber:
    """Implements ``mcu.base.Subscriber``."""

    def __init__(
        self,
        publisher: InprocessPublisher,
        settings: InprocessSettings,
        layer: MediaSelection,
        listener: StreamListener,
        ended: Callable[[InprocessSubscriber], None],
        closing: Callable[[asyncio.Task[None]], None],
    ) -> None:
        self.publisher = publisher
        self.number = next(_numbers)
        self.closed = False
        self._listener = listener
        self._ended = ended  # tells the backend
        self._keep = closing  # gives the backend the task that closes the sockets
        self._transport = PeerTransport(settings, self, controlling=True)
        self.outlet = SubscriberChannels(self._transport)
        self._local: LocalTransportDescription | None = None
        self._down_tracks: dict[str, DownTrack] = {}  # by mid
        self._sections: list[SubscriberSection] = []  # of the last offer
        self._version = 0
        self._muted: dict[MediaKind, bool] = {}
        self._layer = MediaSelection()  # chosen so far
        self._wants_data = False  # whether the client has agreed to data channels
        self._role = ""  # ours in DTLS, once agreed
        self._offered_at: float | None = None  # monotonic; None: the last offer is answered
        self._stale = False  # the media changed after the last offer
        self._timer: asyncio.TimerHandle | None = None
        self._deadline: asyncio.TimerHandle | None = None  # of the first answer
        self._rates = BitrateMeter(time.monotonic())
        self._choose(layer)
        self.impair(publisher.impairments.get(StreamLeg.SUBSCRIBERS))

    # -- mcu.base.Subscriber

    async def accept(self, answer: str) -> None:
        """Take an answer; one to an offer that has been superseded counts for the media that it names."""
        if self.closed:
            raise Rejected("The subscription is closed.")
        accepted, remote = read_answer(answer, self._sections)
        complete = len(accepted) == len(self._sections)
        if remote is not None:
            if not self._role:
                self._role = "passive" if remote.setup == "active" else "active"
            self._transport.connect(remote, client=self._role == "active")
            self._await_answer(False)
        for section, entry in zip(self._sections, accepted, strict=False):
            down_track = self._down_tracks.get(section.mid)
            if down_track is not None:
                down_track.accept(entry)
            elif section.kind is MediaKind.DATA:
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
        self._rates.look({mid: down_track.octets for mid, down_track in self._down_tracks.items()}, time.monotonic())
        key = self.publisher.key
        return [
            StreamReport(
                key,
                subscriber=True,
                kind=down_track.track.kind,
                codec=down_track.track.codec.payload.codec,
                bits_per_second=self._rates.of(mid),
                lost=down_track.lost,
                round_trip=down_track.round_trip,
            )
            for mid, down_track in self._down_tracks.items()
        ]

    def counters(self) -> SubscriberCounters:
        """Return what was counted."""
        media = tuple(sent(mid, down_track) for mid, down_track in self._down_tracks.items())
        return SubscriberCounters(self.number, self._transport.connected, media)

    def impair(self, impairment: Impairment | None) -> None:
        """Impair the connection; ``None``: no more."""
        self._transport.impair(impairment)

    # -- for the transport

    def on_connected(self) -> None:
        """Begin to forward."""
        for down_track in self._down_tracks.values():
            down_track.start()
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
        by_ssrc = {down_track.track.ssrc: down_track for down_track in self._down_tracks.values()}
        for item in rtcp.parse(data):
            if isinstance(item, rtcp.ReportBlock):
                if (down_track := by_ssrc.get(item.ssrc)) is not None:
                    down_track.heard(item)
            elif isinstance(item, rtcp.FeedbackPacket):
                self._feedback(item, by_ssrc, now)

    def on_channel(self, channel: RTCDataChannel) -> None:
        """Ignore what a subscriber says: streams have one direction."""

    # -- inside

    def _feedback(self, item: rtcp.FeedbackPacket, by_ssrc: dict[int, DownTrack], now: float) -> None:
        if (item.type, item.format) == (rtcp.PSFB, rtcp.FIR):
            targets = list(rtcp.fir_targets(item.detail))
        elif (item.type, item.format) == (rtcp.PSFB, rtcp.REMB):
            estimate = rtcp.parse_remb(item.detail)
            for down_track in by_ssrc.values():
                down_track.estimate = estimate
            return
        else:
            targets = [item.media]
        for down_track in filter(None, map(by_ssrc.get, targets)):
            if (item.type, item.format) == (rtcp.RTPFB, rtcp.NACK):
                down_track.retransmit(rtcp.lost_sequences(item.detail))
            elif item.type == rtcp.PSFB and item.format in (rtcp.PLI, rtcp.FIR):
                down_track.request_keyframe(now)

    def _offer(self) -> str:
        if self._local is None:
            raise Rejected("The subscription is not open.")
        self._fill()
        self._cancel()
        self._stale = False
        self._version += 1
        self._offered_at = time.monotonic()
        # RFC 8842 5.5: a role once agreed is kept by offering it, or by leaving the choice; browsers want the latter
        return write_offer(self._sections, self._local, setup="actpass", version=self._version)

    def _fill(self) -> None:
        """Update sections and down tracks to the publisher's media: sections keep their places, new ones follow."""
        tracks = {track.mid: track for track in self.publisher.tracks.values()}
        for mid in [mid for mid in self._down_tracks if mid not in tracks]:
            self._down_tracks.pop(mid).close()
        sections: list[SubscriberSection] = []
        for section in self._sections:
            track = tracks.get(section.mid)
            if section.kind is MediaKind.DATA:
                sections.append(section)
            elif track is not None:
                sections.append(self._section(track))
            else:
                sections.append(replace(section, sends=False))
        known = {section.mid for section in sections}
        sections += [self._section(new) for mid, new in tracks.items() if mid not in known and new.sends]
        if self.publisher.data and self.publisher.data_mid not in known:
            sections.append(SubscriberSection(MediaKind.DATA, self.publisher.data_mid))
            self._transport.enable_channels()
        self._sections = sections
        for section in sections:
            if section.mid in tracks and section.mid not in self._down_tracks:
                self._add_down_track(tracks[section.mid])

    def _add_down_track(self, track: ReceiveTrack) -> None:
        down_track = DownTrack(track, self._transport)
        self._down_tracks[track.mid] = down_track
        down_track.mute(self._muted.get(track.kind, False))
        down_track.select(self._layer)
        if self._transport.connected:
            down_track.start()

    def _section(self, track: ReceiveTrack) -> SubscriberSection:
        return SubscriberSection(
            kind=track.kind,
            mid=track.mid,
            sends=track.sends,
            codec=track.codec,
            ssrc=track.ssrc,
            rtx_ssrc=track.rtx_ssrc,
            cname=track.cname,
            stream=self.publisher.stream,
            track=f"{track.kind.value}{track.mid}",
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
                for down_track in self._down_tracks.values():
                    if down_track.track.kind is kind:
                        down_track.mute(not wanted)
        self._layer = MediaSelection(
            self._layer.substream if layer.substream is None else layer.substream,
            self._layer.temporal if layer.temporal is None else layer.temporal,
        )
        for down_track in self._down_tracks.values():
            down_track.select(layer)

    def _finish(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._cancel()
        self._await_answer(False)
        self.outlet.close()
        for down_track in self._down_tracks.values():
            down_track.close()
        self._keep(self._transport.begin_close())
        self._ended(self)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
