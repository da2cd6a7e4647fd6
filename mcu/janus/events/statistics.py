"""What Janus' event feed adds up to: totals since the start, and what each running connection does now.

Janus counts anew for each PeerConnection; here only what came since the last event is added. Each handle is remembered
by session and handle id, which several Janus do not draw alike, until it is detached, or nothing was heard of it for
``GONE`` (Janus died, its session ended): so nothing grows for ever. Handles of other applications do not count.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from operator import attrgetter

from mcu.base import HistogramSample, Metric
from mcu.janus.events import frames as events
from mcu.janus.events.frames import JanusEvent, MediaStatsEvent

FRESH = 12.0  # seconds that a rate holds; Janus tells each second (``stats_period``)
GONE = 120.0  # seconds without a word of a handle
SWEEP = 30.0  # seconds between two looks for such handles
HANDLES = 50_000  # remembered at most; then the oldest is forgotten
MEDIA = 64  # of one handle
ROWS = 64  # of one counter; labels beyond these are counted as "other"
LEAP = 1 << 31  # no medium does as much in a second: a counter of Janus that ran below zero
BOUNDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)  # milliseconds

_counters = attrgetter(
    "bytes_received", "bytes_sent", "nacks_received", "nacks_sent", "retransmissions_received", "lost", "lost_by_remote"
)
_KNOWN_MEDIA = ("audio", "video", "data")
_GROUPS = {events.HANDLE: "handle", events.WEBRTC: "webrtc", events.MEDIA: "media"}
_FAMILIES = {4: "ipv4", 6: "ipv6"}
_DIRECTIONS = {"uplink": "outgoing", "downlink": "incoming"}  # Janus speaks of its own uplink


@dataclass(frozen=True, slots=True)
class MediaStatistics:
    """What a connection does in one kind of media, all layers and m-lines together."""

    incoming: int = 0  # bytes per second from the client to Janus
    outgoing: int = 0
    lost: int = 0  # packets on the way to Janus, since the connection began
    lost_by_remote: int = 0  # packets on the way to the client
    rtt: int = 0  # milliseconds, 0 = not known


class LabelledCounter:
    """A counter by labels with a bounded number of rows."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, ...], float] = {}

    def add(self, *labels: str, count: int = 1) -> None:
        """Count."""
        if labels not in self.rows:
            labels = tuple(label[:32] for label in labels) if len(self.rows) < ROWS else ("other",) * len(labels)
        self.rows[labels] = self.rows.get(labels, 0) + count


