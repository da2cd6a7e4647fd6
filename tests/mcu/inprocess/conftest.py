"""Fixtures of the in-process SFU's tests: aiortc peers on 127.0.0.1, and Chromium."""

from tests.mcu.inprocess.tabs import chromium, tabs
from tests.media.loopback import loopback

__all__ = ["chromium", "loopback", "tabs"]
