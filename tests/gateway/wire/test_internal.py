"""Messages of internal clients (reference 2.4, 11)."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from gateway.wire import client
from gateway.wire.internal import CallStatus, Internal, is_complete


def read(body: Any) -> Internal | None:
    return client.decode(json.dumps({"type": "internal", "internal": body})).internal


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
def test_complete_message(body: Any) -> None:
    assert is_complete(read(body))


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
def test_incomplete_message(body: Any) -> None:
    assert not is_complete(read(body))


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
        read(body)


def test_status_is_encoded_without_absent_members() -> None:
    status = CallStatus("c", "cleared", code=486)
    assert msgspec.json.encode(status) == b'{"callid":"c","status":"cleared","code":486}'


def test_params_of_a_hello() -> None:
    params = client.decode_internal(msgspec.Raw(b'{"random":"r","token":"t","backend":"b","more":1}'))
    assert (params.random, params.token, params.backend) == ("r", "t", "b")
