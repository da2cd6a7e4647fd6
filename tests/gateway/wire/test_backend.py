"""What travels between the gateway and Nextcloud."""

from __future__ import annotations

import json

import msgspec
import pytest
from msgspec import Raw

from gateway.wire.backend import (
    AuthRequest,
    BackendRequest,
    PingEntry,
    PingRequest,
    RoomRequest,
    UnsupportedRequest,
    decode_rooms_request,
    encode_request,
)


@pytest.mark.parametrize(
    ("request_", "written"),
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
            PingRequest("", (PingEntry("", "nc1"), PingEntry("u", "nc2"))),
            '{"type":"ping","ping":{"roomid":"","entries":[{"sessionid":"nc1"},{"userid":"u","sessionid":"nc2"}],"version":"1.0"}}',
        ),
    ],
)
def test_request_is_written_as_talk_expects_it(request_: BackendRequest, written: str) -> None:
    assert json.loads(encode_request(request_)) == json.loads(written)


def test_rooms_request_is_read() -> None:
    request = decode_rooms_request(b'{"type":"message","message":{"data":{"a": 1}},"future":1}')
    assert request.message is not None
    assert bytes(request.message.data) == b'{"a": 1}'


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"type":"update"}',
        b'{"type":"delete","delete":null}',
        b'{"type":"incall","incall":[]}',
        b"[" * 99999,
        b'{"type":"update","update":{"userids":[1]}}',
        b'{"type":"message","message":{"data":' + b"[" * 99999,
    ],
)
def test_malformed_rooms_request_is_an_error(body: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_rooms_request(body)


@pytest.mark.parametrize("name", ["transient", "type", "", "mute"])
def test_unknown_type_is_named(name: str) -> None:
    with pytest.raises(UnsupportedRequest, match=f"^{name}$"):
        decode_rooms_request(json.dumps({"type": name}).encode())
