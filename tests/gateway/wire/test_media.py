"""Fields of media messages that the gateway decodes, and media messages that it encodes (reference 5.2, 9)."""

from __future__ import annotations

import msgspec
import pytest
from msgspec import Raw

from gateway.wire import media
from gateway.wire.media import (
    CandidateInit,
    CandidatePayload,
    DescriptionPayload,
    MediaData,
    MediaMessage,
    MediaPayload,
    SelectionPayload,
)


def decode(text: str) -> MediaMessage | None:
    return media.decode_media_message(text.encode())


def raw(text: str) -> Raw:
    return Raw(text.encode())


def test_known_fields_are_decoded_and_the_members_of_the_payload_are_not() -> None:
    decoded = decode(
        '{"type":"offer","sid":"1","roomType":"video","bitrate":1.5,"videocodec":"vp8","payload":{"sdp" : 1}}'
    )
    assert decoded is not None
    assert (decoded.type, decoded.sid, decoded.roomType, decoded.bitrate, decoded.videocodec) == (
        "offer",
        "1",
        "video",
        1.5,
        "vp8",
    )
    assert decoded.payload is not None
    assert bytes(decoded.payload.sdp) == b"1"


# reference 5.2-g
@pytest.mark.parametrize(
    "text",
    [
        '"text"',
        "[]",
        "5",
        "true",
        '{"type":5}',
        '{"sid":5}',
        '{"roomType":["video"]}',
        '{"payload":"text"}',
        '{"payload":[]}',
        '{"payload":0}',
        '{"bitrate":"1"}',
        '{"bitrate":true}',
        '{"bitrate":1e999}',
        '{"bitrate":' + "9" * 5000 + "}",
        '{"audiocodec":1}',
        '{"type":1,"x":"\\ud800"}',
    ],
)
def test_data_with_a_field_of_another_type_is_not_read(text: str) -> None:
    assert decode(text) is None


# reference 5.4-c
@pytest.mark.parametrize(
    "text",
    [
        '{"type":"nickChanged","payload":"Ada"}',
        '{"sid":5,"type":"nick\\u0043hanged"}',
        '{"payload":"Ada","type":"nickChanged","x":"\\ud800"}',
    ],
)
def test_nick_changed_is_recognised_whatever_its_other_fields(text: str) -> None:
    assert decode(text) == MediaMessage("nickChanged")


def test_null_is_the_same_as_absent() -> None:
    decoded = decode('{"type":null,"sid":null,"roomType":null,"payload":null,"bitrate":null,"audiocodec":null}')
    assert decoded is not None
    assert decoded.type is None
    assert decoded.payload is None


def test_lone_surrogate_is_replaced() -> None:
    decoded = decode('{"type":"offer","nick":"\\ud83d","payload":{"sdp":"\\ud800"}}')
    assert decoded is not None
    assert decoded.type == "offer"
    assert decoded.payload is not None
    assert media.read_string(decoded.payload.sdp) == "\ufffd"


def test_data_that_is_not_json_is_not_read() -> None:
    assert decode('{"type":') is None
    assert decode('{"type":"a","x":"\\ud800",}') is None


@pytest.mark.parametrize(("text", "string"), [('"x"', "x"), ("5", None), ("null", None), ("[]", None), ("", None)])
def test_read_string_returns_none_for_another_type(text: str, string: str | None) -> None:
    assert media.read_string(raw(text)) == string


@pytest.mark.parametrize(
    ("text", "member"), [('{"a": {"b" : 1} }', '{"b" : 1}'), ('{"b":1}', ""), ("[]", ""), ("5", ""), ("", "")]
)
def test_member_of_an_object_is_not_decoded(text: str, member: str) -> None:
    assert bytes(media.read_member(raw(text), "a")) == member.encode()


def test_absent_members_of_a_selection_are_none() -> None:
    assert media.decode_selection(None) == SelectionPayload()
    assert media.decode_selection(MediaPayload(raw("1"), video=raw("false"), substream=raw("2"))) == SelectionPayload(
        substream=2, video=False
    )
    assert media.decode_selection(MediaPayload(temporal=raw("null"), audio=raw("true"))) == SelectionPayload(audio=True)


@pytest.mark.parametrize(
    "wrong", [MediaPayload(substream=Raw(b'"1"')), MediaPayload(temporal=Raw(b"1.5")), MediaPayload(audio=Raw(b"1"))]
)
def test_selection_with_a_member_of_another_type_is_refused(wrong: MediaPayload) -> None:
    with pytest.raises(msgspec.DecodeError):
        media.decode_selection(wrong)


def test_description_is_encoded_as_the_protocol_specifies() -> None:
    data = MediaData("to", "from", "answer", "video", DescriptionPayload("answer", "v=0\r\n"), "7")
    assert bytes(media.encode_data(data)) == (
        b'{"to":"to","from":"from","type":"answer","roomType":"video",'
        b'"payload":{"type":"answer","sdp":"v=0\\r\\n"},"sid":"7"}'
    )


# reference 9.4-c
def test_candidate_is_encoded_as_the_protocol_specifies() -> None:
    data = MediaData("t", "f", "candidate", "screen", CandidatePayload(CandidateInit("candidate:1", "0", 0)), "7")
    assert bytes(media.encode_data(data)) == (
        b'{"to":"t","from":"f","type":"candidate","roomType":"screen",'
        b'"payload":{"candidate":{"candidate":"candidate:1","sdpMid":"0","sdpMLineIndex":0}},"sid":"7"}'
    )
