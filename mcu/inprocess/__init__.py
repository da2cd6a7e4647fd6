"""The in-process SFU: forwards RTP between aiortc transports without decoding or encoding (docs/mcu.md)."""

from mcu.inprocess.settings import InprocessSettings

__all__ = ["InprocessSettings"]
