"""Dialouts: phone calls that Nextcloud requests (reference 11.6), in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.core.limits import Backend
from tests.gateway.flows.harness import CLOUD, OTHER_CLOUD, FakeClient, FlowHarness, Json
from tests.gateway.flows.virtual_time import settle

CALL = {"number": "+4930123", "options": {"anonymous": True}}
ACCEPTED_STATUS = {"callid": "c1", "status": "accepted"}


def code(answer: tuple[int, Json]) -> tuple[int, str]:
    return answer[0], answer[1]["error"]["code"]


@asynccontextmanager
async def pending_dialout(
    harness: FlowHarness, room: str = "12", call: Json = CALL
) -> AsyncIterator[asyncio.Task[tuple[int, Json]]]:
    task = asyncio.create_task(harness.dial_out(room, call))
    await settle()
    yield task


def send_answer(bridge: FakeClient, request: str, body: Json) -> None:
    bridge.send_internal("dialout", id=request, **body)


def send_status(bridge: FakeClient, status: Json, room: str = "12", request: str = "") -> None:
    send_answer(bridge, request, {"type": "status", "roomid": room, "status": status})


def dialout_request_id(bridge: FakeClient) -> str:
    (request,) = bridge.received()
    assert request["type"] == "internal"
    id: str = request["id"]
    return id


# reference 11.6-a
@pytest.mark.parametrize(
    ("room", "call", "error"),
    [
        ("12", {}, "number_missing"),
        ("x", {"number": ""}, "number_missing"),
        ("x", {"number": "030"}, "invalid_number"),
        ("12", {"number": "+1"}, "invalid_number"),
        ("12", {"number": "+49 30"}, "invalid_number"),
        ("12", {"number": "+49\n"}, "invalid_number"),
        ("12", {"number": "+٤٩٣٠"}, "invalid_number"),
        ("x12", CALL, "invalid_roomid"),
        ("", CALL, "invalid_roomid"),
        ("١٢", CALL, "invalid_roomid"),
    ],
)
async def test_malformed_dialout_is_refused(room: str, call: Json, error: str) -> None:
    async with FlowHarness() as harness:
        bridge = await harness.internal_hello("start-dialout")
        assert code(await harness.dial_out(room, call)) == (400, error)
        assert bridge.received() == []


# reference 11.6-b, 11.6-g
async def test_dialout_without_an_available_client_fails() -> None:
    async with FlowHarness() as harness:
        await harness.internal_hello()
        await harness.internal_hello("start-dialout", backend=OTHER_CLOUD)
        await harness.hello("alice", features=("start-dialout",))
        away = await harness.internal_hello("start-dialout")
        away.disconnect()
        busy = await harness.internal_hello("start-dialout")
        busy.join("12")
        await settle()
        assert code(await harness.dial_out("12", CALL)) == (404, "no_client_available")
        busy.leave()
        busy.received()
        async with pending_dialout(harness) as task:
            send_status(busy, ACCEPTED_STATUS, request=dialout_request_id(busy))
            assert await task == (200, {"callid": "c1"})


# reference 11.6-d, 11.6-e
async def test_accepted_call_is_answered_and_its_status_stored() -> None:
    async with FlowHarness() as harness:
        bridge, alice = await harness.internal_hello("start-dialout"), await harness.member("alice", "12")
        async with pending_dialout(harness) as task:
            (request,) = bridge.received()
            id = request["id"]
            assert len(id) == 32
            body = {"roomid": "12", "backend": CLOUD.urls[0], "request": CALL}
            assert request == {"id": id, "type": "internal", "internal": {"type": "dialout", "dialout": body}}
            send_status(bridge, ACCEPTED_STATUS, request=id)
            assert await task == (200, {"callid": "c1"})
        key = "callstatus_c1"
        assert alice.received() == [
            {"type": "transient", "transient": {"type": "set", "key": key, "value": ACCEPTED_STATUS}},
        ]
        send_status(bridge, {"callid": "c1", "status": "connected"})
        cleared = {"callid": "c1", "status": "cleared", "cause": "busy", "code": 486, "message": "Busy here"}
        send_status(bridge, cleared, request=id)
        connected, ended = alice.received()
        assert connected["transient"]["value"] == {"callid": "c1", "status": "connected"}
        assert ended["transient"]["value"] == cleared
        await asyncio.sleep(4.9)
        assert alice.received() == []
        await asyncio.sleep(0.2)
        assert alice.received() == [
            {"type": "transient", "transient": {"type": "remove", "key": key, "oldvalue": cleared}},
        ]
        assert bridge.received() == []


# reference 11.6-e
async def test_status_of_a_rejected_call_is_removed_after_five_seconds() -> None:
    async with FlowHarness() as harness:
        bridge, alice = await harness.internal_hello("start-dialout"), await harness.member("alice", "12")
        send_status(bridge, {"callid": "c", "status": "rejected"})
        await asyncio.sleep(5.1)
        assert [message["transient"]["type"] for message in alice.received()] == ["set", "remove"]


async def test_dialout_needs_no_known_room() -> None:
    async with FlowHarness() as harness:
        bridge = await harness.internal_hello("start-dialout")
        async with pending_dialout(harness, call={"number": "+49"}) as task:
            (request,) = bridge.received()
            assert request["internal"]["dialout"]["request"] == {"number": "+49"}
            send_status(bridge, ACCEPTED_STATUS, request=request["id"])
            assert await task == (200, {"callid": "c1"})
        assert not harness.hub.rooms


# reference 11.6-c
@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"type": "error", "error": {"code": "own", "message": "m", "details": [1.0]}}, "own"),
        ({"type": "status", "status": {"callid": "c", "status": "ringing"}}, "unsupported_status"),
        ({"type": "future"}, "unsupported_type"),
    ],
)
async def test_error_of_the_client_is_the_reply(body: Json, error: str) -> None:
    async with FlowHarness() as harness:
        bridge, alice = await harness.internal_hello("start-dialout"), await harness.member("alice", "12")
        async with pending_dialout(harness) as task:
            send_answer(bridge, dialout_request_id(bridge), {"roomid": "12", **body})
            result = await task
            assert code(result) == (502, error)
            if error == "own":
                assert result[1]["error"] == body["error"]
        assert alice.received() == bridge.received() == []


# reference 11.6-c
async def test_answer_of_another_type_fails_the_dialout() -> None:
    async with FlowHarness() as harness:
        bridge = await harness.internal_hello("start-dialout")
        async with pending_dialout(harness) as task:
            bridge.send_internal("incall", id=dialout_request_id(bridge))
            assert code(await task) == (502, "unsupported_type")


# reference 11.6-c
async def test_dialout_fails_without_an_answer_in_time() -> None:
    async with FlowHarness() as harness:
        bridge = await harness.internal_hello("start-dialout")
        started = harness.services.clock()
        async with pending_dialout(harness) as task:
            id = dialout_request_id(bridge)
            assert code(await task) == (502, "timeout")
        assert harness.services.clock() - started == pytest.approx(25, abs=0.01)
        alice = await harness.member("alice", "12")
        send_status(bridge, ACCEPTED_STATUS, request=id)
        assert [message["type"] for message in alice.received()] == ["transient"]


# reference 11.6-c
async def test_dialout_requests_go_to_one_client_after_another_and_the_first_failure_is_the_reply() -> None:
    async with FlowHarness() as harness:
        first, second = (
            await harness.internal_hello("start-dialout"),
            await harness.internal_hello("start-dialout"),
        )
        async with pending_dialout(harness) as task:
            refusal = {"type": "error", "error": {"code": "first"}}
            assert second.received() == []
            send_answer(first, dialout_request_id(first), refusal)
            await settle()
            send_answer(second, dialout_request_id(second), {"type": "error", "error": {"code": "second"}})
            assert code(await task) == (502, "first")
        async with pending_dialout(harness) as task:
            send_answer(first, dialout_request_id(first), refusal)
            await settle()
            send_status(second, ACCEPTED_STATUS, request=dialout_request_id(second))
            assert await task == (200, {"callid": "c1"})


# reference 11.6-d
async def test_clients_share_the_time_of_a_dialout() -> None:
    async with FlowHarness() as harness:
        bridges = [await harness.internal_hello("start-dialout") for _ in range(3)]
        started = harness.services.clock()
        async with pending_dialout(harness) as task:
            send_answer(bridges[0], dialout_request_id(bridges[0]), {"type": "error", "error": {"code": "first"}})
            await settle()
            dialout_request_id(bridges[1])
            await asyncio.sleep(12.6)
            dialout_request_id(bridges[2])
            assert code(await task) == (502, "first")
        assert harness.services.clock() - started == pytest.approx(25, abs=0.01)


# reference 11.6-i
async def test_repeated_request_does_not_dial_again_and_gets_the_same_reply() -> None:
    async with FlowHarness() as harness:
        bridge = await harness.internal_hello("start-dialout")
        async with pending_dialout(harness) as first, pending_dialout(harness) as second:
            dialout_request_id(bridge)
            assert code(await first) == code(await second) == (502, "timeout")
            assert code(await harness.dial_out("12", CALL)) == (502, "timeout")
            assert bridge.received() == []
        await asyncio.sleep(5)
        async with pending_dialout(harness) as later, pending_dialout(harness) as repeated:
            send_status(bridge, ACCEPTED_STATUS, request=dialout_request_id(bridge))
            assert await later == await repeated == await harness.dial_out("12", CALL) == (200, {"callid": "c1"})
            assert bridge.received() == []


# reference 11.6-i
async def test_dialout_that_a_client_refused_is_dialled_again() -> None:
    async with FlowHarness() as harness:
        assert code(await harness.dial_out("12", CALL)) == (404, "no_client_available")
        bridge = await harness.internal_hello("start-dialout")
        for _ in range(2):
            async with pending_dialout(harness) as task:
                send_answer(bridge, dialout_request_id(bridge), {"type": "error", "error": {"code": "no_trunk"}})
                assert code(await task) == (502, "no_trunk")


# reference 11.6-i
@pytest.mark.parametrize(
    ("room", "call"),
    [
        ("13", CALL),
        ("12", {**CALL, "number": "+4930124"}),
        ("12", {**CALL, "options": {"attendeeId": 7}}),
        ("12", {"number": CALL["number"]}),
    ],
)
async def test_another_call_is_dialled(room: str, call: Json) -> None:
    async with FlowHarness() as harness:
        bridge = await harness.internal_hello("start-dialout")
        async with pending_dialout(harness) as first:
            send_status(bridge, ACCEPTED_STATUS, request=dialout_request_id(bridge))
            await first
        async with pending_dialout(harness, room, call) as other:
            send_status(bridge, {**ACCEPTED_STATUS, "callid": "c2"}, request=dialout_request_id(bridge))
            assert await other == (200, {"callid": "c2"})


# reference 11.6-h
async def test_ended_client_fails_at_once_and_a_client_in_a_room_gets_no_dialout_request() -> None:
    async with FlowHarness() as harness:
        first, second = (
            await harness.internal_hello("start-dialout"),
            await harness.internal_hello("start-dialout"),
        )
        async with pending_dialout(harness) as task:
            second.join("x")
            await settle()
            second.received()
            first.send({"type": "bye"})
            assert code(await task) == (502, "error_notify")
        assert second.received() == []


async def test_end_of_another_client_does_not_fail_the_dialout() -> None:
    async with FlowHarness() as harness:
        bridge, other = await harness.internal_hello("start-dialout"), await harness.internal_hello()
        async with pending_dialout(harness) as task:
            id = dialout_request_id(bridge)
            other.send({"type": "bye"})
            await settle()
            assert not task.done()
            send_status(bridge, ACCEPTED_STATUS, request=id)
            bridge.send({"type": "bye"})
            assert (await task)[0] == 200


async def test_only_the_client_with_the_dialout_request_can_answer() -> None:
    async with FlowHarness() as harness:
        bridge, other = await harness.internal_hello("start-dialout"), await harness.internal_hello()
        async with pending_dialout(harness) as task:
            id = dialout_request_id(bridge)
            send_status(other, ACCEPTED_STATUS, request=id)
            send_status(bridge, ACCEPTED_STATUS)
            await settle()
            assert not task.done()
            send_status(bridge, {**ACCEPTED_STATUS, "callid": "c2"}, request=id)
            assert await task == (200, {"callid": "c2"})


# reference 11.6-f
@pytest.mark.parametrize(
    ("body", "sent"),
    [
        ({"type": "error", "error": {"code": "x", "message": "y"}}, {"error": {"code": "x", "message": "y"}}),
        ({"type": "future", "future": 1}, {}),
    ],
)
async def test_error_without_a_pending_dialout_is_sent_to_the_room(body: Json, sent: Json) -> None:
    async with FlowHarness() as harness:
        bridge, alice = await harness.internal_hello(), await harness.member("alice", "12")
        eve = await harness.member("eve", "12", backend=OTHER_CLOUD)
        send_answer(bridge, "any", {"roomid": "12", **body})
        send_answer(bridge, "any", {"roomid": "13", **body})
        assert alice.received() == [{"type": "dialout", "dialout": {"type": body["type"], **sent}}]
        assert eve.received() == bridge.received() == []


async def test_status_without_a_call_id_is_not_stored() -> None:
    async with FlowHarness() as harness:
        bridge, alice = await harness.internal_hello(), await harness.member("alice", "12")
        send_status(bridge, {"status": "ringing"})
        assert alice.received() == bridge.received() == []


async def test_status_code_is_an_integer() -> None:
    async with FlowHarness() as harness:
        bridge = await harness.internal_hello()
        send_status(bridge, {"callid": "c", "status": "cleared", "code": "486"})
        (error,) = bridge.received()
        assert error["error"]["code"] == "invalid_format"


# reference 11.6-d
@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("https://cloud.example:443/sub", "https://cloud.example/sub/"),
        ("https://elsewhere.example/", "https://cloud.example/"),
        ("", "https://cloud.example/"),
        ("text", "https://cloud.example/"),
    ],
)
async def test_dialout_request_has_the_backend_url_of_the_http_request(url: str, sent: str) -> None:
    assert await _sent_url(CLOUD, url) == sent


async def test_dialout_request_has_any_url_if_the_backend_has_no_urls() -> None:
    without_urls = Backend("cloud", (), "secret")
    assert await _sent_url(without_urls, "http://any.example") == "http://any.example/"


async def _sent_url(backend: Backend, url: str) -> str:
    async with FlowHarness() as harness:
        bridge = await harness.internal_hello("start-dialout")
        bridge.session.backend = backend
        task = asyncio.create_task(harness.dial_out("1", CALL, backend, url))
        await settle()
        (request,) = bridge.received()
        send_status(bridge, ACCEPTED_STATUS, request=request["id"])
        await task
        sent: str = request["internal"]["dialout"]["backend"]
        return sent
