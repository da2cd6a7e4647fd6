"""Peers of the in-process SFU's tests use 127.0.0.1."""

from tests.media.loopback import loopback

__all__ = ["loopback"]
