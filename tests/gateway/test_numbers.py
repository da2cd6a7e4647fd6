"""Each number of reference 17: its value in the code, and the test that shows its effect.

Times are tested with the very number, in virtual time or with a clock that the test sets; the others are sizes, counts
and defaults.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gateway import config
from gateway.core import limits, room, session, throttle, transient
from gateway.edge import housekeeper, turn
from gateway.edge.clients import websocket_connection
from gateway.edge.nextcloud import capabilities
from gateway.edge.nextcloud.client import NextcloudClient
from gateway.flows import dispatch
from gateway.flows.internal import dialout
from gateway.flows.media import signaling
from gateway.flows.sessions import hello
from gateway.flows.settings import MediaLimits
from gateway.wire import token
from mcu.janus.connection import back_off
from mcu.janus.connection import session as janus_session

ROOT = Path(__file__).parent.parent
TIME = "gateway/edge/clients/test_websocket_time.py"
NEXTCLOUD_TIME = "gateway/edge/nextcloud/test_client_time.py"
GATEWAY_TIME = "gateway/edge/test_gateway_time.py"
JANUS_TIME = "mcu/janus/connection/test_time.py"
CACHE = "gateway/edge/nextcloud/test_capabilities.py"
THROTTLE = "gateway/core/test_throttle.py"
INTERNAL = "gateway/flows/internal/test_requests.py"
DIALOUT = "gateway/flows/internal/test_dialout.py"


class Number(NamedTuple):
    subject: str
    actual: Any
    expected: Any
    file: str
    test: str


NUMBERS = (
    Number("hello timeout", dispatch.HELLO_TIME, 2, GATEWAY_TIME, "hello_must_come_in_2_seconds"),
    Number("anonymous join", session.JOIN_TIMEOUT, 10, GATEWAY_TIME, "must_join_in_10_seconds"),
    Number("session expiry", session.EXPIRY, 30, GATEWAY_TIME, "session_ends_30_seconds_after"),
    Number("sweep", housekeeper.PERIOD, 1, "gateway/edge/test_housekeeper.py", "each_sweep_is_called"),
    Number("ping period", websocket_connection.PING_PERIOD, 54, TIME, "ping_every_54_seconds"),
    Number("read deadline", websocket_connection.READ_DEADLINE, 60, TIME, "silence_of_60_seconds"),
    Number("write deadline", websocket_connection.WRITE_DEADLINE, 10, TIME, "write_that_does_not_end_in_10_seconds"),
    Number(
        "message",
        websocket_connection.MESSAGE_LIMIT,
        65536,
        "gateway/edge/clients/test_websocket.py",
        "message_of_the_greatest_size",
    ),
    Number(
        "body",
        limits.Limits().backend_request_bytes,
        4194304,
        "gateway/edge/nextcloud/test_rooms_api.py",
        "body_of_exactly_the_limit",
    ),
    Number("head in time", limits.Limits().http_read_timeout, 15, GATEWAY_TIME, "head_of_a_request_must_come_in_15"),
    Number("body in time", limits.Limits().http_read_timeout, 15, GATEWAY_TIME, "body_of_a_request_must_come_in_15"),
    Number("Nextcloud request", config.NextcloudSection().timeout, 10, NEXTCLOUD_TIME, "answer_in_10_seconds"),
    Number("SFU request", MediaLimits().timeout, 10, GATEWAY_TIME, "waits_10_seconds_for_the_stream"),
    Number("request to Janus", config.McuSection().timeout, 10, JANUS_TIME, "fails_after_10_seconds"),
    Number("keep-alive ping", room.PING_INTERVAL, 10, GATEWAY_TIME, "sent_every_10_seconds"),
    Number("requests per host", config.NextcloudSection().connections_per_host, 8, NEXTCLOUD_TIME, "eight_requests"),
    Number("capabilities cache", capabilities.MIN_AGE, 60, CACHE, "cached_for_max_age_but_at_least_a_minute"),
    Number("forced refresh", capabilities.FORCE_INTERVAL, 60, CACHE, "refresh_is_forced_once_a_minute"),
    Number("JWT leeway", token.LEEWAY, 60, "gateway/wire/test_token.py", "times_of_a_token_are_checked_in_order"),
    Number("internal random", hello.MIN_INTERNAL_RANDOM, 32, INTERNAL, "client_is_refused"),
    Number(
        "signed random",
        len(NextcloudClient("", (), clock=float)._random()),
        64,
        "gateway/edge/nextcloud/test_client.py",
        "headers_are_those_that_nextcloud_expects",
    ),
    Number("dialout wait", dialout.ANSWER_TIMEOUT, 25, GATEWAY_TIME, "must_be_accepted_in_25_seconds"),
    Number(
        "status after the end",
        dialout.ENDED_TTL,
        5 * transient.NANOSECONDS,
        DIALOUT,
        "five",
    ),
    Number(
        "unshareScreen",
        signaling.UNSHARE_DELAY,
        1,
        "gateway/flows/media/test_endings.py",
        "unshared_screen_ends_a_second_later",
    ),
    Number("TURN credentials", turn.LIFETIME, 86400, "gateway/edge/test_turn.py", "valid_for_a_day"),
    Number("throttle base", throttle.FIRST_DELAY, 0.1, THROTTLE, "delay_doubles_from_100_ms_to_25_s"),
    Number("throttle most", throttle.MAX_DELAY, 25, THROTTLE, "delay_doubles_from_100_ms_to_25_s"),
    Number("throttle attempts", throttle.MAX_FAILURES, 10, THROTTLE, "ten_failures_block_and_nine_do_not"),
    Number("throttle window", throttle.BLOCK_WINDOW, 1800, THROTTLE, "over_30_minutes_old"),
    Number("throttle failure lifetime", throttle.FAILURE_LIFETIME, 43200, THROTTLE, "remembered_for_12_hours"),
    Number("reconnect to Janus", back_off.BACK_OFF, (1, 2, 4, 8, 16), JANUS_TIME, "refuses_it_after_1_to_16_seconds"),
    # Janus ends a session after 60 s without a request.
    Number("Janus keepalive", janus_session.KEEPALIVE, 3, JANUS_TIME, "keepalive_every_3_seconds"),
    Number(
        "stream bitrate", config.McuSection().max_stream_bitrate, 1048576, "gateway/config/test_loading.py", "defaults"
    ),
    Number(
        "screen bitrate", config.McuSection().max_screen_bitrate, 2097152, "gateway/config/test_loading.py", "defaults"
    ),
)


# reference 17-a
@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: str(number.subject))
def test_number_has_its_value_and_a_test(number: Number) -> None:
    assert number.actual == number.expected
    tests = re.findall(r"^(?:async )?def (test_\w+)", (ROOT / number.file).read_text(), re.M)
    assert [test for test in tests if number.test in test]
