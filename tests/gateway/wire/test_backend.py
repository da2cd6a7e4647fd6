"""Requests and answers between the gateway and Nextcloud (reference 3.7, 6)."""

from __future__ import annotations

import json

import msgspec
import pytest
from msgspec import Raw

from gateway.wire.backend import (
    AuthRequest,
    BackendError,
    BackendRequest,
    PingEntry,
    PingRequest,
    RoomAnswer,
    RoomRequest,
    SessionRequest,
    UnsupportedRequest,
    decode_rooms_request,
    decode_switched_sessions,
    encode_call,
    encode_call_error,
    encode_request,
)


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (AuthRequest(Raw(b'{"a":1}')), '{"type":"auth","auth":{"params":{"a":1},"version":"1.0"}}'),
        (
            RoomRequest("r", "", "nc", version="1.0"),
            '{"type":"room","room":{"roomid":"r","userid":"","sessionid":"nc","version":"1.0"}}',
        ),
        (
            RoomRequest("r", "u", "nc", action="leave", version="1.0"),
            '{"type":"room","room":{"roomid":"r","userid":"u","sessionid":"nc","action":"leave","version":"1.0"}}',
        ),
        (
            SessionRequest("r", "add", "s", "u", Raw(b"{}"), "1.0"),
            '{"type":"session","session":'
            '{"roomid":"r","action":"add","sessionid":"s","userid":"u","user":{},"version":"1.0"}}',
        ),
        (
            PingRequest("", (PingEntry("", "nc1"), PingEntry("u", "nc2"))),
            '{"type":"ping","ping":{"roomid":"","entries":[{"sessionid":"nc1"},{"userid":"u","sessionid":"nc2"}],"version":"1.0"}}',
        ),
    ],
)
def test_request_is_encoded_as_talk_expects(request_: BackendRequest, expected: str) -> None:
    assert json.loads(encode_request(request_)) == json.loads(expected)


def test_rooms_request_is_decoded() -> None:
    request = decode_rooms_request(b'{"type":"message","message":{"data":{"a": 1}},"future":1}')
    assert request.body is request.message
    assert request.message is not None
    assert bytes(request.message.data) == b'{"a": 1}'


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"type":"update"}',
        b'{"type":"delete","delete":null}',
        b'{"type":"delete","delete":[]}',
        b'{"type":"incall","incall":[]}',
        b"[" * 99999,
        b'{"type":"update","update":{"userids":[1]}}',
        b'{"type":"message","message":{"data":"\xff"}}',
        b'{"type":"message","message":{"data":' + b"[" * 99999,
    ],
)
def test_malformed_rooms_request_is_an_error(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_rooms_request(body)


@pytest.mark.parametrize("name", ["transient", "type", "", "mute", None])
def test_error_for_an_unknown_type_names_the_type(name: str | None) -> None:
    with pytest.raises(UnsupportedRequest, match=f"^{name or ''}$"):
        decode_rooms_request(json.dumps({"type": name}).encode())


@pytest.mark.parametrize(
    ("sessions", "expected"),
    [
        (b"", {}),
        (b"null", {}),
        (b'["b","a","b"]', {"b": b"", "a": b""}),
        (b'{"b":{"x":1},"a":null}', {"b": b'{"x":1}', "a": b"null"}),
    ],
)
def test_sessions_of_a_switch_are_decoded_in_order(sessions: bytes, expected: dict[str, bytes]) -> None:
    found = decode_switched_sessions(Raw(sessions))
    assert [(name, bytes(details)) for name, details in found.items()] == list(expected.items())


@pytest.mark.parametrize("sessions", [b'"a"', b"1", b"[1]", b"true"])
def test_sessions_of_a_switch_in_another_form_are_malformed(sessions: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_switched_sessions(Raw(sessions))


def test_answer_to_a_phone_call_has_its_id_or_the_error() -> None:
    assert encode_call("c") == b'{"type":"dialout","dialout":{"callid":"c"}}'
    assert encode_call_error(BackendError("c")) == b'{"type":"dialout","dialout":{"error":{"code":"c"}}}'


@pytest.mark.parametrize(
    ("session", "userid"),
    [(b'{"userid":"guest"}', "guest"), (b'{"userid":null}', ""), (b"{}", ""), (b"[]", ""), (b"null", ""), (b"", "")],
)
def test_user_id_of_a_room_answer_is_optional(session: bytes, userid: str) -> None:
    assert RoomAnswer(session=Raw(session)).userid == userid
