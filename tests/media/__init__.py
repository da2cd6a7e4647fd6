"""WebRTC peers with real media for the tests: numbered pictures, tones and data channels.

``PublishingPeer`` and ``SubscribingPeer`` are aiortc peers; a test passes their descriptions and candidates to the
other side. ``loopback`` (a fixture in ``tests/media/loopback.py``) lets them use 127.0.0.1.
"""

from tests.media.peers import MediaPeer, PublishingPeer, SubscribingPeer
from tests.media.signals import dominant_frequency, draw, read_number

__all__ = ["MediaPeer", "PublishingPeer", "SubscribingPeer", "dominant_frequency", "draw", "read_number"]
