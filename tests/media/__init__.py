"""WebRTC peers with real media for the tests: numbered pictures, tones and data channels.

``PublishingPeer`` and ``WatchingPeer`` are aiortc peers; a test carries their descriptions and candidates to the other
side. ``loopback`` (a fixture in ``tests/media/loopback.py``) lets them use 127.0.0.1.
"""

from tests.media.peers import MediaPeer, PublishingPeer, WatchingPeer
from tests.media.signals import dominant_frequency, draw, read_number

__all__ = ["MediaPeer", "PublishingPeer", "WatchingPeer", "dominant_frequency", "draw", "read_number"]
