"""Published and received media are counted by type."""

from __future__ import annotations

from mcu.base import MediaKind, StreamType
from mcu.stream_gauges import stream_gauges

CAMERA, SCREEN = StreamType.VIDEO, StreamType.SCREEN


def test_media_are_counted_by_type_and_a_screens_video_is_a_screen() -> None:
    published, received = stream_gauges(
        [(CAMERA, MediaKind.AUDIO), (CAMERA, MediaKind.VIDEO), (SCREEN, MediaKind.AUDIO), (SCREEN, MediaKind.VIDEO)],
        [(CAMERA, MediaKind.VIDEO), (CAMERA, MediaKind.VIDEO)],
    )
    assert (published.name, published.type, published.labels) == ("publisher_streams", "gauge", ("type",))
    assert published.samples == {("audio",): 2, ("video",): 1, ("screen",): 1}
    assert (received.name, received.samples) == ("subscriber_streams", {("video",): 2})


def test_data_channels_are_not_counted() -> None:
    published, received = stream_gauges([(CAMERA, MediaKind.DATA)], [(SCREEN, MediaKind.DATA)])
    assert published.samples == received.samples == {}
