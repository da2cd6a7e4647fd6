"""Statistics computed from Janus' events: totals since the start, and the rates of each running PeerConnection.

Janus counts from zero for each PeerConnection; here only the increase since the last event is added. Each handle is
kept by its session and handle id, which two Janus do not share, until it is detached or silent for
``HANDLE_AGE`` (Janus died, or its session ended), so that the memory is bounded. Handles of other applications are not
counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from mcu.base import Metric
from mcu.janus.events import frames
from mcu.janus.events.counters import LabelledCounter, LabelledHistogram
from mcu.janus.events.frames import JanusEvent, MediaStatsEvent

RATE_AGE = 12.0  # seconds for which a rate is used; Janus sends one each second (``stats_period``)
HANDLE_AGE = 120.0  # seconds without an event after which a handle is forgotten
FORGET_EVERY = 30.0  # seconds between two searches for such handles
MAX_HANDLES = 50_000  # beyond it the oldest is forgotten
MAX_MEDIA = 64  # of one handle
LAYERS = ("video", "video-sim1", "video-sim2")  # Janus' names for the simulcast layers of an m-line
MAX_STEP = 1 << 31  # no counter rises by as much in a second: a larger step is a counter of Janus that fell below zero

_counters = attrgetter(
    "bytes_received", "bytes_sent", "nacks_received", "nacks_sent", "retransmissions_received", "lost", "lost_by_remote"
)
_MEDIA_KINDS = ("audio", "video", "data")
_EVENT_GROUPS = {frames.HANDLE: "handle", frames.WEBRTC: "webrtc", frames.MEDIA: "media"}
_FAMILIES = {4: "ipv4", 6: "ipv6"}
_DIRECTIONS = {"uplink": "outgoing", "downlink": "incoming"}  # Janus means its own uplink


@dataclass(frozen=True, slots=True)
class MediaStatistics:
    """The traffic of a PeerConnection in one media kind, all simulcast layers and m-lines together."""

    incoming: int = 0  # bytes per second from the client to Janus
    outgoing: int = 0
    lost: int = 0  # packets on the way to Janus, since the PeerConnection began
    lost_by_remote: int = 0  # packets on the way to the client
    rtt: int = 0  # milliseconds, 0 = not known


@dataclass(slots=True)
class _MediumState:
    """The last counters of one m-line, or of one simulcast layer of it."""

    last: MediaStatsEvent
    highest: tuple[int, ...]  # the counters' highest values so far, in the order of ``_counters``
    received_at: float  # the m-line may end before its handle
    incoming: int = 0  # bytes per second
    outgoing: int = 0


@dataclass(slots=True)
class _HandleState:
    seen_from_start: bool  # whether its counters are known from zero on
    received_at: float
    media: dict[tuple[str, str], _MediumState] = field(default_factory=dict)  # by mid and name


class EventStatistics:
    """Statistics of the events of any number of Janus.

    ``is_own`` returns for an opaque id whether its handle is this gateway's; ``clock`` returns seconds and never goes
    back.
    """

    def __init__(self, is_own: Callable[[str], bool], clock: Callable[[], float]) -> None:
        self._is_own = is_own
        self._clock = clock
        self._handles: dict[tuple[int, int], _HandleState] = {}
        self._forget_at = 0.0
        self._events = LabelledCounter()
        self._candidates = LabelledCounter()
        self._connections = LabelledCounter()
        self._ice = LabelledCounter()
        self._dtls = LabelledCounter()
        self._slow_links = LabelledCounter()
        self._codecs = LabelledCounter()
        self._bytes = LabelledCounter()
        self._nacks = LabelledCounter()
        self._retransmissions = LabelledCounter()
        self._lost = LabelledCounter()
        self._rtt = LabelledHistogram()
        self._jitter = LabelledHistogram()
        self._adders: dict[type, Callable[[JanusEvent, Any], None]] = {
            frames.HandleStateEvent: self._add_handle_state,
            frames.IceStateEvent: self._add_ice_state,
            frames.SelectedPairEvent: self._add_selected_pair,
            frames.DtlsStateEvent: self._add_dtls_state,
            frames.ConnectionStateEvent: self._add_connection_state,
            frames.SlowLinkEvent: self._add_slow_link,
            MediaStatsEvent: self._add_media,
        }

    def __len__(self) -> int:
        return len(self._handles)

    def receive(self, frame: bytes) -> None:
        """Add the events of one frame; a broken event is counted as such and does not affect the others."""
        for event in frames.read(frame):
            try:
                group = "broken" if event is None else self._add_event(event)
            except frames.DECODE_ERRORS:
                group = "broken"
            self._events.add(group)
        self._forget_silent_handles()

    def _add_event(self, event: JanusEvent) -> str:
        """Add one event and return the group under which it is counted."""
        if (event.type, event.subtype) not in frames.BODIES:
            return "other"
        if not self._is_own(event.opaque_id):
            return "foreign"
        body = frames.body(event)
        self._adders[type(body)](event, body)
        return _EVENT_GROUPS[event.type]

    def _add_handle_state(self, event: JanusEvent, state: frames.HandleStateEvent) -> None:
        if state.name == "detached":
            self._handles.pop(_key(event), None)
        elif state.name == "attached":
            self._remember(event, seen_from_start=True)

    def _add_connection_state(self, event: JanusEvent, state: frames.ConnectionStateEvent) -> None:
        self._connections.add(state.connection, state.reason)
        if state.connection == "hangup" and (handle := self._handles.get(_key(event))) is not None:
            handle.media.clear()  # the next PeerConnection counts from zero
            handle.seen_from_start = True

    def _add_ice_state(self, _: JanusEvent, state: frames.IceStateEvent) -> None:
        self._ice.add(state.ice)

    def _add_dtls_state(self, _: JanusEvent, state: frames.DtlsStateEvent) -> None:
        self._dtls.add(state.dtls)

    def _add_selected_pair(self, _: JanusEvent, selected: frames.SelectedPairEvent) -> None:
        pair = selected.candidates
        for origin, side in (("local", pair.local), ("remote", pair.remote)):
            self._candidates.add(origin, side.type, side.transport, _FAMILIES.get(side.family, "unknown"))

    def _add_slow_link(self, _: JanusEvent, link: frames.SlowLinkEvent) -> None:
        self._slow_links.add(_media_kind(link.media), _DIRECTIONS.get(link.slow_link, "unknown"))

    def _remember(self, event: JanusEvent, *, seen_from_start: bool) -> _HandleState:
        if len(self._handles) >= MAX_HANDLES:
            del self._handles[next(iter(self._handles))]
        handle = self._handles[_key(event)] = _HandleState(seen_from_start, self._clock())
        return handle

    def _add_media(self, event: JanusEvent, stats: MediaStatsEvent) -> None:
        handle = self._handles.get(_key(event)) or self._remember(event, seen_from_start=False)
        handle.received_at = self._clock()
        name = (stats.mid, stats.media)
        medium = handle.media.get(name)
        if medium is None:
            if len(handle.media) >= MAX_MEDIA:
                return
            counted = (0,) * len(_counters(stats)) if handle.seen_from_start else _counters(stats)
            medium = handle.media[name] = _MediumState(stats, counted, handle.received_at)
            self._add_codec(stats)
        elif stats.codec != medium.last.codec:
            self._add_codec(stats)
        self._add_increases(medium, stats)
        medium.last, medium.received_at = stats, handle.received_at

    def _add_codec(self, stats: MediaStatsEvent) -> None:
        if stats.codec:
            self._codecs.add(_media_kind(stats.media), stats.codec)

    def _add_increases(self, medium: _MediumState, stats: MediaStatsEvent) -> None:
        """Add the increases of a medium's counters; a decrease adds nothing, as when late packets reduce ``lost``."""
        last, counters = medium.last, _counters(stats)
        restarted = stats.bytes_received < last.bytes_received or stats.bytes_sent < last.bytes_sent
        before = (0,) * len(counters) if restarted else medium.highest
        steps = [max(new - old, 0) for new, old in zip(counters, before, strict=True)]
        steps = [step if step < MAX_STEP else 0 for step in steps]
        medium.highest = tuple(old + step for old, step in zip(before, steps, strict=True))
        kind = _media_kind(stats.media)
        received, sent, nacks_received, nacks_sent, retransmitted, lost, lost_by_remote = steps
        self._bytes.add(kind, "incoming", count=received)
        self._bytes.add(kind, "outgoing", count=sent)
        self._nacks.add(kind, "incoming", count=nacks_received)
        self._nacks.add(kind, "outgoing", count=nacks_sent)
        self._retransmissions.add(kind, count=retransmitted)
        self._lost.add(kind, "local", count=lost)
        self._lost.add(kind, "remote", count=lost_by_remote)
        if stats.rtt > 0:
            self._rtt.observe(kind, value=stats.rtt)
        if received and stats.jitter_local >= 0 and kind != "data":
            self._jitter.observe(kind, "local", value=stats.jitter_local)
        if sent and stats.jitter_remote >= 0 and kind != "data":
            self._jitter.observe(kind, "remote", value=stats.jitter_remote)
        medium.incoming = _rate(stats.bytes_received_lastsec, received)
        medium.outgoing = _rate(stats.bytes_sent_lastsec, sent)

    def _forget_silent_handles(self) -> None:
        now = self._clock()
        if now < self._forget_at:
            return
        self._forget_at = now + FORGET_EVERY
        for key in [key for key, handle in self._handles.items() if handle.received_at < now - HANDLE_AGE]:
            del self._handles[key]

    def statistics_of_handle(self, session: int, handle: int) -> dict[str, MediaStatistics]:
        """Return the statistics of a handle by "audio", "video" and "data"; empty without recent events."""
        state, since = self._handles.get((session, handle)), self._clock() - RATE_AGE
        if state is None:
            return {}
        found: dict[str, MediaStatistics] = {}
        for (_, name), medium in state.media.items():
            if medium.received_at < since:
                continue
            total = found.get(_media_kind(name), MediaStatistics())
            *_, lost, lost_by_remote = medium.highest
            found[_media_kind(name)] = MediaStatistics(
                total.incoming + medium.incoming,
                total.outgoing + medium.outgoing,
                total.lost + lost,
                total.lost_by_remote + lost_by_remote,
                max(total.rtt, medium.last.rtt),
            )
        return found

    def layer_rates(self, session: int, handle: int, mid: str) -> tuple[float, tuple[int, ...]] | None:
        """Return the time of the last event about an m-line, and the received bytes per second of its simulcast layers.

        ``None`` without recent events.
        """
        state = self._handles.get((session, handle))
        layers = [None if state is None else state.media.get((mid, name)) for name in LAYERS]
        newest = max((layer.received_at for layer in layers if layer is not None), default=-RATE_AGE)
        if newest < self._clock() - RATE_AGE:
            return None
        return newest, tuple(0 if layer is None else layer.incoming for layer in layers)

    def _bandwidth(self) -> dict[tuple[str, ...], float]:
        since = self._clock() - RATE_AGE
        media = [medium for handle in self._handles.values() for medium in handle.media.values()]
        running = [medium for medium in media if medium.received_at >= since]
        return {
            ("incoming",): float(sum(medium.incoming for medium in running)),
            ("outgoing",): float(sum(medium.outgoing for medium in running)),
        }

    def metrics(self) -> Iterator[Metric]:
        """Yield the metrics (reference 14.5, the group that needs the SFU's events)."""
        yield Metric("bandwidth", "Bytes per second", "gauge", ("direction",), self._bandwidth())
        for name, text, labels, counter in (
            ("events_total", "Events of Janus", ("type",), self._events),
            (
                "selected_candidate_total",
                "Candidates selected by ICE",
                ("origin", "type", "transport", "family"),
                self._candidates,
            ),
            (
                "peerconnection_state_total",
                "States of PeerConnections entered",
                ("state", "reason"),
                self._connections,
            ),
            ("ice_state_total", "States of ICE entered", ("state",), self._ice),
            ("dtls_state_total", "States of DTLS entered", ("state",), self._dtls),
            ("slow_link_total", "Seconds with much loss", ("media", "direction"), self._slow_links),
            ("media_codecs_total", "Media by codec", ("media", "codec"), self._codecs),
            ("media_nacks_total", "Requests to send again", ("media", "direction"), self._nacks),
            ("media_bytes_total", "Bytes of media", ("media", "direction"), self._bytes),
            ("media_retransmissions_total", "Packets received again", ("media",), self._retransmissions),
            ("media_lost_total", "Packets lost", ("media", "origin"), self._lost),
        ):
            yield Metric(name, text, "counter", labels, dict(counter.rows))
        yield Metric("media_rtt", "Round trip, milliseconds", "histogram", ("media",), self._rtt.rows)
        yield Metric("media_jitter", "Jitter, milliseconds", "histogram", ("media", "origin"), self._jitter.rows)


def _key(event: JanusEvent) -> tuple[int, int]:
    return event.session_id, event.handle_id


def _media_kind(name: str) -> str:
    """Return the media kind of a name; Janus calls further simulcast layers "video-sim1" and "video-sim2"."""
    kind = name.partition("-")[0]
    return kind if kind in _MEDIA_KINDS else "other"


def _rate(last_second: int | None, since_last_event: int) -> int:
    """Return bytes per second: Janus' rate, or for data channels the bytes since the event a second before."""
    return max(since_last_event if last_second is None else last_second, 0)
