"""The metrics that every SFU has: the numbers of media that are published, and sent to subscribers, now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from mcu.base import MediaKind, Metric, StreamType


def stream_gauges(
    published: Iterable[tuple[StreamType, MediaKind]], subscribed: Iterable[tuple[StreamType, MediaKind]]
) -> tuple[Metric, Metric]:
    """Return the numbers of published and subscribed media by type: "audio", "video", or "screen" for a screen's video.

    Data channels are not counted.
    """
    return _gauge("publisher_streams", "Media published", published), _gauge(
        "subscriber_streams", "Media sent to subscribers", subscribed
    )


def _gauge(name: str, help: str, media: Iterable[tuple[StreamType, MediaKind]]) -> Metric:
    counts = Counter(
        StreamType.SCREEN.value if kind is MediaKind.VIDEO and stream_type is StreamType.SCREEN else kind.value
        for stream_type, kind in media
        if kind is not MediaKind.DATA
    )
    return Metric(name, help, "gauge", ("type",), {(medium,): count for medium, count in counts.items()})
