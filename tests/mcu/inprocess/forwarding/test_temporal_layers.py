"""Selection of VP8's temporal layers, packet by packet."""

from __future__ import annotations

from mcu.inprocess.forwarding.payload_descriptor import Vp8Descriptor, parse_vp8
from mcu.inprocess.forwarding.temporal_layers import TemporalLayerFilter
from tests.mcu.inprocess.forwarding.vp8 import DELTA_FRAME, KEYFRAME, vp8_descriptor


def picture(picture_id: int, temporal_layer: int, *, layer_sync: bool = True, keyframe: bool = False) -> Vp8Descriptor:
    """Return the parsed descriptor of a picture's first packet."""
    payload = vp8_descriptor(picture_id=picture_id, temporal_layer=temporal_layer)
    parsed = parse_vp8(payload + (KEYFRAME if keyframe else DELTA_FRAME))
    assert parsed is not None
    return parsed._replace(layer_sync=layer_sync)


def test_without_a_selection_no_layer_is_dropped() -> None:
    layers = TemporalLayerFilter()
    assert [layers.drop(picture(number, number % 4), number) for number in range(8)] == [None] * 8
    assert not layers.ever_dropping


def test_each_picture_of_a_dropped_layer_is_counted_once() -> None:
    layers = TemporalLayerFilter()
    layers.select(0)
    assert layers.drop(picture(1, 0), 10) is None
    assert [layers.drop(picture(2, 2), 20) for _ in range(3)] == [1, 0, 0]
    assert layers.drop(picture(3, 1), 30) == 1
    assert layers.ever_dropping


def test_lower_selection_applies_from_the_next_picture_on() -> None:
    layers = TemporalLayerFilter()
    assert layers.drop(picture(1, 2), 10) is None
    layers.select(0)
    assert layers.drop(picture(1, 2), 10) is None
    assert layers.drop(picture(2, 2), 20) == 1


def test_higher_selection_applies_at_a_picture_with_layer_sync_or_a_keyframe() -> None:
    layers = TemporalLayerFilter()
    layers.select(0)
    layers.drop(picture(1, 0), 10)
    layers.select(2)
    assert layers.drop(picture(2, 1, layer_sync=False), 20) == 1
    assert layers.drop(picture(3, 1, layer_sync=True), 30) is None
    assert layers.forwarded == 1
    assert layers.drop(picture(4, 2, layer_sync=False), 40) == 1
    assert layers.drop(picture(5, 0, keyframe=True), 50) is None
    assert layers.forwarded == 2


def test_selection_out_of_range_is_the_nearest_layer() -> None:
    layers = TemporalLayerFilter()
    layers.select(-1)
    assert layers.selected == 0
    layers.select(9)
    assert not layers.dropping
