"""Messages of internal clients (reference 2.4, 11)."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from gateway.wire import client
from gateway.wire.internal import CallStatus, Internal


def decode_body(body: Any) -> Internal | None:
    return client.decode(json.dumps({"type": "internal", "internal": body})).internal


@pytest.mark.parametrize(
    "body",
    [
        {"type": "addsession", "addsession": {"flags": "1"}},
        {"type": "addsession", "addsession": {"flags": -1}},
        {"type": "addsession", "addsession": {"options": {"actorId": 1}}},
        {"type": "incall", "incall": {"incall": 2**31}},
        {"type": "dialout", "dialout": {"status": {"code": "1"}}},
        {"type": "dialout", "dialout": {"error": 5}},
        {"type": "dialout", "dialout": {"error": {"message": 5}}},
        {"type": "removesession", "removesession": {"userid": 5}},
    ],
)
def test_wrong_type_makes_the_message_undecodable(body: Any) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_body(body)


def test_status_is_encoded_without_absent_members() -> None:
    status = CallStatus("c", "cleared", code=486)
    assert msgspec.json.encode(status) == b'{"callid":"c","status":"cleared","code":486}'


def test_params_of_an_internal_hello_are_decoded() -> None:
    params = client.decode_internal(msgspec.Raw(b'{"random":"r","token":"t","backend":"b","more":1}'))
    assert (params.random, params.token, params.backend) == ("r", "t", "b")
