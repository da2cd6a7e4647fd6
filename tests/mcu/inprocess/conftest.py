"""Peers of the in-process SFU's tests use 127.0.0.1; some of them are browsers."""

from tests.mcu.inprocess.tabs import chromium, tabs
from tests.media.loopback import loopback

__all__ = ["chromium", "loopback", "tabs"]
