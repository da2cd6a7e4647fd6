"""Keyframe requests that make Janus switch a subscription to the selected simulcast layer.

Janus switches at the next keyframe of the layer. It requests one keyframe, and then waits for ever; but browsers
ignore requests within 0.3 s of the last keyframe: a selection soon after another one, or after a subscriber joined,
would never take effect. So until Janus reports the layer, further keyframes are requested.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

RETRIES = (0.4, 0.8, 1.6, 3.2)  # seconds between requests; after the last, the publisher is taken not to send the layer


class LayerSwitch:
    """The simulcast layer of one subscription; ``request_keyframe`` sends a request to its publisher."""

    def __init__(self, request_keyframe: Callable[[], None]) -> None:
        self._request_keyframe = request_keyframe
        self._selected: int | None = None
        self._received: int | None = None  # as reported by Janus; never for streams without layers
        self._timer: asyncio.TimerHandle | None = None
        self._retries: list[float] = []

    def select(self, substream: int) -> None:
        """Apply the client's selection: request keyframes until Janus reports the layer."""
        self._selected = substream
        self._retries = list(RETRIES)
        self._schedule()

    def on_received(self, substream: int) -> None:
        """Record the layer that Janus sends from now on."""
        self._received = substream
        self._schedule()

    def stop(self) -> None:
        """Request no further keyframe."""
        self._retries = []
        self._schedule()

    def _schedule(self) -> None:
        switching = self._selected is not None and self._received is not None and self._selected != self._received
        if self._timer is not None and not (switching and self._retries):
            self._timer.cancel()
            self._timer = None
        elif self._timer is None and switching and self._retries:
            self._timer = asyncio.get_running_loop().call_later(self._retries.pop(0), self._retry)

    def _retry(self) -> None:
        self._timer = None
        self._request_keyframe()
        self._schedule()
