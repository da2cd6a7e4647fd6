"""What each stream of a call may use, and why: a share of the room's bitrate, and an order of codecs.

Facts in, decision out, with the reason as one sentence for the operator (``portunus explain``). docs/mcu.md, "Quality",
has the rules in prose. What holds for the shares whatever the facts:

- their sum is never above the room's budget;
- none is above the ceiling or the stream's own limits, and none of a stream that could use more is below the floor,
  unless the floors together are more than the budget: then the budget wins, and all get the same, less than the floor;
- one more publisher never makes the share of another one greater.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gateway.core.limits import ANY_CODEC, Quality

ONE_TO_ONE = 2  # sessions in such a call


@dataclass(frozen=True, slots=True)
class Stream:
    """One publisher of a room."""

    screen: bool  # a screen, not a camera
    video: bool = True  # whether a picture is sent; sound alone takes no share
    asked: int = 0  # bit/s that its client asked for; 0 = it did not
    limit: int = 0  # bit/s of backend and SFU for such a stream; 0 = none


@dataclass(frozen=True, slots=True)
class Share:
    """The decision about the bitrate of one stream."""

    bitrate: int  # bit/s; 0 = no limit
    reason: str


def shares(quality: Quality, streams: Sequence[Stream], sessions: int) -> tuple[Share, ...]:
    """Decide what each publisher of a room may send; ``sessions`` is how many publish or subscribe there."""
    caps = [_cap(quality, stream, sessions) for stream in streams]
    if not quality.room_budget:
        return tuple(Share(bits, why) for bits, why in caps)
    pictures = [index for index, stream in enumerate(streams) if stream.video]
    bits = {index: _least(caps[index][0], quality.room_budget) for index in pictures}
    levels = _levels(quality, {index: streams[index].screen for index in pictures}, bits)
    found = []
    for stream, (cap, why) in zip(streams, caps, strict=True):
        if not stream.video:
            found.append(Share(cap, "no picture is sent, so nothing of the room's budget is taken"))
        elif cap and cap <= levels[stream.screen].bits:
            found.append(Share(cap, why))
        else:
            found.append(Share(levels[stream.screen].bits, levels[stream.screen].why))
    return tuple(found)


def greatest(quality: Quality, limit: int, *, screen: bool) -> int:
    """Return the greatest bitrate that such a stream may ever have; 0 = no limit."""
    ceiling = quality.screen if screen else max(quality.ceiling, quality.one_to_one) if quality.ceiling else 0
    return _least(limit, ceiling, quality.room_budget)


@dataclass(frozen=True, slots=True)
class _Level:
    """What a camera, or a screen, gets that could use more."""

    bits: int
    why: str


def _levels(quality: Quality, screens: dict[int, bool], caps: dict[int, int]) -> dict[bool, _Level]:
    """Share the budget among pictures, screens first (``True``), each camera's floor being kept for it."""
    budget, floor = quality.room_budget, quality.floor
    of_screens = [cap for index, cap in caps.items() if screens[index]]
    of_cameras = [cap for index, cap in caps.items() if not screens[index]]
    floors = [min(cap, floor) for cap in caps.values()]
    everybody = f"{_count(len(caps), 'picture')} {_share_verb(len(caps))} the room's {kilobits(budget)}"
    if sum(floors) > budget:
        why = f"{everybody}, which is less than the floor of {kilobits(floor)} for each"
        level = _Level(_level(budget, list(caps.values())), why)
        return {True: level, False: level}
    kept = sum(min(cap, floor) for cap in of_cameras)
    first = min(sum(of_screens), budget - kept)
    why = f"{_count(len(of_screens), 'screen')} {_come(len(of_screens))} first"
    if kept:
        why += f", but for the floor of {_count(len(of_cameras), 'camera')},"
    screen = _Level(_level(budget - kept, of_screens), f"{why} within the room's {kilobits(budget)}")
    if of_screens:
        left = f"{kilobits(budget - first)} that {_count(len(of_screens), 'screen')} left of the room's budget"
        everybody = f"{_count(len(of_cameras), 'camera')} {_share_verb(len(of_cameras))} the {left}"
    return {True: screen, False: _Level(_level(budget - first, of_cameras), everybody)}


def _level(pool: int, caps: list[int]) -> int:
    """Return the greatest level such that the caps, each cut at it, fit into the pool."""
    left = pool
    for place, cap in enumerate(sorted(caps)):
        even = left // (len(caps) - place)
        if cap > even:
            return even
        left -= cap
    return pool


