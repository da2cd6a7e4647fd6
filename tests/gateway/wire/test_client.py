"""Messages of clients: known fields are typed, others ignored, ``data`` is kept byte for byte."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from gateway.wire import client


def data_of(text: str) -> str:
    """Return the ``data`` of a message as its text."""
    message = client.decode(text).message
    assert message is not None
    return bytes(message.data).decode()


# reference 2.2-a
def test_message_is_decoded_and_unknown_keys_are_ignored() -> None:
    text = (
        '{"id":"1","type":"room","future":{"a":[1e999]},"room":{"roomid":"r","sessionid":"nc","x":9999999999999999999}}'
    )
    message = client.decode(text)
    assert (message.id, message.type) == ("1", "room")
    assert message.room == client.RoomJoin("r", "nc")


# reference 2.2-a
@pytest.mark.parametrize(
    "text",
    [
        '{"id":null,"type":null,"hello":null,"room":null,"message":null}',
        '{"hello":{"version":null,"resumeid":null,"features":null,"auth":null}}',
        '{"hello":{"auth":{"type":null,"url":null,"params":null}}}',
        '{"room":{"roomid":null,"sessionid":null}}',
        '{"message":{"recipient":null,"data":null}}',
        '{"message":{"recipient":{"type":null,"sessionid":null,"userid":null}}}',
    ],
)
def test_null_is_the_same_as_absent(text: str) -> None:
    message = client.decode(text)
    assert message.type is None
    assert message.message is None or not client.is_given(message.message.data)
    assert message.hello is None or message.hello.auth is None or not client.is_given(message.hello.auth.params)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        '"hello"',
        "{",
        '{"type":"hello"',
        '{"id":1}',
        '{"id":99999999999999999999}',
        '{"type":{}}',
        '{"hello":[]}',
        '{"hello":{"features":"a"}}',
        '{"hello":{"features":[1]}}',
        '{"message":{"recipient":"x"}}',
        '{"message":{"data":01}}',
        '{"message":{"data":NaN}}',
        '{"message":{"data":"\\ud800","x":}}',
        '{"type":"\\ud800',
        "\ufeff{}",
        "\x00",
    ],
)
def test_undecodable_message_is_an_error(text: str) -> None:
    with pytest.raises(msgspec.DecodeError):
        client.decode(text)


@pytest.mark.parametrize("before", ["", '{"x":', '{"message":{"data":{"half":"\\ud800","deep":'])
def test_too_deep_nesting_is_an_error(before: str) -> None:
    for deep in ("[" * 65536, "[" * 1_000_000 + "]" * 1_000_000 + "}" * before.count("{")):
        with pytest.raises(msgspec.DecodeError):
            client.decode(before + deep)


@pytest.mark.parametrize(
    "data",
    [
        ' { "a" : [ 1.50 , 1e5 , 99999999999999999999999 , 1e999 ] } ',
        '"text"',
        "-0",
        "false",
        '{"a":1,"a":2}',
        '"\\u00e4\\/"',
        '{"cut in the middle of an emoji":"\\ud83d"}',
        '{"\\uDC00":["\\udc00\\ud800","\\ud83d\\ude00"], "z" : 1 }',
        '{"no half":"\\\\ud800"}',
        '{"half":"\\ud800","long":' + "9" * 5000 + "}",
    ],
)
def test_data_stays_byte_for_byte(data: str) -> None:
    assert data_of(f'{{"type":"message","message":{{"data":{data},"recipient":{{"type":"room"}}}}}}') == data.strip()


def test_last_of_duplicate_keys_counts() -> None:
    assert client.decode('{"type":"a","type":"b"}').type == "b"
    assert data_of('{"message":{"data":1,"data":2}}') == "2"
    assert data_of('{"message":{"data":"\\ud800"},"message":{"data":"\\udc00","data": "\\udc01" }}') == '"\\udc01"'


def test_escaped_keys_are_recognised() -> None:
    assert data_of('{"mess\\u0061ge" : {"d\\u0061ta" : "\\ud800" } }') == '"\\ud800"'


def test_lone_surrogate_outside_of_data_becomes_the_replacement_character() -> None:
    message = client.decode('{"id":"\\ud800","type":"room","room":{"roomid":"r\\udfff"}}')
    assert message.id == "\ufffd"
    assert message.room == client.RoomJoin("r\ufffd")


def test_lone_surrogate_in_a_message_without_data_is_accepted() -> None:
    message = client.decode('{"id":"\\ud800","message":{"data":null}}')
    assert message.message is not None
    assert not client.is_given(message.message.data)


texts = st.text(st.characters(codec=None, categories=None), max_size=8)  # lone surrogates included
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300)
@given(value=values, other=values, indent=st.sampled_from([None, 1]))
def test_any_json_data_is_kept(value: object, other: object, indent: int | None) -> None:
    body = {"other": other, "message": {"x": other, "data": value, "y": other}, "type": "message"}
    written = json.dumps(body, indent=indent)
    if value is None:
        return
    assert json.loads(data_of(written)) == value
    compact = json.dumps(value)
    assert data_of(f'{{"message":{{"y":{json.dumps(other)},"data":{compact}}}}}') == compact


def test_token_of_hello_is_decoded() -> None:
    assert client.decode_token(Raw(b'{"token":"t","other":1}')) == "t"
    assert client.decode_token(Raw(b"{}")) == ""


@pytest.mark.parametrize("params", [b"[]", b'"t"', b'{"token":5}', b"1"])
def test_token_of_a_wrong_type_is_an_error(params: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        client.decode_token(Raw(params))


def test_null_and_absent_values_are_not_given() -> None:
    assert not client.is_given(client.ABSENT)
    assert not client.is_given(Raw(b""))
    assert not client.is_given(Raw(b"null"))
    assert client.is_given(Raw(b"0"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"type":1,"a":{"type":2}}', False),
        ('{"type":1,"\\u0074ype":2}', True),
        ("[1]", False),
        ("{", False),
        ('{"a":' + "[" * 100_000, True),
    ],
)
def test_object_with_several_types_is_recognised(text: str, expected: bool) -> None:
    assert client.has_two_types(text) is expected
