"""Access to the SFU: whether it accepts streams, and requests that are repeated if the SFU is lost meanwhile.

Source: docs/mcu.md, "When streams are lost".
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from mcu.base import Mcu, McuLost

_T = TypeVar("_T")

_CLOCK_TOLERANCE = 0.1  # seconds by which the SFU may give up before the deadline


class LostTwice(McuLost):
    """The SFU was lost during a request and again during its repetition, perhaps because of this request."""


class SfuAccess:
    """The configured SFU, or none."""

    def __init__(self, mcu: Mcu | None, clock: Callable[[], float]) -> None:
        self._mcu = mcu
        self._clock = clock

    @property
    def mcu(self) -> Mcu:
        """Return the SFU.

        Raises:
            McuLost: none is configured; media messages are relayed between clients then, and no stream is opened.
        """
        if self._mcu is None:
            raise McuLost("no SFU is configured")
        return self._mcu

    @property
    def accepts_streams(self) -> bool:
        """Whether an SFU accepts new streams now."""
        return self._mcu is not None and self._mcu.status().ready

    @property
    def capacity(self) -> int:
        """The number of PeerConnections that the SFU can hold; 0 = not known."""
        return 0 if self._mcu is None else self._mcu.status().capacity

    async def retry_once_if_lost(self, deadline: float, send: Callable[[float], Awaitable[_T]]) -> _T:
        """Send a request to the SFU, and once more if the SFU is lost meanwhile; return its result.

        ``send`` is given the seconds left until ``deadline``. The request is not repeated while another SFU accepts
        streams: if the request made the SFU crash, the repetition would crash the other SFU, too.

        Raises:
            LostTwice: the SFU was lost during both attempts, and not merely absent until the deadline.
            McuError: the last attempt failed otherwise.
        """
        try:
            return await send(max(deadline - self._clock(), 0.0))
        except McuLost:
            if self.accepts_streams or self._clock() >= deadline:
                raise
        try:
            return await send(max(deadline - self._clock(), 0.0))
        except McuLost as error:
            if self._clock() < deadline - _CLOCK_TOLERANCE:
                raise LostTwice(str(error)) from error
            raise