def _cap(quality: Quality, stream: Stream, sessions: int) -> tuple[int, str]:
    """Return what a stream may have at most, whatever the others do (0 = no limit), and why."""
    what = "screens" if stream.screen else "cameras"
    found = [
        (stream.asked, "its client asked for no more"),
        (stream.limit, f"{what} are limited to {kilobits(stream.limit)}"),
    ]
    if stream.screen:
        found.append((quality.screen, f"no screen may have more than {kilobits(quality.screen)}"))
    elif quality.ceiling and sessions <= ONE_TO_ONE:
        most = max(quality.ceiling, quality.one_to_one)
        found.append((most, f"a camera in a call of {ONE_TO_ONE} may have up to {kilobits(most)}"))
    elif quality.ceiling:
        why = f"a camera may have up to {kilobits(quality.ceiling)} in a call of more than {ONE_TO_ONE}"
        found.append((quality.ceiling, why))
    return min(((bits, why) for bits, why in found if bits), default=(0, "nothing limits it"), key=lambda one: one[0])


def _least(*limits: int) -> int:
    return min((limit for limit in limits if limit), default=0)


def kilobits(bits_per_second: int) -> str:
    """Write a bitrate for people."""
    return f"{bits_per_second / 1000:.0f} kbit/s"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _share_verb(number: int) -> str:
    return "has" if number == 1 else "share"


def _come(number: int) -> str:
    return "comes" if number == 1 else "come"


# -- codecs


@dataclass(frozen=True, slots=True)
class Decoder:
    """What is known of what a session can decode of one kind of media, from the descriptions that it sent."""

    listed: frozenset[str] | None = None  # by its offers, which list all; ``None``: it sent none
    accepted: frozenset[str] = frozenset()  # by its answers
    refused: frozenset[str] = frozenset()

    def can(self, codec: str) -> bool:
        """Whether it decodes a codec; what is not known counts as yes."""
        if codec in self.accepted or (self.listed is not None and codec in self.listed):
            return True
        return self.listed is None and codec not in self.refused

    def offered(self, codecs: Iterable[str]) -> Decoder:
        """Learn from an offer; one without this kind of media says nothing."""
        listed = frozenset(codecs) | (self.listed or frozenset())
        return Decoder(listed or None, self.accepted, self.refused)

    def answered(self, codecs: Iterable[str], *, accepted: bool) -> Decoder:
        """Learn from an answer to an offer of these codecs; the last word counts."""
        named = frozenset(codecs)
        if accepted:
            return Decoder(self.listed, self.accepted | named, self.refused - named)
        return Decoder(self.listed, self.accepted - named, self.refused | named)


@dataclass(frozen=True, slots=True)
class Codecs:
    """The decision about the codecs of one kind of media in an offer."""

    order: tuple[str, ...]  # preferred first; what is offered besides comes behind; empty: the SFU chooses
    removed: frozenset[str]  # of what is offered: not to be used
    reason: str


def codecs(
    allowed: Sequence[str], wished: Sequence[str], offered: Sequence[str], receivers: Sequence[Decoder]
) -> Codecs:
    """Choose among the offered codecs: by the server's list, then the publisher's wish, then what receivers decode.

    ``allowed`` is the server's list, preferred first; ``ANY_CODEC`` in it stands for all others, in the publisher's
    order. A rule that would leave nothing is not applied, and the reason says so. Names are lower case.
    """
    mine = [codec for codec in dict.fromkeys(wished) if codec in offered]
    order, reasons = mine, ["the publisher wishes it so" if mine else "nobody has a wish, so the order is the SFU's"]
    removed: frozenset[str] = frozenset()
    if allowed:
        behind = [codec for codec in dict.fromkeys([*mine, *offered]) if codec not in allowed]
        listed = [it for one in dict.fromkeys(allowed) for it in (behind if one == ANY_CODEC else [one])]
        order, reasons, removed = _within(listed, offered, order, reasons)
    order, more = _decodable(order, [codec for codec in dict.fromkeys(offered) if codec not in removed], receivers)
    return Codecs(tuple(order), removed, "; ".join([*reasons, *more]))


def _within(
    listed: list[str], offered: Sequence[str], order: list[str], reasons: list[str]
) -> tuple[list[str], list[str], frozenset[str]]:
    """Apply the server's list."""
    kept = [codec for codec in listed if codec in offered]
    if not kept:
        return (
            order,
            [*reasons, "the server's list names nothing of what is offered, so it is not applied"],
            frozenset(),
        )
    removed = frozenset(offered) - frozenset(kept)
    reason = "the server's list says so"
    return kept, [f"{reason}, which is without {_names(removed)}" if removed else reason], removed


def _decodable(order: list[str], usable: list[str], receivers: Sequence[Decoder]) -> tuple[list[str], list[str]]:
    """Put behind what some receiver cannot decode, if something is left."""
    bad = {codec for codec in usable if not all(receiver.can(codec) for receiver in receivers)}
    if not bad:
        return order, []
    if len(bad) == len(usable):
        return order, [f"no codec left suits all of {_count(len(receivers), 'receiver')}, so they change nothing"]
    whole = list(dict.fromkeys([*order, *usable]))
    first = [codec for codec in whole if codec not in bad]
    last = [codec for codec in whole if codec in bad]
    return first + last, [
        f"last come those that not all of {_count(len(receivers), 'receiver')} decode: {_names(last)}"
    ]


def _names(codecs: Iterable[str]) -> str:
    return ", ".join(sorted(codecs))
