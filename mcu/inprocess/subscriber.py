"""One subscription: the PeerConnection to the client, its down tracks, and the offers to the client.

Each offer describes all media: a new one may be made while an older one is unanswered, and supersedes it. A client that
never answers therefore blocks nothing, not even its own next offer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from aiortc import RTCDataChannel

from mcu.base import (
    CloseReason,
    IceCandidate,
    MediaKind,
    MediaSelection,
    Rejected,
    StreamListener,
    StreamReport,
    TransportState,
)
from mcu.inprocess.connection_turns import ConnectionTurns
from mcu.inprocess.counters import SubscriberCounters, sent_media_counters
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
from mcu.listener_gate import ListenerGate
from sdp.document import Description

if TYPE_CHECKING:
    from mcu.inprocess.publisher import InprocessPublisher

ANSWER_TIMEOUT = 30.0  # seconds from the first offer to an answer that accepts a medium
REOFFER_DELAY = 5.0  # seconds that an offer may stay unanswered before changed media are offered nevertheless
DATA_MID = "data"


class InprocessSubscriber:
    """A subscription; implements ``mcu.base.Subscriber``."""

    def __init__(
        self,
        publisher: InprocessPublisher,
        number: int,
        settings: InprocessSettings,
        selection: MediaSelection,
        listener: StreamListener,
        on_ended: Callable[[InprocessSubscriber], None],
        keep_task: Callable[[asyncio.Task[None]], None],
        clock: Callable[[], float],
        turns: ConnectionTurns,
    ) -> None:
        """Create a subscription that is not connected yet; ``open`` follows.

        Args:
            number: counts the subscriptions of the SFU.
            on_ended: called when the subscription has ended.
            keep_task: receives the task that closes the sockets.
            turns: shared by all PeerConnections of the SFU.
        """
        self.publisher = publisher
        self.number = number
        self.closed = False
        self.gate = ListenerGate(listener)
        self._on_ended = on_ended
        self._keep_task = keep_task
        self._clock = clock
        self._transport = PeerTransport(settings, self, turns.take, controlling=True)
        self.channels = SubscriberChannels(self._transport)
        self._local_transport: LocalTransportDescription | None = None
        self._down_tracks: dict[str, DownTrack] = {}  # by mid
        self._sections: list[SubscriberSection] = []  # of the last offer
        self._reusable: set[int] = set()  # indices of the sections that both sides have rejected
        self._version = 0  # of the offer
        self._muted: dict[MediaKind, bool] = {}
        self._selection = MediaSelection()  # the layers selected so far
        self._accepts_data_channels = False
        self._dtls_role = ""  # "active" or "passive", once agreed
        self._offered_at: float | None = None  # monotonic; None: the last offer is answered
        self._media_changed = False  # since the last offer
        self._reoffer_timer: asyncio.TimerHandle | None = None
        self._answer_deadline: asyncio.TimerHandle | None = None  # of the first answer
        self._bitrates = BitrateMeter(clock())
        self._apply_selection(selection)
        self.impair(publisher.impairments.get(StreamLeg.SUBSCRIBERS))

    # -- mcu.base.Subscriber

    async def accept(self, answer: Description) -> None:
        """Apply an answer; an answer to a superseded offer applies to the sections that it contains."""
        if self.closed:
            raise Rejected("The subscription is closed.")
        answered, remote = read_answer(answer, self._sections)
        if remote is not None:
            if not self._dtls_role:
                self._dtls_role = "passive" if remote.setup == "active" else "active"
            self._transport.connect(remote, dtls_client=self._dtls_role == "active")
            self._cancel_answer_deadline()
        now = self._clock()
        for index, (section, answered_section) in enumerate(zip(self._sections, answered, strict=False)):
            if answered_section is None:
                continue
            if section.rejected:
                self._reusable.add(index)
            down_track = self._down_tracks.get(section.mid)
            if down_track is not None:
                down_track.apply_answer(answered_section, now)
            elif section.kind is MediaKind.DATA:
                self._accepts_data_channels = answered_section.receives
        self._open_channels()
        if len(answered) == len(self._sections) and None not in answered:
            self._offered_at = None
            self._cancel_reoffer()
            if self._media_changed:
                self._reoffer()

    async def refresh(self) -> Description:
        """Return a new offer, which supersedes an unanswered one."""
        if self.closed:
            raise Rejected("The subscription is closed.")
        return self._create_offer()

    async def select(self, selection: MediaSelection) -> None:
        """Mute and unmute audio and video, select simulcast and temporal layer."""
        self._apply_selection(selection)

    async def add_candidate(self, candidate: IceCandidate | None) -> None:
        """Add a remote candidate; the end of candidates is not needed."""
        if not self.closed:
            self._transport.add_trickled_candidate(candidate)

    async def close(self) -> None:
        """End the subscription."""
        self.gate.close(None)
        self._finish()
        await self._transport.close()

    # -- for InprocessMcu and the publisher

    async def open(self) -> Description:
        """Bind the sockets and return the first offer; the caller closes the subscription if this fails.

        Raises:
            Rejected: no port is free.
        """
        self._local_transport = await self._transport.open()
        # until the client answers, nothing else detects that it is gone
        self._answer_deadline = asyncio.get_running_loop().call_later(ANSWER_TIMEOUT, self.end, CloseReason.FAILED)
        return self._create_offer()

    def offer_changed_media(self) -> None:
        """Offer the publisher's changed media: at once, or after the answer that is due or ``REOFFER_DELAY``."""
        if self.closed or self._local_transport is None:
            return
        self._media_changed = True
        if self._offered_at is None:
            self._reoffer()
        elif self._reoffer_timer is None:
            delay = max(0.0, self._offered_at + REOFFER_DELAY - self._clock())
            self._reoffer_timer = asyncio.get_running_loop().call_later(delay, self._reoffer)

    def end(self, reason: CloseReason) -> None:
        """End the subscription, and notify the listener with ``reason``; a task of InprocessMcu closes the sockets."""
        if not self.closed:
            self.gate.close(reason)
            self._finish()

    def reports(self) -> list[StreamReport]:
        """Return a report of each medium sent to this subscriber."""
        octets = {mid: down_track.octets for mid, down_track in self._down_tracks.items()}
        self._bitrates.sample(octets, self._clock())
        return [
            StreamReport(
                self.publisher.key,
                subscriber=True,
                kind=down_track.track.kind,
                codec=down_track.track.codec.payload.codec,
                bits_per_second=self._bitrates.bits_per_second(mid),
                lost=down_track.lost,
                round_trip=down_track.round_trip,
            )
            for mid, down_track in self._down_tracks.items()
        ]

    def counters(self) -> SubscriberCounters:
        """Return the counters of this subscription."""
        media = tuple(sent_media_counters(mid, down_track) for mid, down_track in self._down_tracks.items())
        return SubscriberCounters(self.number, self._transport.connected, media)

    def impair(self, impairment: Impairment | None) -> None:
        """Impair the connection; ``None`` ends the impairment."""
        self._transport.impair(impairment)

    # -- TransportListener

    def on_ice_connected(self) -> None:
        """Report the state to the listener."""
        self.gate.send(lambda listener: listener.on_transport(TransportState.ICE_CONNECTED))

    def on_connected(self) -> None:
        """Start forwarding, open the data channels, and report the state."""
        now = self._clock()
        for down_track in self._down_tracks.values():
            down_track.start(now)
        self._open_channels()
        self.gate.send(lambda listener: listener.on_transport(TransportState.CONNECTED))

    def on_lost(self, reason: CloseReason) -> None:
        """End the subscription, and notify the listener."""
        self.end(reason)

    def on_rtp(self, data: bytes) -> None:
        """Drop the packet: subscriptions are send-only."""

    def on_rtcp(self, data: bytes) -> None:
        """Apply receiver reports, NACKs, keyframe requests and REMBs."""
        if self.closed:
            return
        now = self._clock()
        by_ssrc = {down_track.track.ssrc: down_track for down_track in self._down_tracks.values()}
        for item in rtcp.parse(data):
            if isinstance(item, rtcp.ReportBlock):
                if (down_track := by_ssrc.get(item.ssrc)) is not None:
                    down_track.handle_report_block(item, now)
            elif isinstance(item, rtcp.FeedbackPacket):
                self._handle_feedback(item, by_ssrc, now)

    def on_channel(self, channel: RTCDataChannel) -> None:
        """Ignore a data channel of the client: subscriptions are send-only."""

    # -- internal

    def _handle_feedback(self, feedback: rtcp.FeedbackPacket, by_ssrc: dict[int, DownTrack], now: float) -> None:
        packet_type = feedback.type, feedback.format
        if packet_type == (rtcp.PSFB, rtcp.REMB):
            estimate = rtcp.parse_remb(feedback.control_information)
            for down_track in by_ssrc.values():
                down_track.handle_remb(estimate)
            return
        if packet_type == (rtcp.PSFB, rtcp.FIR):
            ssrcs = list(rtcp.fir_ssrcs(feedback.control_information))
        else:
            ssrcs = [feedback.media_ssrc]
        for down_track in filter(None, map(by_ssrc.get, ssrcs)):
            if packet_type == (rtcp.RTPFB, rtcp.NACK):
                down_track.retransmit(rtcp.nacked_sequences(feedback.control_information), now)
            elif packet_type in ((rtcp.PSFB, rtcp.PLI), (rtcp.PSFB, rtcp.FIR)):
                down_track.request_keyframe(now)

    def _create_offer(self) -> Description:
        if self._local_transport is None:
            raise Rejected("The subscription is not open.")
        self._update_media()
        self._cancel_reoffer()
        self._media_changed = False
        self._version += 1
        self._offered_at = self._clock()
        # RFC 8842 5.5: an agreed role is kept by offering it or by offering "actpass"; browsers expect the latter
        return write_offer(self._sections, self._local_transport, setup="actpass", version=self._version)

    def _update_media(self) -> None:
        """Update sections and down tracks to the publisher's media.

        A section keeps its index. A section whose medium has ended is rejected; once the client has answered, another
        medium of the same kind reuses the index with its own mid (RFC 8829, 5.2.2), so that offers do not grow.
        """
        tracks = {track.mid: track for track in self.publisher.tracks.values()}
        for mid in [mid for mid in self._down_tracks if mid not in tracks]:
            ended = self._down_tracks.pop(mid)
            ended.close()
            self._transport.forget_sent(ended.track.ssrc, ended.track.rtx_ssrc)
        sections = [
            self._section(tracks[section.mid]) if section.mid in tracks else section for section in self._sections
        ]
        known = {section.mid for section in sections}
        for mid, track in tracks.items():
            if mid not in known and track.sends:
                self._place(self._section(track), sections)
        if self.publisher.has_data_channels and DATA_MID not in known:
            sections.append(SubscriberSection(MediaKind.DATA, DATA_MID))
            self._transport.enable_channels()
        self._sections = _with_ended_rejected(sections, tracks.keys())
        for section in sections:
            if section.mid in tracks and section.mid not in self._down_tracks:
                self._add_down_track(tracks[section.mid])

    def _place(self, section: SubscriberSection, sections: list[SubscriberSection]) -> None:
        """Put a new section in place of one of its kind that both sides have rejected, or else append it."""
        index = next((index for index in sorted(self._reusable) if sections[index].kind is section.kind), None)
        if index is None:
            sections.append(section)
        else:
            self._reusable.discard(index)
            sections[index] = section

    def _add_down_track(self, track: ReceiveTrack) -> None:
        down_track, now = DownTrack(track, self._transport), self._clock()
        self._down_tracks[track.mid] = down_track
        down_track.mute(self._muted.get(track.kind, False), now)
        down_track.select(self._selection, now)
        if self._transport.connected:
            down_track.start(now)

    def _section(self, track: ReceiveTrack) -> SubscriberSection:
        return SubscriberSection(
            kind=track.kind,
            mid=track.mid,
            sends=track.sends,
            codec=track.codec,
            ssrc=track.ssrc,
            rtx_ssrc=track.rtx_ssrc,
            cname=track.cname,
            stream_id=self.publisher.stream_id,
            track_id=f"{track.kind.value}{track.mid}",
        )

    def _open_channels(self) -> None:
        if self._accepts_data_channels and self._transport.connected:
            self.channels.start(self.publisher.open_channels)

    def _reoffer(self) -> None:
        self._cancel_reoffer()
        if not self.closed and self._media_changed:
            offer = self._create_offer()
            self.gate.send(lambda listener: listener.on_offer(offer))

    def _apply_selection(self, selection: MediaSelection) -> None:
        now = self._clock()
        for kind, wanted in ((MediaKind.AUDIO, selection.audio), (MediaKind.VIDEO, selection.video)):
            if wanted is not None:
                self._muted[kind] = not wanted
                for down_track in self._down_tracks.values():
                    if down_track.track.kind is kind:
                        down_track.mute(not wanted, now)
        self._selection = MediaSelection(
            self._selection.substream if selection.substream is None else selection.substream,
            self._selection.temporal if selection.temporal is None else selection.temporal,
        )
        for down_track in self._down_tracks.values():
            down_track.select(selection, now)

    def _finish(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._cancel_reoffer()
        self._cancel_answer_deadline()
        self.channels.close()
        for down_track in self._down_tracks.values():
            down_track.close()
        self._keep_task(self._transport.begin_close())
        self._on_ended(self)

    def _cancel_answer_deadline(self) -> None:
        if self._answer_deadline is not None:
            self._answer_deadline.cancel()
            self._answer_deadline = None

    def _cancel_reoffer(self) -> None:
        if self._reoffer_timer is not None:
            self._reoffer_timer.cancel()
            self._reoffer_timer = None


def _with_ended_rejected(sections: list[SubscriberSection], mids: Collection[str]) -> list[SubscriberSection]:
    """Return the sections; those whose medium is not among ``mids`` any more are rejected.

    The first section stays, inactive: browsers end the transport with the section that it was negotiated for.
    """
    return [
        section
        if section.mid in mids or section.kind is MediaKind.DATA
        else replace(section, sends=False, rejected=index > 0)
        for index, section in enumerate(sections)
    ]
