"""What a second Janus is told of the m-lines of a publisher."""

from __future__ import annotations

from mcu.base import MediaKind
from mcu.janus.streams.forwarding import ForwardedMedium, media_of
from tests.mcu.descriptions import described

HEAD = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n"
AUDIO = (
    "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:a\r\na=recvonly\r\na=rtpmap:111 opus/48000/2\r\n"
    "a=fmtp:111 useinbandfec=1;stereo=1\r\na=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\n"
    "a=extmap:3/recvonly http://www.webrtc.org/experiments/rtp-hdrext/playout-delay\r\n"
)
VIDEO = (
    "m=video 9 UDP/TLS/RTP/SAVPF 97 96\r\na=mid:v\r\na=recvonly\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n"
    "a=rtpmap:96 VP8/90000\r\na=extmap:3/recvonly http://www.webrtc.org/experiments/rtp-hdrext/playout-delay\r\n"
    "a=extmap:x http://www.webrtc.org/experiments/rtp-hdrext/playout-delay-not\r\n"
)
DATA = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:d\r\na=sctp-port:5000\r\n"


def media(*sections: str, offer: str = "") -> tuple[ForwardedMedium, ...]:
    answer = HEAD + "".join(sections)
    return media_of(described(offer or answer), described(answer))


def test_audio_video_and_data_are_told_in_their_order_by_their_place() -> None:
    assert [medium.wire() for medium in media(AUDIO, VIDEO, DATA)] == [
        {
            "mid": "0",
            "mindex": 0,
            "type": "audio",
            "codec": "opus",
            "disabled": False,
            "fec": True,
            "stereo": True,
            "audiolevel_ext_id": 1,
        },
        {"mid": "1", "mindex": 1, "type": "video", "codec": "vp8", "disabled": False, "playoutdelay_ext_id": 3},
        {"mid": "2", "mindex": 2, "type": "data", "disabled": False},
    ]


def test_a_rejected_m_line_keeps_its_place_and_one_that_is_switched_off_keeps_its_codec() -> None:
    rejected = AUDIO.replace("m=audio 9", "m=audio 0")
    off = VIDEO.replace("recvonly\r\na=rtpmap", "inactive\r\na=rtpmap")
    first, second = media(rejected, off)
    assert (first.codec, first.disabled, first.flows) == ("opus", True, False)
    assert (second.codec, second.disabled, second.flows) == ("vp8", False, False)


def test_a_medium_without_a_codec_or_of_a_kind_that_nobody_knows_only_holds_its_place() -> None:
    odd = "m=text 9 UDP/TLS/RTP/SAVPF 98\r\na=mid:t\r\n"
    empty = "m=video 9 UDP/TLS/RTP/SAVPF 97\r\na=mid:v\r\na=rtpmap:97 rtx/90000\r\n"
    for medium in media(odd, empty):
        assert (medium.kind, medium.codec, medium.disabled, medium.flows) == (MediaKind.VIDEO, "vp8", True, False)


def test_profiles_are_read_where_they_are() -> None:
    h264 = VIDEO.replace("VP8/90000\r\n", "H264/90000\r\na=fmtp:96 profile-level-id=42e01f;packetization-mode=1\r\n")
    vp9 = VIDEO.replace("VP8/90000\r\n", "VP9/90000\r\na=fmtp:96 profile-id=2\r\n")
    assert [(medium.codec, medium.profile) for medium in media(h264, vp9, VIDEO)] == [
        ("h264", "42e01f"),
        ("vp9", "2"),
        ("vp8", ""),
    ]


def test_simulcast_is_seen_in_the_answer_by_rid_and_in_the_offer_by_ssrc() -> None:
    by_rid = VIDEO + "a=rid:h recv\r\na=simulcast:recv h\r\n"
    by_ssrc = HEAD + VIDEO + "a=ssrc-group:SIM 1 2 3\r\n"
    fid = HEAD + VIDEO + "a=ssrc-group:FID 1 2\r\n"
    assert media(by_rid)[0].flags == {"simulcast"}
    assert media(VIDEO, offer=by_ssrc)[0].flags == {"simulcast"}
    assert media(VIDEO, offer=fid)[0].flags == frozenset()
    assert media(VIDEO, offer=HEAD)[0].flags == frozenset()  # less than Janus answered


def test_only_what_an_update_cannot_tell_differs() -> None:
    (video,) = media(VIDEO)
    (off,) = media(VIDEO.replace("recvonly\r\na=rtpmap", "inactive\r\na=rtpmap"))
    (other,) = media(VIDEO.replace("VP8", "AV1"))
    assert video != off
    assert not off.differs(video)
    assert other.differs(video)
