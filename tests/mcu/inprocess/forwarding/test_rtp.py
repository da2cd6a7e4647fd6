"""RTP packets and header extensions: parsing of aiortc's bytes, and aiortc's parsing of packed ones."""

from __future__ import annotations

import pytest
from aiortc import rtp as aiortc_rtp
from aiortc.rtcrtpparameters import RTCRtpHeaderExtensionParameters, RTCRtpParameters
from hypothesis import given
from hypothesis import strategies as st

from mcu.inprocess.forwarding import rtp
from mcu.inprocess.negotiation.parameters import ABS_SEND_TIME, AUDIO_LEVEL, MID

EXTENSIONS = aiortc_rtp.HeaderExtensionsMap()
EXTENSIONS.configure(
    RTCRtpParameters(
        headerExtensions=[
            RTCRtpHeaderExtensionParameters(id=1, uri=MID),
            RTCRtpHeaderExtensionParameters(id=2, uri=AUDIO_LEVEL),
            RTCRtpHeaderExtensionParameters(id=3, uri=ABS_SEND_TIME),
        ]
    )
)


def aiortc_packet(mid: str) -> bytes:
    """Return a packet with CSRCs and all extensions, as aiortc serialises it."""
    packet = aiortc_rtp.RtpPacket(payload_type=97, marker=1, sequence_number=65535, timestamp=1 << 31, ssrc=0xFFFFFFFF)
    packet.csrc = [1, 2]
    packet.payload = b"payload"
    packet.extensions.mid = mid
    packet.extensions.audio_level = (True, 17)
    packet.extensions.abs_send_time = 0xABCDEF
    return packet.serialize(EXTENSIONS)


@pytest.mark.parametrize("mid", ["0", "a-name-that-needs-two-byte-headers"])
def test_aiortcs_packet_is_parsed(mid: str) -> None:
    packet = rtp.parse(aiortc_packet(mid))
    assert packet is not None
    assert (packet.flags, packet.marker, packet.payload_type, packet.sequence) == (0, 0x80, 97, 65535)
    assert (packet.timestamp, packet.ssrc, packet.payload) == (1 << 31, 0xFFFFFFFF, b"payload")
    assert rtp.extension_element(packet, 1) == mid.encode()
    assert rtp.extension_element(packet, 2) == bytes([0x80 | 17])
    assert rtp.extension_element(packet, 3) == b"\xab\xcd\xef"
    assert rtp.extension_element(packet, 4) is None


@pytest.mark.parametrize(("words", "read"), [(rtp.MAX_EXTENSION // 4, True), (rtp.MAX_EXTENSION // 4 + 1, False)])
def test_long_header_extension_is_skipped(words: int, read: bool) -> None:
    extension = b"\x10\x30" + bytes(4 * words - 2)
    header = bytes([0x90, 96]) + bytes(10) + b"\xbe\xde" + words.to_bytes(2, "big")
    packet = rtp.parse(header + extension + b"payload")
    assert packet is not None
    assert packet.payload == b"payload"
    assert (rtp.extension_element(packet, 1) == b"0") is read


def test_packed_header_extension_is_parsed_by_aiortc() -> None:
    extension = rtp.pack_extension([(1, b"0"), (3, b"\x01\x02\x03")])
    header = rtp.HEADER.pack(rtp.VERSION_BITS | rtp.EXTENSION_BIT, 97, 1, 2, 3)
    packet = aiortc_rtp.RtpPacket.parse(header + extension + b"x", EXTENSIONS)
    assert (packet.extensions.mid, packet.extensions.abs_send_time, packet.payload) == ("0", 0x010203, b"x")


@given(st.binary(max_size=80))
def test_parsing_random_bytes_raises_nothing(data: bytes) -> None:
    for candidate in (data, b"\x90\x60" + data):
        packet = rtp.parse(candidate)
        if packet is not None:
            for extension_id in range(16):
                rtp.extension_element(packet, extension_id)
