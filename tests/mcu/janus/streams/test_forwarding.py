"""The m-lines of a publisher as described to a second Janus."""

from __future__ import annotations

from mcu.base import MediaKind
from mcu.janus.streams.forwarding import ForwardedMedium, media_of
from tests.mcu.descriptions import parse_frozen

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
    return media_of(parse_frozen(offer or answer), parse_frozen(answer))


def test_audio_video_and_data_keep_their_order_and_are_named_by_their_position() -> None:
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


def test_a_rejected_m_line_keeps_its_position_and_an_inactive_one_its_codec() -> None:
    rejected = AUDIO.replace("m=audio 9", "m=audio 0")
    off = VIDEO.replace("recvonly\r\na=rtpmap", "inactive\r\na=rtpmap")
    first, second = media(rejected, off)
    assert (first.codec, first.disabled, first.active) == ("opus", True, False)
    assert (second.codec, second.disabled, second.active) == ("vp8", False, False)


def test_an_m_line_without_a_codec_or_of_an_unknown_kind_only_keeps_its_position() -> None:
    odd = "m=text 9 UDP/TLS/RTP/SAVPF 98\r\na=mid:t\r\n"
    empty = "m=video 9 UDP/TLS/RTP/SAVPF 97\r\na=mid:v\r\na=rtpmap:97 rtx/90000\r\n"
    for medium in media(odd, empty):
        assert (medium.kind, medium.codec, medium.disabled, medium.active) == (MediaKind.VIDEO, "vp8", True, False)


def test_h264_and_vp9_have_a_profile() -> None:
    h264 = VIDEO.replace("VP8/90000\r\n", "H264/90000\r\na=fmtp:96 profile-level-id=42e01f;packetization-mode=1\r\n")
    vp9 = VIDEO.replace("VP8/90000\r\n", "VP9/90000\r\na=fmtp:96 profile-id=2\r\n")
    assert [(medium.codec, medium.profile) for medium in media(h264, vp9, VIDEO)] == [
        ("h264", "42e01f"),
        ("vp9", "2"),
        ("vp8", ""),
    ]


def test_simulcast_is_recognised_in_the_answer_by_rid_and_in_the_offer_by_ssrc() -> None:
    by_rid = VIDEO + "a=rid:h recv\r\na=rid:l recv\r\na=simulcast:recv h;l\r\n"
    by_ssrc = HEAD + VIDEO + "a=ssrc-group:SIM 1 2 3\r\n"
    fid = HEAD + VIDEO + "a=ssrc-group:FID 1 2\r\n"
    assert media(by_rid)[0].flags == {"simulcast"}
    assert media(VIDEO, offer=by_ssrc)[0].flags == {"simulcast"}
    assert media(by_rid.replace("h;l", "h"))[0].flags == set()
    assert media(VIDEO, offer=fid)[0].flags == frozenset()
    assert media(VIDEO, offer=HEAD)[0].flags == frozenset()  # it has fewer m-lines than the answer


def test_a_changed_codec_replaces_an_m_line_and_a_changed_direction_does_not() -> None:
    (video,) = media(VIDEO)
    (off,) = media(VIDEO.replace("recvonly\r\na=rtpmap", "inactive\r\na=rtpmap"))
    (other,) = media(VIDEO.replace("VP8", "AV1"))
    assert video != off
    assert not off.replaces(video)
    assert other.replaces(video)
