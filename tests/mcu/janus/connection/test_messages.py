"""Messages from and to Janus: decoded, encoded, and the errors in them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.config.source import Secret
from mcu.janus.connection.messages import (
    PLUGIN,
    UNKNOWN_INTERFACE,
    InvalidJanusMessage,
    JanusError,
    JanusMessage,
    encode,
    error_of,
    loggable,
    parse,
    reason_unusable,
    restriction,
    server_details,
    version_numbers,
)


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


def test_a_secret_whose_class_hides_it_from_the_log_is_encoded_as_plain_text() -> None:
    frame = encode("message", "1", {"apisecret": Secret("s")}, {"body": {"admin_key": Secret("k")}})
    assert json.loads(frame) == {"janus": "message", "transaction": "1", "apisecret": "s", "body": {"admin_key": "k"}}


def test_a_value_that_json_cannot_represent_is_refused() -> None:
    with pytest.raises(NotImplementedError):
        encode("message", "1", {}, {"body": object()})


def test_a_plugin_answer_is_decoded() -> None:
    answer = message(
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
    assert answer.sender == 2**53 - 1
    assert answer.plugindata.data.videoroom == "attached"
    assert [stream.feed_mid for stream in answer.plugindata.data.streams] == ["a"]
    assert answer.jsep is not None
    assert answer.jsep.sdp == "v=0"


def test_a_trickled_candidate_and_the_end_of_candidates_are_decoded() -> None:
    trickled = message("trickle", sender=1, candidate={"candidate": "candidate:1", "sdpMid": "0", "sdpMLineIndex": 2})
    assert (trickled.candidate.candidate, trickled.candidate.sdp_mid) == ("candidate:1", "0")
    assert trickled.candidate.sdp_mline_index == 2
    assert message("trickle", sender=1, candidate={"completed": True}).candidate.completed


@pytest.mark.parametrize("frame", ["", "[]", "{}", '{"janus": 1}', '{"janus": "ack", "sender": "x"}', b"\xff", "[[["])
def test_any_other_frame_raises_one_error(frame: str | bytes) -> None:
    with pytest.raises(InvalidJanusMessage):
        parse(frame)


def test_errors_of_core_and_plugin_are_found() -> None:
    core = error_of(message("error", error={"code": 458, "reason": "No such session"}))
    assert core is not None
    assert (core.code, str(core)) == (458, "Janus: No such session (458)")
    data = {"error_code": 426, "error": "No such room"}
    plugin = error_of(message("event", plugindata={"plugin": "p", "data": data}))
    assert plugin is not None
    assert plugin.code == 426
    assert error_of(message("success")) is None


def test_error_texts_of_janus_are_made_fit_for_the_log() -> None:
    assert str(JanusError(1, "two\nlines")) == "Janus: two lines (1)"
    assert str(JanusError(465, "Invalid c= line: c=IN 192.0.2.7")) == "Janus: Invalid c= line (465)"
    assert str(JanusError(458, "No such session 3141592653589")) == "Janus: No such session … (458)"
    assert str(JanusError(403, "Wrong secret=abcDEF (key=abc)")) == "Janus: Wrong … … (403)"
    assert str(JanusError(465, "Invalid line a=candidate")) == "Janus: Invalid line … (465)"
    assert len(loggable("x" * 1000)) == 160


def test_a_janus_with_videoroom_and_data_channels_can_be_used() -> None:
    server_info = message("server_info", data_channels=True, plugins={"janus.plugin.videoroom": {"version": 9}})
    assert reason_unusable(server_info) == ""


def test_a_janus_without_videoroom_cannot_be_used() -> None:
    assert "no VideoRoom" in reason_unusable(message("server_info", data_channels=True, plugins={}))


def test_a_janus_without_data_channels_cannot_be_used() -> None:
    server_info = message("server_info", data_channels=False, plugins={"janus.plugin.videoroom": {}})
    assert "data channels" in reason_unusable(server_info)


@pytest.mark.parametrize("plugin", [None, 7])
def test_server_details_are_plain_whatever_janus_reports(plugin: object) -> None:
    room = {"name": "VideoRoom", "version": 9, "version_string": "0.0.9", "author": "Meetecho"}
    server_info: dict[str, Any] = {"janus": "server_info", "author": "Meetecho", "data_channels": True}
    details = server_details(message(**server_info, plugins={"janus.plugin.videoroom": plugin or room}))
    assert (details["author"], details["datachannels"]) == ("Meetecho", True)
    assert details["videoroom"] == ({} if plugin else {"name": "VideoRoom", "version": "0.0.9", "author": "Meetecho"})


def test_handle_info_has_the_rates_of_simulcast_layers() -> None:
    layers = {f"video-simulcast-{number}": {"bytes_lastsec": 100 * number} for number in (1, 2)}
    media = {
        str(index): {"type": "video", "mid": str(index), "stats": {"in": {"bytes_lastsec": 7, **found}}}
        for index, found in enumerate([{}, layers])
    }
    text = json.dumps({"janus": "success", "info": {"webrtc": {"media": media}}})
    info = parse(text).info
    assert info.layer_rates("0") == (7, 0, 0)
    assert info.layer_rates("1") == (7, 100, 200)
    assert info.layer_rates("2") == ()


def test_handle_info_has_the_idle_time_of_the_session_and_the_incoming_media() -> None:
    info = {
        "session_last_activity": 12_000_000,
        "current_time": 19_500_000,
        "opaque_id": "portunus|a1",
        "flags": {"got-offer": True, "alert": True},
        "webrtc": {
            "media": {"0": {"type": "audio", "mid": "0", "stats": {"in": {"packets": 9, "bytes_lastsec": 700}}}}
        },
    }
    decoded = message("success", info=info).info
    assert (decoded.session_idle, decoded.opaque_id, decoded.flags.alert) == (7.5, "portunus|a1", True)
    assert decoded.webrtc.media["0"].stats.incoming.bytes_lastsec == 700
    assert not message("success").info.flags.alert


@pytest.mark.parametrize(
    ("plugin", "expected"),
    [
        ({"description": "JANUS VideoRoom plugin"}, ""),
        ({"description": f"{UNKNOWN_INTERFACE} 107"}, f"VideoRoom of this Janus works without {UNKNOWN_INTERFACE} 107"),
        ({"description": 7}, ""),
        (None, ""),
    ],
)
def test_unknown_plugin_interface_is_a_restriction(plugin: object, expected: str) -> None:
    assert restriction(message("server_info", plugins={PLUGIN: plugin})) == expected


def test_janus_before_1_0_cannot_be_used() -> None:
    info = message("server_info", version_string="0.15.2", plugins={PLUGIN: {}})
    assert reason_unusable(info) == "this is Janus 0.15.2; 1.0 is the first that can be used"


def test_version_is_read_as_numbers() -> None:
    assert [version_numbers(text) for text in ("1.4.1", "1.x", "")] == [(1, 4, 1), (1,), ()]
