"""The members that each type of message requires (reference 2.4, 5.2)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Raw

from gateway.wire.client import Ack, FederationTarget, decode
from gateway.wire.errors import ProtocolError
from gateway.wire.media import MediaMessage
from gateway.wire.structure import acknowledgement, check, federation, internal, media_data, media_type

ROOM = {"type": "room"}


@pytest.mark.parametrize(
    "message",
    [
        {"type": "surprise"},
        {"type": "bye"},
        {"type": "ack"},
        {"type": "hello", "hello": {}},
        {"type": "room", "room": {}},
        {"type": "message", "message": {"recipient": ROOM, "data": 0}},
        {"type": "message", "message": {"recipient": {"type": "call"}, "data": ""}},
        {"type": "control", "control": {"recipient": {"type": "session", "sessionid": "s"}, "data": False}},
        {"type": "control", "control": {"recipient": {"type": "user", "userid": "u"}, "data": {}}},
        {"type": "transient", "transient": {"type": "set", "key": "k"}},
        {"type": "transient", "transient": {"type": "remove", "key": "k"}},
        {"type": "transient", "transient": {"type": "surprise"}},
        {"type": "internal", "internal": {"type": "surprise"}},
    ],
)
def test_message_with_all_required_members_is_accepted(message: dict[str, Any]) -> None:
    check(decode(json.dumps(message)))


# reference 2.4-b
@pytest.mark.parametrize(
    "message",
    [
        {},
        {"type": ""},
        {"type": "hello"},
        {"type": "room", "room": None},
        {"type": "message"},
        {"type": "message", "control": {"recipient": ROOM, "data": 1}},
        {"type": "message", "message": {"recipient": ROOM}},
        {"type": "message", "message": {"recipient": ROOM, "data": None}},
        {"type": "message", "message": {"data": 1}},
        {"type": "control", "control": {"recipient": {}, "data": 1}},
        {"type": "control", "control": {"recipient": {"type": "session", "userid": "u"}, "data": 1}},
        {"type": "control", "control": {"recipient": {"type": "user", "sessionid": "s"}, "data": 1}},
        {"type": "control", "control": {"recipient": {"type": "everybody"}, "data": 1}},
        {"type": "transient"},
        {"type": "transient", "transient": {"key": "k"}},
        {"type": "transient", "transient": {"type": "set"}},
        {"type": "transient", "transient": {"type": "remove", "key": ""}},
        {"type": "internal"},
        {"type": "internal", "internal": {"type": "incall"}},
    ],
)
def test_message_without_a_required_member_has_an_invalid_format(message: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError, match="invalid_format"):
        check(decode(json.dumps(message)))


@pytest.mark.parametrize(
    "body",
    [
        {"type": "future"},
        {"type": "addsession", "addsession": {"sessionid": "p", "roomid": "r"}},
        {"type": "updatesession", "updatesession": {"sessionid": "p", "roomid": "r", "flags": 4294967295}},
        {"type": "removesession", "removesession": {"sessionid": "p", "roomid": "r", "userid": "u"}},
        {"type": "incall", "incall": {}},
        {"type": "incall", "incall": {"incall": -1}},
        {"type": "dialout", "dialout": {"type": "future"}},
        {"type": "dialout", "dialout": {"type": "error", "error": {}}},
        {"type": "dialout", "dialout": {"type": "status", "status": {"callid": "c", "status": "s"}}},
        {"type": "dialout", "dialout": {"type": "status", "status": {}}},
    ],
)
def test_body_of_an_internal_request_is_the_member_that_its_type_names(body: Any) -> None:
    message = decode(json.dumps({"type": "internal", "internal": body})).internal
    assert internal(message) is getattr(message, body["type"], None)


@pytest.mark.parametrize(
    "body",
    [
        None,
        {"addsession": {"sessionid": "p", "roomid": "r"}},
        {"type": "addsession"},
        {"type": "updatesession", "updatesession": {"sessionid": "p"}},
        {"type": "removesession", "removesession": {"roomid": "r"}},
        {"type": "incall"},
        {"type": "dialout"},
        {"type": "dialout", "dialout": {"type": ""}},
        {"type": "dialout", "dialout": {"type": "error"}},
        {"type": "dialout", "dialout": {"type": "error", "error": None}},
        {"type": "dialout", "dialout": {"type": "status"}},
    ],
)
def test_internal_request_without_a_required_member_has_an_invalid_format(body: Any) -> None:
    with pytest.raises(ProtocolError, match="invalid_format"):
        check(decode(json.dumps({"type": "internal", "internal": body})))


# reference 12.1-a
@pytest.mark.parametrize(
    ("signaling", "url"),
    [
        ("wss://host.example/", "https://host.example/"),
        ("WS://host.example/", "http://host.example/"),
        ("https://host.example/wss:", "https://host.example/wss:"),
        ("ftp://host.example/", "ftp://host.example/"),
    ],
)
def test_url_of_a_signaling_server_is_one_of_http(signaling: str, url: str) -> None:
    assert federation(FederationTarget(signaling, "https://cloud.example/", None, "t")) == (
        url,
        "https://cloud.example/",
        "t",
    )


@pytest.mark.parametrize("missing", ["signaling", "url", "token"])
@pytest.mark.parametrize("value", [None, ""])
def test_federated_join_without_a_required_member_has_an_invalid_format(missing: str, value: str | None) -> None:
    target = {"signaling": "wss://h/", "url": "https://h/", "token": "t"} | {missing: value}
    with pytest.raises(ProtocolError, match="invalid_format"):
        federation(FederationTarget(**target))


# reference 5.2-i
@pytest.mark.parametrize("first", ["5", '"x"', "null", "[]", "{}", '{"type":1}', "1e999", '"\\ud800"', "9" * 5000])
@pytest.mark.parametrize("name", ["type", "t\\u0079pe"])
def test_data_with_two_types_is_refused(first: str, name: str) -> None:
    for text in (f'{{"type":{first},"{name}":"control"}}', f'{{"{name}":"offer","payload":{{}},"type":{first}}}'):
        with pytest.raises(ProtocolError, match="invalid_format"):
            media_data(Raw(text.encode()))


# reference 5.2-i
def test_data_whose_types_are_nested_too_deeply_to_count_is_refused() -> None:
    with pytest.raises(ProtocolError, match="invalid_format"):
        media_data(Raw(b'{"type":"type","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"))


# reference 5.2-i
@pytest.mark.parametrize(
    "text",
    [
        '{"type":"x","payload":{"type":"y"},"types":[{"type":1}]}',
        '[{"type":1},{"type":2}]',
        '"type and type"',
        '["type","type"]',
        '{"a":"\\u0041","type":"type","b":' + "9" * 5000 + "}",
    ],
)
def test_types_of_different_objects_are_accepted(text: str) -> None:
    media_data(Raw(text.encode()))


@pytest.mark.parametrize("room_type", [None, "", "audio", "video", "screen"])
def test_type_of_data_with_a_known_room_type_or_none_is_returned(room_type: str | None) -> None:
    assert media_type(MediaMessage("offer", roomType=room_type)) == "offer"


# reference 5.2-a
@pytest.mark.parametrize("message", [MediaMessage(), MediaMessage(""), MediaMessage("offer", roomType="theatre")])
def test_data_without_a_type_or_with_an_unknown_room_type_has_an_invalid_format(message: MediaMessage) -> None:
    with pytest.raises(ProtocolError, match="invalid_format"):
        media_type(message)


def test_acknowledgement_needs_its_body() -> None:
    assert acknowledgement(Ack(3)).received == 3
    with pytest.raises(ProtocolError, match="invalid_format"):
        acknowledgement(None)
