"""The quality rules: the bitrate of each stream in a room, and the order of its codecs, each with the reason.

A reason is one sentence for the operator (``portunus explain``). docs/mcu.md, "Quality", has the rules in prose. These
properties hold for the bitrates of a room's video streams in all cases:

- their sum is not above the room's budget;
- none is above the ceiling or the stream's own limits;
- none is below the floor if the stream can use more, unless the budget does not suffice for all floors: then all
  streams get the same bitrate, below the floor;
- an additional publisher does not increase the bitrate of another publisher.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gateway.core.limits import ANY_CODEC, QualityRules

ONE_TO_ONE = 2  # sessions in a one-to-one call


@dataclass(frozen=True, slots=True)
class StreamDemand:
    """The properties of a published stream from which its bitrate follows."""

    screen: bool  # a screen, not a camera
    video: bool = True  # whether video is sent; audio alone takes no share of the budget
    requested: int = 0  # bit/s that its client asked for; 0 = none
    limit: int = 0  # bit/s of the backend and the SFU for such a stream; 0 = none


@dataclass(frozen=True, slots=True)
class BitrateShare:
    """The bitrate that one stream may use."""

    bitrate: int  # bit/s; 0 = no limit
    reason: str


def share_bitrate(rules: QualityRules, streams: Sequence[StreamDemand], sessions: int) -> tuple[BitrateShare, ...]:
    """Return the share of each stream of a room; ``sessions`` is how many sessions publish or subscribe there."""
    capped = [(stream, _cap(rules, stream, sessions)) for stream in streams]
    if not rules.room_budget:
        return tuple(cap for _, cap in capped)
    video = [(stream.screen, _lowest_limit(cap.bitrate, rules.room_budget)) for stream, cap in capped if stream.video]
    fair = _fair_shares(rules, [cap for screen, cap in video if screen], [cap for screen, cap in video if not screen])
    shares = []
    for stream, cap in capped:
        if not stream.video:
            reason = "it sends no video, so it takes nothing of the room's budget"
            shares.append(BitrateShare(cap.bitrate, reason))
        elif cap.bitrate and cap.bitrate <= fair[stream.screen].bitrate:
            shares.append(cap)
        else:
            shares.append(fair[stream.screen])
    return tuple(shares)


def max_bitrate(rules: QualityRules, limit: int, *, screen: bool) -> int:
    """Return the highest bitrate that a stream with this limit may ever have; 0 = no limit."""
    ceiling = rules.screen if screen else max(rules.ceiling, rules.one_to_one) if rules.ceiling else 0
    return _lowest_limit(limit, ceiling, rules.room_budget)


def _fair_shares(
    rules: QualityRules, screens: Sequence[int], cameras: Sequence[int]
) -> tuple[BitrateShare, BitrateShare]:
    """Share the budget among video streams; return the shares of a camera and a screen whose caps are higher.

    ``screens`` and ``cameras`` are the caps in bit/s. Screens come first, but each camera keeps its floor.
    """
    budget, floor, caps = rules.room_budget, rules.floor, [*screens, *cameras]
    all_share = f"{_quantity(len(caps), 'video stream')} {_share_verb(len(caps))} the room's {_bitrate_text(budget)}"
    if sum(min(cap, floor) for cap in caps) > budget:
        share = BitrateShare(
            _fair_share(budget, caps), f"{all_share}, which is less than the floor of {_bitrate_text(floor)} for each"
        )
        return share, share
    reserved = sum(min(cap, floor) for cap in cameras)
    reason = f"{_quantity(len(screens), 'screen')} {_come_verb(len(screens))} first"
    if reserved:
        reason += f", except for the floor of {_quantity(len(cameras), 'camera')},"
    screen_share = BitrateShare(
        _fair_share(budget - reserved, screens), f"{reason} within the room's {_bitrate_text(budget)}"
    )
    left = budget - min(sum(screens), budget - reserved)
    reason = all_share
    if screens:
        reason = f"{_quantity(len(cameras), 'camera')} {_share_verb(len(cameras))} the {_bitrate_text(left)}"
        reason += f" that {_quantity(len(screens), 'screen')} left of the room's budget"
    return BitrateShare(_fair_share(left, cameras), reason), screen_share


def _fair_share(budget: int, caps: Sequence[int]) -> int:
    """Return the max-min fair share: the highest limit per stream with which the sum of all streams fits the budget."""
    left = budget
    for position, cap in enumerate(sorted(caps)):
        even = left // (len(caps) - position)
        if cap > even:
            return even
        left -= cap
    return budget


def _cap(rules: QualityRules, stream: StreamDemand, sessions: int) -> BitrateShare:
    """Return the bitrate limit of a stream regardless of other streams; 0 = no limit."""
    name = "screens" if stream.screen else "cameras"
    caps = [
        BitrateShare(stream.requested, "its client asked for no more"),
        BitrateShare(stream.limit, f"{name} are limited to {_bitrate_text(stream.limit)}"),
    ]
    if stream.screen:
        caps.append(BitrateShare(rules.screen, f"a screen may have up to {_bitrate_text(rules.screen)}"))
    elif rules.ceiling and sessions <= ONE_TO_ONE:
        most = max(rules.ceiling, rules.one_to_one)
        caps.append(BitrateShare(most, f"a camera in a call of {ONE_TO_ONE} may have up to {_bitrate_text(most)}"))
    elif rules.ceiling:
        reason = f"a camera may have up to {_bitrate_text(rules.ceiling)} in a call of more than {ONE_TO_ONE}"
        caps.append(BitrateShare(rules.ceiling, reason))
    unlimited = BitrateShare(0, "nothing limits it")
    return min((cap for cap in caps if cap.bitrate), default=unlimited, key=lambda cap: cap.bitrate)


def _lowest_limit(*limits: int) -> int:
    """Return the lowest limit; 0 = no limit."""
    return min((limit for limit in limits if limit), default=0)


def _bitrate_text(bits_per_second: int) -> str:
    """Return a bitrate as text in kbit/s."""
    return f"{bits_per_second / 1000:.0f} kbit/s"


def _quantity(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _share_verb(number: int) -> str:
    return "has" if number == 1 else "share"


def _come_verb(number: int) -> str:
    return "comes" if number == 1 else "come"


# -- codecs


@dataclass(frozen=True, slots=True)
class DecodableCodecs:
    """The codecs of one media kind that a session decodes, as far as its descriptions show it."""

    offered: frozenset[str] | None = None  # all codecs in its offers; ``None``: it offered none of this media kind
    accepted: frozenset[str] = frozenset()  # codecs that its answers accepted
    rejected: frozenset[str] = frozenset()  # codecs that its answers rejected

    def can_decode(self, codec: str) -> bool:
        """Return whether the session decodes a codec; ``True`` if unknown."""
        if codec in self.accepted or (self.offered is not None and codec in self.offered):
            return True
        return self.offered is None and codec not in self.rejected

    def with_offer(self, codecs: Iterable[str]) -> DecodableCodecs:
        """Return a copy with the codecs of one more offer; an offer without the media kind adds nothing."""
        offered = frozenset(codecs) | (self.offered or frozenset())
        return DecodableCodecs(offered or None, self.accepted, self.rejected)

    def with_answer(self, codecs: Iterable[str], *, accepted: bool) -> DecodableCodecs:
        """Return a copy with one more answer to an offer of these codecs; the latest answer counts."""
        answered = frozenset(codecs)
        if accepted:
            return DecodableCodecs(self.offered, self.accepted | answered, self.rejected - answered)
        return DecodableCodecs(self.offered, self.accepted - answered, self.rejected | answered)


@dataclass(frozen=True, slots=True)
class CodecChoice:
    """The order of the codecs of one media kind in an offer."""

    order: tuple[str, ...]  # preferred first, before all other offered codecs; empty: the SFU chooses
    removed: frozenset[str]  # offered codecs that must not be used
    reason: str


def choose_codecs(
    allowed: Sequence[str], preferred: Sequence[str], offered: Sequence[str], receivers: Sequence[DecodableCodecs]
) -> CodecChoice:
    """Order the offered codecs: by the server's list, the publisher's preference, and the receivers' decoders.

    ``allowed`` is the server's list, preferred first; ``ANY_CODEC`` in it stands for all other codecs, in the
    publisher's order. A rule that would leave no codec is not applied, and the reason says so. Names are lower case.
    """
    order = [codec for codec in dict.fromkeys(preferred) if codec in offered]
    reasons = ["the publisher prefers it" if order else "without a preference the SFU's order applies"]
    removed: frozenset[str] = frozenset()
    if allowed:
        others = [codec for codec in dict.fromkeys([*order, *offered]) if codec not in allowed]
        listed = [codec for entry in dict.fromkeys(allowed) for codec in (others if entry == ANY_CODEC else [entry])]
        kept = [codec for codec in listed if codec in offered]
        if kept:
            order, removed = kept, frozenset(offered) - frozenset(kept)
            reasons = ["the server's list says so" + (f", which is without {_names(removed)}" if removed else "")]
        else:
            reasons.append("the server's list has none of the offered codecs, so it is not applied")
    usable = [codec for codec in dict.fromkeys(offered) if codec not in removed]
    order, decoder_reasons = _undecodable_last(order, usable, receivers)
    return CodecChoice(tuple(order), removed, "; ".join([*reasons, *decoder_reasons]))


def _undecodable_last(
    order: list[str], usable: list[str], receivers: Sequence[DecodableCodecs]
) -> tuple[list[str], list[str]]:
    """Move the codecs that some receiver cannot decode behind the others, if there are others; return reasons, too."""
    undecodable = {codec for codec in usable if not all(receiver.can_decode(codec) for receiver in receivers)}
    if not undecodable:
        return order, []
    count = _quantity(len(receivers), "receiver")
    if len(undecodable) == len(usable):
        return order, [f"no codec is decoded by all of {count}, so they change nothing"]
    complete = list(dict.fromkeys([*order, *usable]))
    first = [codec for codec in complete if codec not in undecodable]
    last = [codec for codec in complete if codec in undecodable]
    return first + last, [f"last come the codecs that not all of {count} decode: {_names(last)}"]


def _names(codecs: Iterable[str]) -> str:
    return ", ".join(sorted(codecs))
