"""Simulcast by rid: the layers that an offer announces, and their order by resolution.

Source: RFC 8853 5.1 (``a=simulcast``), RFC 8851 (rid). They define which layer is preferred, not which has the
higher resolution; the order by resolution is derived from the clients' layer names.
"""

from __future__ import annotations

from collections.abc import Sequence

from sdp.document import MediaSection

MAX_LINES = 4  # "a=simulcast" lines that are read; a section has at most one (RFC 8853 5.1)
MAX_STREAMS = 64  # of one direction that are read; clients have up to 4

_SPATIAL_RIDS = {"q": 0, "h": 1, "f": 2}  # quarter, half, full: the names in WebRTC's own examples
_RELATIVE_RIDS = {"l": 0, "low": 0, "lo": 0, "m": 1, "mid": 1, "medium": 1, "h": 2, "high": 2, "hi": 2}


def sent_layers(section: MediaSection) -> tuple[str, ...]:
    """Return the names (rids) of the layers that an offer sends, in its order; none if there are fewer than two.

    The first of several alternatives counts; a name needs an ``a=rid`` line and consists of letters and digits.
    """
    named = (value.split(" ", 2) for value in section.attributes("rid"))
    described = {words[0] for words in named if words[1:2] == ["send"]}
    for value in section.attributes("simulcast")[:MAX_LINES]:
        words = value.split(None, 4)[:4]
        for direction, streams in zip(words[::2], words[1::2], strict=False):
            if direction == "send":
                listed = streams.split(";", MAX_STREAMS)[:MAX_STREAMS]
                first = (stream.partition(",")[0].removeprefix("~") for stream in listed)
                known = (rid for rid in first if rid in described and rid.isalnum() and rid.isascii())
                rids = tuple(dict.fromkeys(known))
                return rids if len(rids) > 1 else ()
    return ()


def layers(section: MediaSection, direction: str) -> dict[str, bool]:
    """Return the rids of ``a=simulcast`` in a direction ("send", "recv"), mapped to whether they are paused (``~``)."""
    found = {}
    for value in section.attributes("simulcast")[:MAX_LINES]:
        words = value.split(None, 4)[:4]
        for named, streams in zip(words[::2], words[1::2], strict=False):
            if named == direction:
                for rid in streams.replace(",", ";").split(";", MAX_STREAMS)[:MAX_STREAMS]:
                    found[rid.removeprefix("~")] = rid.startswith("~")
    return found


def streams(section: MediaSection, direction: str) -> list[tuple[str, ...]]:
    """Return the simulcast streams of ``a=simulcast`` in a direction, each as its alternative rids, preferred first."""
    found: list[tuple[str, ...]] = []
    for value in section.attributes("simulcast")[:MAX_LINES]:
        words = value.split(None, 4)[:4]
        for named, listed in zip(words[::2], words[1::2], strict=False):
            if named == direction:
                each = listed.split(";", MAX_STREAMS)[:MAX_STREAMS]
                found += [tuple(rid.removeprefix("~") for rid in one.split(",", MAX_STREAMS)) for one in each]
    return found


def lowest_first(rids: Sequence[str]) -> list[str]:
    """Return the layers' names in order, the lowest resolution first.

    Layers with unknown names keep their order: by webrtc-pc's default for ``scaleResolutionDownBy`` the first layer is
    the smallest.
    """
    if set(rids) <= _SPATIAL_RIDS.keys() and not {"q", "f"}.isdisjoint(rids):
        return sorted(rids, key=_SPATIAL_RIDS.__getitem__)
    if set(rids) <= _RELATIVE_RIDS.keys():
        return sorted(rids, key=_RELATIVE_RIDS.__getitem__)
    return list(rids)