class LabelledHistogram:
    """A histogram of milliseconds by labels."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, ...], list[int]] = {}
        self._sums: dict[tuple[str, ...], float] = {}

    def observe(self, *labels: str, value: int) -> None:
        """Count one observation."""
        counts = self._counts.setdefault(labels, [0] * (len(BOUNDS) + 1))
        counts[bisect_left(BOUNDS, value)] += 1
        self._sums[labels] = self._sums.get(labels, 0.0) + value

    @property
    def rows(self) -> dict[tuple[str, ...], HistogramSample]:
        """What was observed."""
        return {labels: self._distribution(labels) for labels in self._counts}

    def _distribution(self, labels: tuple[str, ...]) -> HistogramSample:
        buckets, total = [], 0
        for bound, count in zip([*map(str, BOUNDS), "+Inf"], self._counts[labels], strict=True):
            total += count
            buckets.append((bound, float(total)))
        return HistogramSample(tuple(buckets), self._sums[labels])


@dataclass(slots=True)
class _MediumState:
    """One medium, or one layer of one, of a PeerConnection."""

    last: MediaStatsEvent
    highest: tuple[int, ...]  # of each counter
    heard: float  # it may end before its handle does
    incoming: int = 0  # bytes per second
    outgoing: int = 0


@dataclass(slots=True)
class _HandleState:
    whole: bool  # whether we have heard of it from its beginning
    heard: float
    media: dict[tuple[str, str], _MediumState] = field(default_factory=dict)


class EventStatistics:
    """Takes the event feed of any number of Janus; ``ours`` tells by the opaque id whether a handle is this gateway's.

    ``clock`` returns seconds and never goes back.
    """

    def __init__(self, ours: Callable[[str], bool], clock: Callable[[], float]) -> None:
        self._ours = ours
        self._clock = clock
        self._handles: dict[tuple[int, int], _HandleState] = {}
        self._sweep_at = 0.0
        self._events = LabelledCounter()
        self._candidates = LabelledCounter()
        self._connections = LabelledCounter()
        self._ice = LabelledCounter()
        self._dtls = LabelledCounter()
        self._slow = LabelledCounter()
        self._codecs = LabelledCounter()
        self._bytes = LabelledCounter()
        self._nacks = LabelledCounter()
        self._retransmissions = LabelledCounter()
        self._lost = LabelledCounter()
        self._rtt = LabelledHistogram()
        self._jitter = LabelledHistogram()

    def __len__(self) -> int:
        return len(self._handles)

    def receive(self, frame: bytes) -> None:
        """Take one frame; what is broken in it is counted and costs nothing else."""
        for event in events.read(frame):
            try:
                group = "broken" if event is None else self._take(event)
            except events.BROKEN:
                group = "broken"
            self._events.add(group)
        self._sweep()

    def _take(self, event: JanusEvent) -> str:
        """Count what an event says and return which kind of event it is."""
        if (event.type, event.subtype) not in events.KINDS:
            return "other"
        if not self._ours(event.opaque_id):
            return "foreign"
        match events.body(event):
            case MediaStatsEvent() as statistics:
                self._measure(event, statistics)
            case events.HandleStateEvent(name=name):
                self._handle(event, name)
            case events.ConnectionStateEvent(connection=state, reason=reason):
                self._connections.add(state, reason)
                if state == "hangup" and (handle := self._handles.get(_key(event))) is not None:
                    handle.media.clear()  # the next PeerConnection counts from zero
                    handle.whole = True
            case events.IceStateEvent(ice=state):
                self._ice.add(state)
            case events.DtlsStateEvent(dtls=state):
                self._dtls.add(state)
            case events.SelectedPairEvent(candidates=pair):
                for origin, side in (("local", pair.local), ("remote", pair.remote)):
                    self._candidates.add(origin, side.type, side.transport, _FAMILIES.get(side.family, "unknown"))
            case events.SlowLinkEvent(media=media, slow_link=link):
                self._slow.add(_medium(media), _DIRECTIONS.get(link, "unknown"))
        return _GROUPS[event.type]

    def _handle(self, event: JanusEvent, name: str) -> None:
        if name == "detached":
            self._handles.pop(_key(event), None)
        elif name == "attached":
            self._remember(event, whole=True)

    def _remember(self, event: JanusEvent, *, whole: bool) -> _HandleState:
        if len(self._handles) >= HANDLES:
            del self._handles[next(iter(self._handles))]
        handle = self._handles[_key(event)] = _HandleState(whole, self._clock())
        return handle

    def _measure(self, event: JanusEvent, now: MediaStatsEvent) -> None:
        handle = self._handles.get(_key(event)) or self._remember(event, whole=False)
        handle.heard = self._clock()
        name = (now.mid, now.media)
        medium = handle.media.get(name)
        if medium is None:
            if len(handle.media) >= MEDIA:
                return
            nothing = (0,) * len(_counters(now))
            medium = handle.media[name] = _MediumState(now, nothing if handle.whole else _counters(now), handle.heard)
            self._codec(now)
        elif now.codec != medium.last.codec:
            self._codec(now)
        self._add(medium, now)
        medium.last, medium.heard = now, handle.heard

    def _codec(self, now: MediaStatsEvent) -> None:
        if now.codec:
            self._codecs.add(_medium(now.media), now.codec)

    def _add(self, medium: _MediumState, now: MediaStatsEvent) -> None:
        """Add what a medium did since its last event; what it lost may shrink when late packets come."""
        last, counters = medium.last, _counters(now)
        again = now.bytes_received < last.bytes_received or now.bytes_sent < last.bytes_sent
        before = (0,) * len(counters) if again else medium.highest
        steps = [max(new - old, 0) for new, old in zip(counters, before, strict=True)]
        steps = [step if step < LEAP else 0 for step in steps]
        medium.highest = tuple(old + step for old, step in zip(before, steps, strict=True))
        media = _medium(now.media)
        received, sent, nacks_received, nacks_sent, retransmitted, lost, lost_by_remote = steps
        self._bytes.add(media, "incoming", count=received)
        self._bytes.add(media, "outgoing", count=sent)
        self._nacks.add(media, "incoming", count=nacks_received)
        self._nacks.add(media, "outgoing", count=nacks_sent)
        self._retransmissions.add(media, count=retransmitted)
        self._lost.add(media, "local", count=lost)
        self._lost.add(media, "remote", count=lost_by_remote)
        if now.rtt > 0:
            self._rtt.observe(media, value=now.rtt)
        if received and now.jitter_local >= 0 and media != "data":
            self._jitter.observe(media, "local", value=now.jitter_local)
        if sent and now.jitter_remote >= 0 and media != "data":
            self._jitter.observe(media, "remote", value=now.jitter_remote)
        medium.incoming = _rate(now.bytes_received_lastsec, received)
        medium.outgoing = _rate(now.bytes_sent_lastsec, sent)

    def _sweep(self) -> None:
        """Forget handles that nothing is heard of any more."""
        now = self._clock()
        if now < self._sweep_at:
            return
        self._sweep_at = now + SWEEP
        for key in [key for key, handle in self._handles.items() if handle.heard < now - GONE]:
            del self._handles[key]

    def of_handle(self, session: int, handle: int) -> dict[str, MediaStatistics]:
        """Return what a connection does, by "audio", "video" and "data"; empty where the feed does not tell."""
        known, since = self._handles.get((session, handle)), self._clock() - FRESH
        if known is None:
            return {}
        found: dict[str, MediaStatistics] = {}
        for (_, name), medium in known.media.items():
            if medium.heard < since:
                continue
            so_far = found.get(_medium(name), MediaStatistics())
            *_, lost, lost_by_remote = medium.highest
            found[_medium(name)] = MediaStatistics(
                so_far.incoming + medium.incoming,
                so_far.outgoing + medium.outgoing,
                so_far.lost + lost,
                so_far.lost_by_remote + lost_by_remote,
                max(so_far.rtt, medium.last.rtt),
            )
        return found

    def _bandwidth(self) -> dict[tuple[str, ...], float]:
        since = self._clock() - FRESH
        running = [it for handle in self._handles.values() for it in handle.media.values() if it.heard >= since]
        return {
            ("incoming",): float(sum(medium.incoming for medium in running)),
            ("outgoing",): float(sum(medium.outgoing for medium in running)),
        }

    def metrics(self) -> Iterator[Metric]:
        """Yield what the feed adds up to (reference 14.5, the group that needs it)."""
        yield Metric("bandwidth", "Bytes per second", "gauge", ("direction",), self._bandwidth())
        for name, text, labels, total in (
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
            ("slow_link_total", "Seconds with much loss", ("media", "direction"), self._slow),
            ("media_codecs_total", "Media by codec", ("media", "codec"), self._codecs),
            ("media_nacks_total", "Requests to send again", ("media", "direction"), self._nacks),
            ("media_bytes_total", "Bytes of media", ("media", "direction"), self._bytes),
            ("media_retransmissions_total", "Packets received again", ("media",), self._retransmissions),
            ("media_lost_total", "Packets lost", ("media", "origin"), self._lost),
        ):
            yield Metric(name, text, "counter", labels, dict(total.rows))
        yield Metric("media_rtt", "Round trip, milliseconds", "histogram", ("media",), self._rtt.rows)
        yield Metric("media_jitter", "Jitter, milliseconds", "histogram", ("media", "origin"), self._jitter.rows)


def _key(event: JanusEvent) -> tuple[int, int]:
    return event.session_id, event.handle_id


def _medium(name: str) -> str:
    """Return the kind of media; layers of simulcast are told as "video-sim1" and "video-sim2"."""
    kind = name.partition("-")[0]
    return kind if kind in _KNOWN_MEDIA else "other"


def _rate(last_second: int | None, since: int) -> int:
    """Return bytes per second; for data channels Janus tells none, and ``since`` is what came in one period."""
    return max(since if last_second is None else last_second, 0)
