"""``mcu.janus.connection.protocol``: what a message of Janus means, without a loop."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.config.source import Secret
from mcu.janus.connection.protocol import (
    ROUTES,
    STEPS,
    Expect,
    InvalidJanusMessage,
    JanusError,
    JanusMessage,
    Route,
    Step,
    Transactions,
    details,
    encode,
    failure,
    parse,
    printable,
    refusal,
)

ACK, SUCCESS, EVENT = Expect.ACK, Expect.SUCCESS, Expect.EVENT
KINDS = ("ack", "success", "server_info", "event", "error", "webrtcup", "keepalive", "claimed")


def message(janus: str, **members: object) -> JanusMessage:
    return parse(json.dumps({"janus": janus, **members}))


def test_a_request_carries_its_transaction_as_a_string_and_the_secrets() -> None:
    frame = encode("attach", "7", {"apisecret": "s"}, {"session_id": 5, "handle_id": 0, "jsep": None, "plugin": "p"})
    assert json.loads(frame) == {
        "janus": "attach",
        "transaction": "7",
        "apisecret": "s",
        "session_id": 5,
        "plugin": "p",
    }


def test_false_and_empty_values_are_sent() -> None:
    frame = encode("message", "1", {}, {"body": {"record": False}, "text": ""})
    assert json.loads(frame) == {"janus": "message", "transaction": "1", "body": {"record": False}, "text": ""}


def test_a_secret_that_does_not_show_itself_is_encoded_all_the_same() -> None:
    frame = encode("message", "1", {"apisecret": Secret("s")}, {"body": {"admin_key": Secret("k")}})
    assert json.loads(frame) == {"janus": "message", "transaction": "1", "apisecret": "s", "body": {"admin_key": "k"}}


def test_what_is_no_json_is_not_encoded() -> None:
    with pytest.raises(NotImplementedError):
        encode("message", "1", {}, {"body": object()})


def test_a_plugin_reply_is_read() -> None:
    reply = message(
        "event",
        transaction="3",
        session_id=1,
        sender=2**53 - 1,
        plugindata={
            "plugin": "janus.plugin.videoroom",
            "data": {
                "videoroom": "attached",
                "room": 4,
                "streams": [{"type": "audio", "mid": "0", "feed_mid": "a", "active": True, "mindex": 0}],
            },
        },
        jsep={"type": "offer", "sdp": "v=0"},
    )
    assert reply.sender == 2**53 - 1
    assert reply.plugindata.data.videoroom == "attached"
    assert [stream.feed_mid for stream in reply.plugindata.data.streams] == ["a"]
    assert reply.jsep is not None
    assert reply.jsep.sdp == "v=0"


def test_a_trickled_candidate_and_the_end_of_them_are_read() -> None:
    trickled = message("trickle", sender=1, candidate={"candidate": "candidate:1", "sdpMid": "0", "sdpMLineIndex": 2})
    assert (trickled.candidate.candidate, trickled.candidate.sdp_mid) == ("candidate:1", "0")
    assert trickled.candidate.sdp_mline_index == 2
    assert message("trickle", sender=1, candidate={"completed": True}).candidate.completed


@pytest.mark.parametrize("frame", ["", "[]", "{}", '{"janus": 1}', '{"janus": "ack", "sender": "x"}', b"\xff", "[[["])
def test_what_is_not_janus_protocol_is_one_error(frame: str | bytes) -> None:
    with pytest.raises(InvalidJanusMessage):
        parse(frame)


@pytest.mark.parametrize("expect", list(Expect))
@pytest.mark.parametrize("kind", KINDS)
def test_each_message_ends_a_request_as_the_table_says(expect: Expect, kind: str) -> None:
    transactions = Transactions()
    transaction = transactions.begin(expect)
    settled = transactions.settle(message(kind, transaction=transaction))
    step = STEPS.get((expect, kind), Step.WAIT)
    if step is Step.WAIT:
        assert settled is None
        assert len(transactions) == 1
    else:
        assert settled is not None
        assert (settled.transaction, settled.step, settled.late) == (transaction, step, False)
        assert len(transactions) == 0


def test_an_acknowledged_request_is_still_answered_by_its_event() -> None:
    transactions = Transactions()
    transaction = transactions.begin(EVENT)
    assert transactions.settle(message("ack", transaction=transaction)) is None
    assert transactions.settle(message("event", transaction=transaction)) is not None


@pytest.mark.parametrize(("kind", "route"), [*ROUTES.items(), ("ack", Route.NOBODY), ("keepalive", Route.NOBODY)])
def test_a_message_without_transaction_goes_where_the_table_says(kind: str, route: Route) -> None:
    assert Transactions().route(message(kind, sender=1)) is route


def test_a_timeout_has_no_sender_and_ends_the_session() -> None:
    assert Transactions().route(message("timeout", session_id=5)) is Route.SESSION_ENDED


def test_an_answer_belongs_to_the_request_that_it_names() -> None:
    transactions = Transactions()
    transaction = transactions.begin(EVENT)
    assert transactions.route(message("event", transaction=transaction, sender=9)) is Route.REPLY
    assert transactions.route(message("event", transaction="999", sender=9)) is Route.HANDLE


def test_the_answer_to_a_request_that_nobody_follows_is_an_event() -> None:
    transactions = Transactions()
    assert transactions.route(message("event", transaction=transactions.unheard(), sender=9)) is Route.HANDLE
    assert len(transactions) == 0


def test_transactions_differ() -> None:
    transactions = Transactions()
    assert len({transactions.begin(ACK), transactions.begin(ACK), transactions.unheard()}) == 3


def test_the_late_success_of_an_abandoned_request_is_to_be_undone() -> None:
    transactions = Transactions()
    transaction = transactions.begin(SUCCESS, leaves=True)
    transactions.abandon(transaction)
    settled = transactions.settle(message("success", transaction=transaction, data={"id": 5}))
    assert settled is not None
    assert settled.late


@pytest.mark.parametrize(
    "reply",
    [
        {"janus": "error", "error": {"code": 460, "reason": "No such plugin"}},
        {"janus": "success", "plugindata": {"plugin": "p", "data": {"error_code": 427, "error": "exists"}}},
    ],
)
def test_the_late_failure_of_an_abandoned_request_left_nothing(reply: dict[str, object]) -> None:
    transactions = Transactions()
    transaction = transactions.begin(SUCCESS, leaves=True)
    transactions.abandon(transaction)
    settled = transactions.settle(parse(json.dumps({**reply, "transaction": transaction})))
    assert settled is not None
    assert not settled.late


def test_an_abandoned_request_that_leaves_nothing_is_forgotten() -> None:
    transactions = Transactions()
    transaction = transactions.begin(EVENT)
    transactions.abandon(transaction)
    transactions.abandon("never begun")
    assert len(transactions) == 0
    assert transactions.route(message("event", transaction=transaction, sender=3)) is Route.HANDLE


def test_errors_of_core_and_plugin_are_found() -> None:
    core = failure(message("error", error={"code": 458, "reason": "No such session"}))
    assert core is not None
    assert (core.code, str(core)) == (458, "Janus: No such session (458)")
    plugin = failure(message("event", plugindata={"plugin": "p", "data": {"error_code": 426, "error": "No such room"}}))
    assert plugin is not None
    assert plugin.code == 426
    assert failure(message("success")) is None


def test_what_janus_says_is_made_printable() -> None:
    assert str(JanusError(1, "two\nlines")) == "Janus: two lines (1)"
    assert str(JanusError(465, "Invalid c= line: c=IN 192.0.2.7")) == "Janus: Invalid c= line (465)"
    assert str(JanusError(458, "No such session 3141592653589")) == "Janus: No such session … (458)"
    assert len(printable("x" * 1000)) == 160


def test_a_janus_that_can_be_used_is_not_refused() -> None:
    info = message("server_info", data_channels=True, plugins={"janus.plugin.videoroom": {"version": 9}})
    assert refusal(info) == ""


def test_a_janus_without_videoroom_is_refused_in_words() -> None:
    assert "no VideoRoom" in refusal(message("server_info", data_channels=True, plugins={}))


def test_a_janus_without_data_channels_is_refused_in_words() -> None:
    info = message("server_info", data_channels=False, plugins={"janus.plugin.videoroom": {}})
    assert "data channels" in refusal(info)


@pytest.mark.parametrize("plugin", [None, 7])
def test_details_are_plain_whatever_janus_says(plugin: object) -> None:
    room = {"name": "VideoRoom", "version": 9, "version_string": "0.0.9", "author": "Meetecho"}
    info: dict[str, Any] = {"janus": "server_info", "author": "Meetecho", "data_channels": True}
    told = details(message(**info, plugins={"janus.plugin.videoroom": plugin or room}))
    assert (told["author"], told["datachannels"]) == ("Meetecho", True)
    assert told["videoroom"] == ({} if plugin else {"name": "VideoRoom", "version": "0.0.9", "author": "Meetecho"})


def test_a_request_that_never_left_is_answered_by_nothing() -> None:
    transactions = Transactions()
    transaction = transactions.begin(SUCCESS, leaves=True)
    transactions.forget(transaction)
    transactions.forget(transaction)
    assert len(transactions) == 0
    assert transactions.route(message("success", transaction=transaction)) is Route.NOBODY


def test_the_admin_api_tells_how_long_a_session_was_silent_and_what_arrives() -> None:
    info = {
        "session_last_activity": 12_000_000,
        "current_time": 19_500_000,
        "opaque_id": "portunus|a1",
        "flags": {"got-offer": True, "alert": True},
        "webrtc": {
            "media": {"0": {"type": "audio", "mid": "0", "stats": {"in": {"packets": 9, "bytes_lastsec": 700}}}}
        },
    }
    told = message("success", info=info).info
    assert (told.idle, told.opaque_id, told.flags.alert) == (7.5, "portunus|a1", True)
    assert told.webrtc.media["0"].stats.incoming.bytes_lastsec == 700
    assert not message("success").info.flags.alert
