"""A session: its connection, and its sender and join entry."""

from __future__ import annotations

import json

from gateway.core.ids import ConnectionId
from gateway.core.permissions import Permissions
from gateway.core.session import EXPIRY, ClientType
from gateway.wire.server import MESSAGE_END
from tests.gateway.core.members import session

OLD, NEW = ConnectionId(1), ConnectionId(2)


def test_replaced_connection_does_not_take_its_successor_down() -> None:
    it = session()
    it.attach(OLD)
    assert it.attach(NEW) == OLD
    assert not it.detach(OLD, now=1.0)
    assert it.connection == NEW
    assert it.expires_at is None


def test_lost_connection_starts_the_expiry_and_a_new_one_stops_it() -> None:
    it = session()
    it.attach(OLD)
    assert it.detach(OLD, now=5.0)
    assert it.connection is None
    assert it.expires_at == 5.0 + EXPIRY
    assert it.attach(NEW) is None
    assert it.expires_at is None


def test_sender_names_the_user_and_is_encoded_once() -> None:
    it = session("alice")
    sender = it.sender("room")
    message = json.loads(sender + b"[1]" + MESSAGE_END)
    assert message["message"]["sender"] == {"type": "room", "sessionid": it.id, "userid": "alice"}
    assert message["message"]["data"] == [1]
    assert it.sender("room") is sender
    assert b'"call"' in it.sender("call")


def test_guest_is_shown_with_the_user_id_of_the_room() -> None:
    it = session()
    it.room_userid = "guest"
    assert it.shown_userid == "guest"


def test_control_sender_differs_and_is_encoded_once() -> None:
    it = session("alice")
    sender = it.control_sender("room")
    message = json.loads(sender + b"[1]" + MESSAGE_END)
    assert (message["type"], message["control"]["sender"]["userid"]) == ("control", "alice")
    assert it.control_sender("room") is sender
    assert it.sender("room") != sender


# reference 8-c
def test_internal_sessions_need_no_permission() -> None:
    client, internal = session("alice"), session(client_type=ClientType.INTERNAL)
    for it in (client, internal):
        it.permissions = Permissions.of([])
    assert (client.may("control"), internal.may("control")) == (False, True)
