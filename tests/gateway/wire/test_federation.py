"""Names of a federated room, rewritten in both directions: every rule of reference 12.2."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire import client, federation, remote_messages
from gateway.wire.errors import Error
from gateway.wire.federated_names import Names, NotPassedOn, cloud_server, server_url

Json = dict[str, Any]

MEMBER_NAMES = (
    *("roomid", "sessionid", "sessionId", "type", "target", "join", "leave", "update", "users", "changed", "message"),
    *("data", "sender", "recipient", "key", "code", "details", "room", "chat", "comment", "messageParameters", "from"),
    *("mention-1", "actorId", "actorType", "token", "parent", "properties", "flags", "reason", "payload", "action"),
)
NAMES = Names("L-id", "H-id", "local-room", "remote-room", "https://home.example/", "https://host.example/nc/")
HOME, HOST = "home.example", "host.example/nc"


def to_local(message: Json, names: Names = NAMES) -> Json:
    decoded = federation.to_local(remote_messages.decode(json.dumps(message)), names)
    local: Json = json.loads(remote_messages.encode(decoded))
    return local


def to_remote(text: str) -> str:
    return federation.to_remote(text, client.decode(text), NAMES)


def event(target: str, type: str, **members: Any) -> Json:
    return {"type": "event", "event": {"target": target, "type": type} | members}


def relayed(sender: str, data: Any, type: str = "message") -> Json:
    return {"type": type, type: {"sender": {"type": "session", "sessionid": sender, "userid": "u"}, "data": data}}


def comment(**members: Any) -> Json:
    return {"id": 7, "message": "hi"} | members


def chat_event(comment: Json) -> Json:
    data = {"type": "chat", "chat": {"comment": comment}}
    return event("room", "message", message={"roomid": "remote-room", "data": data})


def localised_comment(comment: Json) -> Json:
    """Return a comment of the host as the client receives it."""
    message = to_local(chat_event(comment))
    assert message["event"]["message"]["roomid"] == "local-room"
    found: Json = message["event"]["message"]["data"]["chat"]["comment"]
    return found


# -- from the client to the host


# reference 12.2-a
@pytest.mark.parametrize(
    ("sent", "forwarded"),
    [
        ({"type": "session", "sessionid": "L-id"}, {"type": "session", "sessionid": "H-id"}),
        ({"type": "session", "sessionid": "another"}, {"type": "session", "sessionid": "another"}),
        ({"type": "room"}, {"type": "room"}),
        ({"type": "user", "userid": "L-id"}, {"type": "user", "userid": "L-id"}),
    ],
)
def test_message_to_the_client_itself_goes_to_its_session_at_the_host(sent: Json, forwarded: Json) -> None:
    message = {"id": "1", "type": "message", "message": {"recipient": sent, "data": {"to": "L-id"}, "more": 1}}
    expected = {"id": "1", "type": "message", "message": {"recipient": forwarded, "data": {"to": "L-id"}, "more": 1}}
    assert json.loads(to_remote(json.dumps(message))) == expected


def test_all_but_the_recipient_stays_byte_for_byte() -> None:
    data, recipient = r'{"a":1.0, "b":"\ud83d"}', '{"sessionid":"L-id" ,"type":"session"}'
    text = f'{{ "message" :{{"data":{data},"recipient":{recipient}}},"type":"message"}}'
    assert to_remote(text) == text.replace('"L-id"', '"H-id"')


@pytest.mark.parametrize(("key", "forwarded"), [("sd:L-id", "sd:H-id"), ("sd:other", "sd:other"), ("L-id", "L-id")])
def test_transient_entry_of_the_session_is_renamed(key: str, forwarded: str) -> None:
    message = {"type": "transient", "transient": {"type": "set", "key": key, "value": {"key": "sd:L-id"}}}
    changed = json.loads(to_remote(json.dumps(message)))
    assert changed["transient"] == {"type": "set", "key": forwarded, "value": {"key": "sd:L-id"}}


def test_control_messages_are_forwarded_as_they_are() -> None:
    text = json.dumps(
        {"type": "control", "control": {"recipient": {"type": "session", "sessionid": "L-id"}, "data": 1}}
    )
    assert to_remote(text) == text


# -- from the host to the client


# reference 12.2-b
@pytest.mark.parametrize(("remote", "local"), [("remote-room", "local-room"), ("", "")])
def test_room_is_renamed(remote: str, local: str) -> None:
    message = {"type": "room", "id": "3", "room": {"roomid": remote, "properties": {"name": "n"}}}
    message["room"] |= {"bandwidth": {"maxstreambitrate": 1, "maxscreenbitrate": 2}}  # type: ignore[operator]
    assert to_local(message) == message | {"room": message["room"] | {"roomid": local}}  # type: ignore[operator]


# reference 12.2-b
def test_details_of_already_joined_name_the_local_room() -> None:
    error = {"code": "already_joined", "message": "m", "details": {"room": {"roomid": "remote-room"}}}
    renamed = to_local({"type": "error", "id": "3", "error": error})["error"]
    assert renamed == error | {"details": {"room": {"roomid": "local-room"}}}
    foreign = error | {"details": {"room": {"roomid": "another"}}}
    assert "details" not in to_local({"type": "error", "error": foreign})["error"]


@pytest.mark.parametrize(
    ("details", "properties"),
    [
        (b'{"room":{"roomid":"r","properties":{"name":"n"}}}', b'{"name":"n"}'),
        (b'{"room":{"roomid":"r"}}', b""),
        (b'{"room":5}', b""),
        (b"", b""),
    ],
)
def test_properties_of_the_joined_room_are_read_from_the_details(details: bytes, properties: bytes) -> None:
    error = Error("already_joined", "m", msgspec.Raw(details))
    assert bytes(federation.properties_of_joined_room(error)) == properties


def test_details_of_other_errors_are_passed_on() -> None:
    message = {"type": "error", "id": "3", "error": {"code": "x", "message": "m", "details": {"room": 5}}}
    assert to_local(message) == message


# reference 12.2-c
@pytest.mark.parametrize(
    ("message", "member"),
    [
        (event("participants", "flags", flags={"roomid": "R", "sessionid": "H-id", "flags": 1}), "flags"),
        (event("participants", "update", update={"roomid": "R", "incall": 0, "all": True}), "update"),
        (event("room", "message", message={"roomid": "R", "data": {"x": 1}}), "message"),
        (event("room", "switchto", switchto={"roomid": "R"}), "switchto"),
        (event("roomlist", "invite", invite={"roomid": "R", "properties": {"n": 1}}), "invite"),
        (event("roomlist", "disinvite", disinvite={"roomid": "R", "reason": "deleted"}), "disinvite"),
        (event("roomlist", "update", update={"roomid": "R", "properties": {"n": 1}}), "update"),
    ],
)
def test_events_name_the_local_room_and_no_other(message: Json, member: str) -> None:
    text = json.dumps(message)
    renamed = to_local(json.loads(text.replace('"R"', '"remote-room"')))
    assert renamed == json.loads(text.replace('"R"', '"local-room"').replace("H-id", "L-id"))
    assert renamed["event"][member]["roomid"] == "local-room"
    with pytest.raises(NotPassedOn):
        to_local(json.loads(text.replace('"R"', '"another"')))


# reference 12.2-m
def test_switch_to_another_room_of_the_host_is_not_passed_on() -> None:
    for room in ("breakout", "local-room"):
        with pytest.raises(NotPassedOn):
            to_local(event("room", "switchto", switchto={"roomid": room, "details": {"x": 1}}))


# reference 12.2-d
@pytest.mark.parametrize("key", ["sessionId", "sessionid"])
def test_participants_name_the_clients_session_and_all_actors(key: str) -> None:
    remote = [
        {key: "H-id", "inCall": 7, "actorType": "federated_users", "actorId": f"alice@{HOME}"},
        {key: "b", "inCall": 7, "actorType": "users", "actorId": "bob", "userId": "bob"},
        {key: "c", "actorType": "federated_users", "actorId": "carol@third.example"},
        {key: "d", "actorType": "guests", "actorId": "d@" + HOME},
        {"inCall": 0},
    ]
    local = [
        {key: "L-id", "inCall": 7, "actorType": "users", "actorId": "alice"},
        {key: "b", "inCall": 7, "actorType": "federated_users", "actorId": f"bob@{HOST}", "userId": "bob"},
        *remote[2:],
    ]
    message = event("participants", "update", update={"roomid": "remote-room", "users": remote, "changed": remote})
    update = to_local(message)["event"]["update"]
    assert update == {"roomid": "local-room", "users": local, "changed": local}


# reference 12.2-e
def test_join_and_leave_name_the_clients_session() -> None:
    entry = {"userid": "u", "features": ["f"], "user": {"displayname": "A"}, "roomsessionid": "nc", "federated": True}
    joined = to_local(event("room", "join", join=[{"sessionid": "H-id"} | entry, {"sessionid": "b", "userid": ""}]))
    assert joined["event"]["join"] == [{"sessionid": "L-id"} | entry, {"sessionid": "b", "userid": ""}]
    assert to_local(event("room", "leave", leave=["b", "H-id"]))["event"]["leave"] == ["b", "L-id"]


# reference 12.2-f
@pytest.mark.parametrize("type", ["message", "control"])
def test_sender_and_recipient_are_renamed(type: str) -> None:
    message = relayed("H-id", "H-id", type)
    message[type]["recipient"] = {"type": "session", "sessionid": "H-id"}
    renamed = to_local(message)[type]
    assert renamed["sender"] == {"type": "session", "sessionid": "L-id", "userid": "u"}
    assert renamed["recipient"] == {"type": "session", "sessionid": "L-id"}
    assert renamed["data"] == "H-id"
    assert to_local(relayed("b", {"x": 1}, type)) == relayed("b", {"x": 1}, type)


@pytest.mark.parametrize(
    "message",
    [
        {"type": "dialout", "dialout": {"type": "error", "error": {"code": "c", "message": "m"}}},
        {"type": "republish", "republish": {"roomType": "video", "sid": "1", "reason": "r"}},
    ],
)
def test_messages_without_names_are_passed_on(message: Json) -> None:
    assert to_local(message) == message


def test_message_of_the_host_itself_has_no_sender() -> None:
    message = {"type": "message", "message": {"data": {"x": 1}}}
    assert to_local(message) == message


# reference 12.2-g
@pytest.mark.parametrize("type", ["offer", "answer", "candidate", "endOfCandidates", "requestoffer", "sendoffer"])
def test_media_messages_name_the_clients_session(type: str) -> None:
    data = {"type": type, "roomType": "video", "payload": {"to": "H-id"}, "sid": "1"}
    renamed = to_local(relayed("b", data | {"from": "b", "to": "H-id"}))["message"]["data"]
    assert renamed == data | {"from": "b", "to": "L-id"}
    renamed = to_local(relayed("H-id", data | {"from": "H-id", "to": "H-id"}))["message"]["data"]
    assert renamed == data | {"from": "L-id", "to": "L-id"}


def test_other_data_stays_byte_for_byte() -> None:
    for data in ('{"type":"chat", "to":"H-id"}', '"\\ud83d"', "[1.0,  2]", '{"type":"offer" ,"to":"b"}'):
        text = f'{{"type":"message","message":{{"sender":{{"type":"room","sessionid":"b"}},"data":{data}}}}}'
        encoded = remote_messages.encode(federation.to_local(remote_messages.decode(text), NAMES))
        assert data.encode() in encoded


# reference 12.2-h
def test_request_to_mute_names_the_clients_session() -> None:
    mute = {"action": "forceMute", "peerId": "H-id"}
    assert to_local(relayed("b", mute, "control"))["control"]["data"] == mute | {"peerId": "L-id"}
    data = {"type": "control", "payload": mute}
    assert to_local(relayed("b", data))["message"]["data"]["payload"] == mute | {"peerId": "L-id"}
    payloads: list[Any] = [{"action": "forceMute", "peerId": "b"}, 5]
    for payload in payloads:
        sent = {"type": "control", "payload": payload}
        assert to_local(relayed("b", sent))["message"]["data"] == sent
    other = {"action": "other", "peerId": "H-id"}
    assert to_local(relayed("b", other, "control"))["control"]["data"] == other


# reference 12.2-i
def test_transient_entries_of_the_session_are_renamed() -> None:
    changed = {"type": "transient", "transient": {"type": "set", "key": "sd:H-id", "value": 1, "oldvalue": 0}}
    assert to_local(changed)["transient"] == changed["transient"] | {"key": "sd:L-id"}  # type: ignore[operator]
    initial = {"type": "initial", "data": {"sd:H-id": {"a": "sd:H-id"}, "sd:b": 2, "H-id": 3}}
    renamed = to_local({"type": "transient", "transient": initial})["transient"]
    assert renamed == {"type": "initial", "data": {"sd:L-id": {"a": "sd:H-id"}, "sd:b": 2, "H-id": 3}}


# reference 12.2-j
def test_author_and_editor_of_a_comment_are_renamed() -> None:
    edited = comment(
        actorType="users", actorId="bob", lastEditActorType="federated_users", lastEditActorId=f"alice@{HOME}"
    )
    assert localised_comment(edited) == edited | {
        "actorType": "federated_users",
        "actorId": f"bob@{HOST}",
        "lastEditActorType": "users",
        "lastEditActorId": "alice",
    }


# reference 12.2-j
def test_comment_and_its_parent_name_the_local_room() -> None:
    parent = comment(token="remote-room", actorType="users", actorId="bob")
    assert localised_comment(comment(token="remote-room", parent=parent)) == comment(
        token="local-room",
        parent=comment(token="local-room", actorType="federated_users", actorId=f"bob@{HOST}"),
    )
    assert localised_comment(comment(token="another"))["token"] == "another"


# reference 12.2-k
@pytest.mark.parametrize(
    ("remote", "local"),
    [
        (
            {"type": "user", "id": "alice", "name": "A", "server": "https://home.example"},
            {"type": "user", "id": "alice", "name": "A"},
        ),
        (
            {"type": "user", "id": "bob", "name": "B"},
            {"type": "user", "id": "bob", "name": "B", "server": "https://host.example/nc", "mention-id": "bob"},
        ),
        (
            {"type": "user", "id": "bob", "mention-id": "m"},
            {"type": "user", "id": "bob", "server": "https://host.example/nc", "mention-id": "m"},
        ),
        (
            {"type": "user", "id": "carol", "server": "https://third.example"},
            {"type": "user", "id": "carol", "server": "https://third.example"},
        ),
        ({"type": "call", "id": "remote-room", "name": "R"}, {"type": "call", "id": "local-room", "name": "R"}),
        ({"type": "call", "id": "another"}, {"type": "call", "id": "another"}),
        ({"type": "guest", "id": "remote-room"}, {"type": "guest", "id": "remote-room"}),
        ("no object", "no object"),
    ],
)
def test_mentions_are_renamed(remote: Any, local: Any) -> None:
    mentioning = comment(messageParameters={"mention-x1": remote, "actor": {"type": "user", "id": "bob"}})
    expected = comment(messageParameters={"mention-x1": local, "actor": {"type": "user", "id": "bob"}})
    assert localised_comment(mentioning) == expected


def test_every_comment_of_a_list_is_renamed() -> None:
    data = {"type": "chat", "chat": {"refresh": True, "comments": [comment(token="remote-room")]}}
    message = event("room", "message", message={"roomid": "remote-room", "data": data})
    renamed = to_local(message)["event"]["message"]["data"]["chat"]
    assert renamed == {"refresh": True, "comments": [comment(token="local-room")]}


@pytest.mark.parametrize(
    "data",
    [
        {"type": "chat", "chat": 5},
        {"type": "chat", "chat": {"refresh": True}},
        {"type": "chat", "chat": {"comments": 5}},
        5,
        "x",
    ],
)
def test_messages_of_the_backend_without_comments_stay_as_they_are(data: Any) -> None:
    message = event("room", "message", message={"roomid": "remote-room", "data": data})
    assert to_local(message)["event"]["message"]["data"] == data


@pytest.mark.parametrize(
    "chat",
    [
        {"comments": [{"id": number} for number in range(21)]},
        {"comment": {"messageParameters": {str(number): {} for number in range(501)}}},
    ],
)
def test_chat_messages_with_too_many_comments_or_mentions_are_not_passed_on(chat: Json) -> None:
    data = {"type": "chat", "chat": chat}
    with pytest.raises(NotPassedOn):
        to_local(event("room", "message", message={"roomid": "remote-room", "data": data}))


def test_members_that_other_servers_leave_out_are_not_required() -> None:
    for message in (
        {"type": "room", "room": {"roomid": "remote-room", "bandwidth": {"maxstreambitrate": 1}}},
        {"type": "message", "message": {"sender": {"type": "room", "sessionid": "b"}, "data": 1}},
        {"type": "control", "control": {"data": 1, "recipient": {"type": "room"}}},
        {"type": "event", "event": {"target": "room", "type": "join", "join": [{"sessionid": "b", "user": None}]}},
    ):
        text = json.dumps(message).replace("remote-room", "local-room")
        assert to_local(message) == json.loads(text)
    for text in ('{"type":"bye"}', '{"type":"bye","bye":{}}', '{"type":"bye","bye":null}'):
        assert isinstance(remote_messages.decode(text), remote_messages.RemoteBye)
    welcome = remote_messages.decode('{"type":"welcome","welcome":{"country":"DE","features":null}}')
    assert isinstance(welcome, remote_messages.RemoteWelcome)
    hello = remote_messages.decode('{"type":"hello","id":"1","hello":{"sessionid":"s","resumeid":"r","version":"2.0"}}')
    assert isinstance(hello, remote_messages.RemoteHello)


# -- violations by a host


# reference 12.2-l
@pytest.mark.parametrize(
    "message",
    [
        relayed("L-id", {"x": 1}),
        relayed("L-id", {"x": 1}, "control"),
        event("room", "join", join=[{"sessionid": "L-id"}]),
        event("room", "leave", leave=["L-id"]),
        event("participants", "update", update={"roomid": "remote-room", "users": [{"sessionId": "L-id"}]}),
        event("participants", "flags", flags={"roomid": "remote-room", "sessionid": "L-id", "flags": 1}),
        {"type": "transient", "transient": {"type": "set", "key": "sd:L-id", "value": 1}},
        {"type": "room", "room": {"roomid": "another"}},
        {"type": "room", "room": {}},
        event("room", "federation_resumed"),
        event("room", "delete"),
        event("participants", "update", update={"roomid": "remote-room", "users": [5]}),
        event("room", "switchto", switchto={}),
        {"type": "hello", "hello": {"sessionid": "x", "resumeid": "y"}},
        {"type": "welcome", "welcome": {}},
        {"type": "bye"},
        {"type": "message", "message": {"sender": {"sessionid": "b"}}},
    ],
)
def test_events_that_name_other_clients_or_are_not_for_clients_are_refused(message: Json) -> None:
    with pytest.raises(NotPassedOn):
        to_local(message)


# attack: more than a client can send
@pytest.mark.parametrize(
    "message",
    [
        lambda value: relayed("b", value),
        lambda value: relayed("b", value, "control"),
        lambda value: {"type": "transient", "transient": {"type": "set", "key": "k", "value": value}},
        lambda value: {"type": "transient", "transient": {"type": "remove", "key": "k", "oldvalue": value}},
        lambda value: {"type": "transient", "transient": {"type": "initial", "data": {"k": value, "l": 1}}},
    ],
    ids=["message", "control", "set", "remove", "initial"],
)
def test_data_that_no_client_can_send_is_refused(message: Callable[[str], Json]) -> None:
    longest = message("x" * 65_534)
    assert to_local(longest) == longest
    with pytest.raises(NotPassedOn):
        to_local(message("x" * 65_535))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "[]",
        '{"type":"internal","internal":{}}',
        '{"type":"unknown"}',
        '{"room":{}}',
        '{"type":"room","room":{"roomid":5}}',
        '{"type":"event","event":{"target":"room","type":"join","join":[{"sessionid":5}]}}',
        '{"type":"error","error":"x"}',
        '{"type":"message","message":{"data":{},"sender":{"sessionid":["b"]}}}',
        '{"type":"message","message":{"data":'
        + "[" * 300_000
        + "]" * 300_000
        + "}}",  # Python 3.14 decodes 100,000 levels
    ],
)
def test_malformed_messages_are_refused(text: str) -> None:
    with pytest.raises(msgspec.DecodeError):
        remote_messages.decode(text)


def test_members_that_this_server_does_not_know_are_not_passed_on() -> None:
    assert to_local({"type": "room", "secret": 1, "room": {"roomid": "remote-room", "more": 1}}) == {
        "type": "room",
        "room": {"roomid": "local-room"},
    }


def test_equal_names_on_both_sides_change_nothing() -> None:
    names = Names("id", "id", "r", "r", "https://home.example/", "https://host.example/")
    message = event("room", "join", join=[{"sessionid": "id", "userid": ""}])
    assert to_local(message, names) == message


@pytest.mark.parametrize(
    ("url", "server", "cloud"),
    [
        ("https://host.example/", "https://host.example", "host.example"),
        ("https://host.example/nc/", "https://host.example/nc", "host.example/nc"),
        ("https://host.example/ocs/v2.php/apps/spreed/", "https://host.example", "host.example"),
        ("http://host.example:8080", "http://host.example:8080", "host.example:8080"),
    ],
)
def test_server_of_a_cloud_id_is_derived_from_the_url_of_its_nextcloud(url: str, server: str, cloud: str) -> None:
    assert (server_url(url), cloud_server(url)) == (server, cloud)


LEAVES: Any = st.one_of(
    st.none(), st.booleans(), st.integers(), st.sampled_from(["L-id", "H-id", "sd:H-id", "remote-room", "local-room"])
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(MEMBER_NAMES), inner, max_size=4),
    max_leaves=12,
)
BODIES = (
    "room",
    "error",
    "event",
    "message",
    "control",
    "transient",
    "bye",
    "hello",
    "welcome",
    "dialout",
    "republish",
)


# attack: any message that a host may send
@given(st.sampled_from(BODIES), st.dictionaries(st.sampled_from(MEMBER_NAMES), VALUES, max_size=6), VALUES)
def test_any_message_is_refused_or_names_the_local_room_only(type: str, body: Json, data: Any) -> None:
    for message in ({"type": type, type: body}, {"type": type, type: {"target": "room", "type": data} | body}):
        try:
            local = federation.to_local(remote_messages.decode(json.dumps(message)), NAMES)
        except (msgspec.DecodeError, NotPassedOn):
            continue
        sent = json.loads(remote_messages.encode(local))
        assert sent["type"] == type
        if type == "room":
            assert sent["room"]["roomid"] in ("", "local-room")
        if type in ("message", "control") and "sender" in sent[type]:
            assert sent[type]["sender"].get("sessionid") != "H-id"
