"""Messages of the gateway, as the protocol specifies; opaque values are kept byte for byte."""

from __future__ import annotations

import json

import pytest
from msgspec import Raw

from gateway.wire import server
from gateway.wire.backend import BackendError
from gateway.wire.errors import Code, Error, ProtocolError
from gateway.wire.internal import CallError
from gateway.wire.server import (
    Bandwidth,
    Bye,
    ByeBody,
    CallOrder,
    CallTarget,
    Control,
    Dialout,
    DialoutBody,
    ErrorMessage,
    Event,
    EventBody,
    FlagsBody,
    Hello,
    HelloBody,
    InternalBody,
    InternalRequest,
    JoinEntry,
    Message,
    MessageBody,
    ParticipantsBody,
    Recipient,
    Room,
    RoomBody,
    RoomListBody,
    Sender,
    ServerInfo,
    ServerMessage,
    SwitchToBody,
    Transient,
    TransientBody,
    Welcome,
    encode_join_entry,
    join_event,
)

SERVER = ServerInfo("1.0", ("a", "b"))


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (Welcome(SERVER), '{"type":"welcome","welcome":{"version":"1.0","features":["a","b"]}}'),
        (
            Hello(HelloBody("2.0", "pub", "priv", "", SERVER), "1"),
            '{"type":"hello","hello":{"version":"2.0","sessionid":"pub","resumeid":"priv","userid":"",'
            '"server":{"version":"1.0","features":["a","b"]}},"id":"1"}',
        ),
        (Bye(id="4"), '{"type":"bye","id":"4"}'),
        (Bye(ByeBody("hello_timeout")), '{"type":"bye","bye":{"reason":"hello_timeout"}}'),
        (Room(RoomBody(""), "2"), '{"type":"room","room":{"roomid":""},"id":"2"}'),
        (
            Room(RoomBody("r", Raw(b"{ }"), Bandwidth(1, 2))),
            '{"type":"room","room":{"roomid":"r","properties":{ },"bandwidth":'
            '{"maxstreambitrate":1,"maxscreenbitrate":2}}}',
        ),
        (
            Message(MessageBody(Sender("room", "s"), Raw(b"[ 1]"))),
            '{"type":"message","message":{"sender":{"type":"room","sessionid":"s"},"data":[ 1]}}',
        ),
        (
            Event(EventBody("room", "join", join=(JoinEntry("s", ""), JoinEntry("t", "u", ("f",), Raw(b"{}"), "nc")))),
            '{"type":"event","event":{"target":"room","type":"join","join":[{"sessionid":"s","userid":""},'
            '{"sessionid":"t","userid":"u","features":["f"],"user":{},"roomsessionid":"nc"}]}}',
        ),
        (
            Control(MessageBody(None, Raw(b"{ }"), Recipient("p", "u", "session"))),
            '{"type":"control","control":{"sender":null,"data":{ },'
            '"recipient":{"sessionid":"p","userid":"u","type":"session"}}}',
        ),
        (
            Message(MessageBody(Sender("session", "s"), Raw(b"1"), Recipient("p", type="session"))),
            '{"type":"message","message":{"sender":{"type":"session","sessionid":"s"},"data":1,'
            '"recipient":{"sessionid":"p","type":"session"}}}',
        ),
        (
            Transient(TransientBody("set", "k", Raw(b"{ }"), Raw(b"1"))),
            '{"type":"transient","transient":{"type":"set","key":"k","value":{ },"oldvalue":1}}',
        ),
        (
            Transient(TransientBody("initial", data={"k": Raw(b"[ ]")})),
            '{"type":"transient","transient":{"type":"initial","data":{"k":[ ]}}}',
        ),
        (
            InternalRequest(InternalBody("dialout", CallOrder("1", "b", CallTarget("+49"))), "id"),
            '{"type":"internal","internal":{"type":"dialout","dialout":'
            '{"roomid":"1","backend":"b","request":{"number":"+49"}}},"id":"id"}',
        ),
        (
            Dialout(DialoutBody("error", CallError("c", details=Raw(b'{"a": 1}')))),
            '{"type":"dialout","dialout":{"type":"error","error":{"code":"c","details":{"a": 1}}}}',
        ),
        (
            Event(EventBody("roomlist", "invite", invite=RoomListBody("r", Raw(b"{ }")))),
            '{"type":"event","event":{"target":"roomlist","type":"invite","invite":{"roomid":"r","properties":{ }}}}',
        ),
        (
            Event(EventBody("room", "switchto", switchto=SwitchToBody("", Raw(b"0")))),
            '{"type":"event","event":{"target":"room","type":"switchto","switchto":{"roomid":"","details":0}}}',
        ),
        (
            Event(EventBody("room", "delete")),
            '{"type":"event","event":{"target":"room","type":"delete"}}',
        ),
        (
            Event(EventBody("participants", "flags", flags=FlagsBody("r", "s", 0))),
            '{"type":"event","event":{"target":"participants","type":"flags",'
            '"flags":{"roomid":"r","sessionid":"s","flags":0}}}',
        ),
        (
            Event(EventBody("room", "leave", leave=("s",))),
            '{"type":"event","event":{"target":"room","type":"leave","leave":["s"]}}',
        ),
        (
            Event(EventBody("participants", "update", update=ParticipantsBody("r", incall=0, all=True))),
            '{"type":"event","event":{"target":"participants","type":"update","update":{"roomid":"r","incall":0,"all":true}}}',
        ),
        (
            Event(EventBody("participants", "update", update=ParticipantsBody("r", users=[]))),
            '{"type":"event","event":{"target":"participants","type":"update","update":{"roomid":"r","users":[]}}}',
        ),
        (
            Event(EventBody("roomlist", "disinvite", disinvite=RoomListBody("r", reason="deleted"))),
            '{"type":"event","event":{"target":"roomlist","type":"disinvite","disinvite":{"roomid":"r","reason":"deleted"}}}',
        ),
        (
            ErrorMessage(Code.INVALID_FORMAT.error()),
            '{"type":"error","error":{"code":"invalid_format","message":"Invalid data format."}}',
        ),
        (
            ErrorMessage(BackendError("x"), "3"),
            '{"type":"error","error":{"code":"x"},"id":"3"}',
        ),
        (
            ErrorMessage(Error("x", "y", BackendError().details), "3"),
            '{"type":"error","error":{"code":"x","message":"y"},"id":"3"}',
        ),
        (
            ErrorMessage(BackendError("x", "y", Raw(b'{"z": 1}')), "3"),
            '{"type":"error","error":{"code":"x","message":"y","details":{"z": 1}},"id":"3"}',
        ),
    ],
)
def test_message_is_encoded_as_the_protocol_specifies(message: ServerMessage, expected: str) -> None:
    encoded = server.encode(message).decode()
    assert json.loads(encoded) == json.loads(expected)
    assert encoded.count(" ") == expected.count(" ")  # opaque values are unchanged


# reference 16-a
@pytest.mark.parametrize("code", list(Code))
def test_each_code_returns_its_error(code: Code) -> None:
    name, text = code.value
    assert code.error() == Error(name, text)
    assert code.error(message="other").message == "other"
    assert bytes(code.error({"a": 1}).details) == b'{"a":1}'
    assert str(ProtocolError(code.error())) == name


def test_join_event_is_put_together_from_encoded_entries() -> None:
    entries = (JoinEntry("1", "alice", ("a",)), JoinEntry("2", federated=True))
    assert join_event(map(encode_join_entry, entries)) == server.encode(Event(EventBody("room", "join", join=entries)))
