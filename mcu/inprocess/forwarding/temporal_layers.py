"""Selection of VP8's temporal layers: which packets are forwarded to one subscriber.

Source: RFC 7741 4.2 (TID, Y bit).
"""

from __future__ import annotations

from mcu.inprocess.forwarding.payload_descriptor import MAX_TEMPORAL_LAYER, Vp8Descriptor


class TemporalLayerFilter:
    """The selected temporal layer, and the one forwarded until a suitable picture arrives."""

    def __init__(self) -> None:
        self.selected = MAX_TEMPORAL_LAYER
        self.forwarded = MAX_TEMPORAL_LAYER
        self.ever_dropping = False  # whether a layer below the highest was ever selected
        self._picture_timestamp = -1  # of the newest picture
        self._dropped_picture_id: int | None = None  # of the last picture that was dropped

    @property
    def dropping(self) -> bool:
        """Whether layers are to be dropped."""
        return self.selected < MAX_TEMPORAL_LAYER

    def select(self, layer: int) -> None:
        """Select the highest layer to forward."""
        self.selected = min(max(0, layer), MAX_TEMPORAL_LAYER)
        self.ever_dropping = self.ever_dropping or self.dropping

    def drop(self, vp8: Vp8Descriptor, timestamp: int) -> int | None:
        """Return ``None`` to forward the newest packet, else the number of picture ids to skip with it, 0 or 1.

        The forwarded layer changes at a picture's first packet: down at any picture, up at a layer sync picture.
        """
        if timestamp != self._picture_timestamp:
            self._picture_timestamp = timestamp
            if self.forwarded > self.selected or vp8.keyframe:
                self.forwarded = self.selected
            elif self.forwarded < vp8.temporal_layer <= self.selected and vp8.layer_sync:
                self.forwarded = vp8.temporal_layer
        if vp8.temporal_layer <= self.forwarded:
            return None
        new_picture = vp8.picture_id is not None and vp8.picture_id != self._dropped_picture_id
        self._dropped_picture_id = vp8.picture_id
        return int(new_picture)
