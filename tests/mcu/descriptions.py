"""Session descriptions of test peers, as they cross the SFU interface."""

from __future__ import annotations

from sdp.document import Description, FrozenError, parse


def parse_frozen(text: str) -> Description:
    """Parse a peer's description and freeze it."""
    return parse(text).freeze()


def is_frozen(description: Description) -> bool:
    """Return whether edits of a description raise."""
    try:
        description.session.insert(1, [])
    except FrozenError:
        return True
    return False


WITHOUT_MEDIA = parse_frozen("v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n")
WITHOUT_TRANSPORT = parse_frozen(
    "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n"
)
TONES_ONLY = parse_frozen(
    "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=fingerprint:sha-256 AA:BB\r\n"
    "m=audio 9 UDP/TLS/RTP/SAVPF 101\r\na=mid:0\r\na=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuv\r\n"
    "a=setup:actpass\r\na=rtcp-mux\r\na=sendonly\r\na=rtpmap:101 telephone-event/8000\r\n"
)
