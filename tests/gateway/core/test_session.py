"""A session: its connection, and its sender and join entry."""

from __future__ import annotations

import json

from gateway.core.ids import ConnectionId
from gateway.core.permissions import Permissions
from gateway.core.session import EXPIRY, ClientType
from gateway.wire.server import MESSAGE_END
from tests.gateway.core.members import session

OLD_CONNECTION, NEW_CONNECTION = ConnectionId(1), ConnectionId(2)


def test_loss_of_a_replaced_connection_does_not_detach_its_successor() -> None:
    alice = session()
    alice.attach(OLD_CONNECTION)
    assert alice.attach(NEW_CONNECTION) == OLD_CONNECTION
    assert not alice.detach(OLD_CONNECTION, now=1.0)
    assert alice.connection == NEW_CONNECTION
    assert alice.expires_at is None


def test_lost_connection_starts_the_expiry_and_a_new_one_stops_it() -> None:
    alice = session()
    alice.attach(OLD_CONNECTION)
    assert alice.detach(OLD_CONNECTION, now=5.0)
    assert alice.connection is None
    assert alice.expires_at == 5.0 + EXPIRY
    assert alice.attach(NEW_CONNECTION) is None
    assert alice.expires_at is None


def test_sender_names_the_user_and_is_encoded_once() -> None:
    alice = session("alice")
    sender = alice.sender("room")
    message = json.loads(sender + b"[1]" + MESSAGE_END)
    assert message["message"]["sender"] == {"type": "room", "sessionid": alice.id, "userid": "alice"}
    assert message["message"]["data"] == [1]
    assert alice.sender("room") is sender
    assert b'"call"' in alice.sender("call")


def test_guest_is_shown_with_the_user_id_of_the_room() -> None:
    alice = session()
    alice.room_userid = "guest"
    assert alice.shown_userid == "guest"


def test_control_sender_differs_and_is_encoded_once() -> None:
    alice = session("alice")
    sender = alice.control_sender("room")
    message = json.loads(sender + b"[1]" + MESSAGE_END)
    assert (message["type"], message["control"]["sender"]["userid"]) == ("control", "alice")
    assert alice.control_sender("room") is sender
    assert alice.sender("room") != sender


# reference 8-c
def test_internal_sessions_need_no_permission() -> None:
    client, internal = session("alice"), session(client_type=ClientType.INTERNAL)
    for member in (client, internal):
        member.permissions = Permissions.of([])
    assert (client.may("control"), internal.may("control")) == (False, True)
