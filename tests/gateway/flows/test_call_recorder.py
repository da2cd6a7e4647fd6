"""The recorder of the steps of all calls: its limits, and the absence of private data."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from gateway.core.ids import RoomSessionId, SessionId, SessionIds
from gateway.core.limits import Backend
from gateway.core.outbox import Outbox
from gateway.core.room import Room, RoomKey
from gateway.core.session import ClientType, Session
from gateway.flows.call_log import CallLog, SessionEnd, StreamEnd
from gateway.flows.call_recorder import CallEvent, CallRecorder
from mcu.base import BackendId, CloseReason, PublisherId, StreamKey, StreamType, TransportState

BACKEND = Backend("cloud", ("https://cloud.example/",), "secret of the cloud")
DESCRIPTION = "v=0\r\na=ice-pwd:8f0e2d7c\r\na=candidate:1 1 udp 1 203.0.113.7 5000 typ host"
TOKEN = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl"
private = st.one_of(
    st.text(),
    st.ip_addresses().map(str),
    st.emails(),
    st.sampled_from([DESCRIPTION, TOKEN, "4tq8xrwe", "Alice Liddell", "alice@cloud.example", "vp8,203.0.113.7"]),
)
Texts = list[str]


class PrivateCall:
    """A call of two sessions in which each text that a client or Nextcloud chooses is one of ``texts``."""

    def __init__(self, texts: Texts) -> None:
        self.texts = texts
        ids = SessionIds("a secret of the tests, long enough")
        self.room = RoomKey("cloud", texts[0])
        self.calls = CallLog(ids, lambda: 1_700_000_000.0, CallRecorder())
        self.sessions = [self._session(*ids.make(hashlib.sha384(bytes([n])).digest()), n) for n in range(2)]

    def _session(self, id: SessionId, resume_id: str, number: int) -> Session:
        texts = self.texts
        user, features = Raw(msgspec.json.encode({"displayname": texts[1]})), tuple(texts)
        client_type = (ClientType.CLIENT, ClientType.INTERNAL)[number]
        session = Session((id, resume_id), BACKEND, texts[2], "u" + texts[3], user, features, Outbox(1000), client_type)  # type: ignore[arg-type]
        session.room, session.room_userid = self.room, texts[4]
        session.room_session_id = RoomSessionId(texts[5])
        return session

    def record_all_steps(self) -> None:
        """Record each step of a call, with a private value in each place for a text."""
        calls, texts = self.calls, self.texts
        alice, bob = self.sessions
        room = Room(self.room, Raw(msgspec.json.encode(texts[6])), 0.0)
        room.members = {alice.id: alice, bob.id: bob}
        calls.opened(alice)
        calls.opened(bob)
        calls.resumed(alice)
        calls.joined(alice, room)
        calls.joined_elsewhere(bob)
        calls.call_changed(room, [alice.id, texts[0]], [bob.id, texts[1]])
        for publisher in (alice.id, bob.id, texts[2], "x" * 48 + texts[3]):
            self._record_stream(StreamKey(BackendId("cloud"), PublisherId(publisher), StreamType.VIDEO))
        calls.left_room(alice, self.room)
        for reason in SessionEnd:
            calls.ended(alice, reason)

    def _record_stream(self, key: StreamKey) -> None:
        calls, texts, alice = self.calls, self.texts, self.sessions[0]
        calls.published(alice, key, self.room, 1_000_000, ("opus", texts[4], texts[5]))
        calls.subscribed(alice, key, self.room)
        calls.media(alice, key, None)
        calls.limited(alice, key, self.room, 64_000)
        for state in TransportState:
            calls.transport(alice, key, self.room, state)
        for reason in (*CloseReason, *StreamEnd):
            calls.stream_closed(alice, key, self.room, reason)
        calls.refused(alice, key, self.room, texts[6], texts[0])
        calls.refused(alice, key, self.room, "requestoffer", "client_not_found")

    def recorded(self) -> Iterator[CallEvent]:
        """Yield the recorded events, with a fixed text in place of the short id of the room."""
        id = self.calls.room_id(self.room)
        for event in self.calls.recorder:
            assert event.room in ("", id)
            room = "ROOM" if event.room else ""
            yield msgspec.structs.replace(event, room=room, text=event.text.replace(id, "ROOM"))


def recorded_call(texts: Texts) -> list[CallEvent]:
    call = PrivateCall(texts)
    call.record_all_steps()
    return list(call.recorded())


REFERENCE = recorded_call(["other"] * 7)


@settings(max_examples=30)
@given(st.lists(private, min_size=7, max_size=7))
def test_recorded_events_do_not_depend_on_any_private_value(texts: Texts) -> None:
    assert recorded_call(texts) == REFERENCE


def test_recorded_events_have_the_steps_and_no_private_value() -> None:
    texts = [TOKEN, "Alice Liddell", "https://cloud.example/", "alice", DESCRIPTION, "203.0.113.7", "4tq8xrwe"]
    call = PrivateCall(texts)
    call.record_all_steps()
    exported = msgspec.json.encode(list(call.calls.recorder)).decode()
    assert " was refused: client_not_found" in exported
    assert "publishes video in room" in exported
    for text in (*texts, "ice-pwd", "eyJ", "Liddell", "203.", *(session.id for session in call.sessions)):
        assert text not in exported


@given(st.lists(st.integers(0, 300), max_size=60), st.integers(1, 20), st.integers(200, 3000))
def test_recorder_keeps_the_latest_events_within_both_limits(sizes: list[int], events: int, octets: int) -> None:
    recorder = CallRecorder(events, octets)
    added = [CallEvent(float(number), "session1", "hello", "x" * size) for number, size in enumerate(sizes)]
    for event in added:
        recorder.add(event)
        assert len(recorder) <= events
        assert recorder.octets <= octets
    kept = list(recorder)
    assert kept == added[len(added) - len(kept) :]
    assert recorder.octets == sum(len(msgspec.json.encode(event)) for event in kept)
    assert recorder.dropped == len(added) - len(kept)
    if recorder.dropped:  # no more fits
        before = added[recorder.dropped - 1]
        assert len(kept) == events or recorder.octets + len(msgspec.json.encode(before)) > octets


def test_timeline_of_a_room_has_the_hello_and_the_end_of_its_sessions() -> None:
    recorder = CallRecorder()
    steps = [("alice", "", ""), ("carol", "", ""), ("alice", "r1", ""), ("bob", "r1", "alice")]
    for at, (session, room, publisher) in enumerate([*steps, ("bob", "r2", ""), ("bob", "", "")]):
        recorder.add(CallEvent(float(at), session, "step", "text", "cloud", room, publisher))
    assert [event.at for event in recorder.of_room("r1")] == [0, 2, 3, 5]
    assert [event.at for event in recorder.of_session("alice")] == [0, 2, 3]
