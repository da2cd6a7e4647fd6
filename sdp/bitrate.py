"""Bitrate limits in a session description.

Source: RFC 8866 5.8 (``b=AS``), RFC 3890 6.2 (``b=TIAS``). A limit in a description applies to
the media that its *receiver* sends.
"""

from __future__ import annotations

from collections.abc import Iterable

from sdp.document import Description, MediaSection, Section

MAX_BITRATE = 2**31 - 1  # bit/s; browsers read bandwidths as signed 32-bit numbers
MIN_AUDIO_BITRATE = 6000  # bit/s, the lowest of Opus (RFC 6716 2.1.1); Chromium rejects an answer with less
_LINE_TYPES_BEFORE_BANDWIDTH = frozenset("vosiuepcm")  # line types that stand before b= (RFC 8866 5)


def limit(section: Section, bits_per_second: int) -> None:
    """Limit the bitrate that the receiver of this description may send in this section.

    Replaces ``b=AS`` (kbit/s, rounded down, at least 1) and ``b=TIAS`` (bit/s); for audio the limit is at least
    ``MIN_AUDIO_BITRATE``, for any media kind at most ``MAX_BITRATE``.

    Raises:
        ValueError: ``bits_per_second`` is not positive.
    """
    if bits_per_second <= 0:
        raise ValueError("A bitrate limit is a positive number of bits per second.")
    least = MIN_AUDIO_BITRATE if isinstance(section, MediaSection) and section.kind == "audio" else 1
    rate = max(least, min(bits_per_second, MAX_BITRATE))
    section.remove(lambda line: line.startswith(("b=AS:", "b=TIAS:")))
    position = max(index for index, line in enumerate(section.lines) if line[:1] in _LINE_TYPES_BEFORE_BANDWIDTH) + 1
    section.insert(position, (f"b=AS:{max(rate // 1000, 1)}", f"b=TIAS:{rate}"))


def limit_media(description: Description, kinds: Iterable[str], bits_per_second: int) -> None:
    """Limit the bitrate of each media section of these kinds that is not rejected.

    Raises:
        ValueError: ``bits_per_second`` is not positive.
    """
    wanted = frozenset(kinds)
    for section in description.media:
        if section.kind in wanted and not section.rejected:
            limit(section, bits_per_second)
