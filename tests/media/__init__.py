"""Peers with real media for the tests: a picture that says who sends it, a tone, data channels.

``PublishingPeer`` and ``WatchingPeer`` are aiortc peers that negotiate with descriptions, whatever brings these to the
other side; ``loopback`` (a fixture in ``tests/media/loopback.py``) lets them use 127.0.0.1.
"""

from tests.media.peers import MediaPeer, PublishingPeer, WatchingPeer
from tests.media.signals import dominant_frequency, draw, read_number

__all__ = ["MediaPeer", "PublishingPeer", "WatchingPeer", "dominant_frequency", "draw", "read_number"]
