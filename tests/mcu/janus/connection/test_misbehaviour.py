"""Answers, errors and missing answers that a real Janus cannot be made to produce at these moments."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from typing import Any

import pytest
from aiohttp import web

from mcu.base import McuLost, McuTimeout, PublishOptions, Rejected, SfuState
from mcu.janus.backend import JanusMcu
from mcu.janus.connection.messages import PLUGIN, HandleInfo, JanusError, JanusMessage, parse
from mcu.janus.connection.transactions import Expect
from mcu.janus.connection.web_socket import NoConnection
from mcu.janus.settings import JanusServerSettings
from tests.mcu.descriptions import parse_frozen
from tests.mcu.janus.conftest import CAMERA, WAIT, RecordedStates, WaitableListener
from tests.mcu.janus.fake_janus import OFFER, FakeJanus

LATE_SUCCESS = {"janus": "success", "data": {"id": 7}}


class FailingListener:
    """A listener of a handle that raises whenever it is called."""

    def on_event(self, message: JanusMessage) -> None:
        raise ZeroDivisionError

    def on_refused(self, body: Mapping[str, Any], error: JanusError) -> None:
        raise ZeroDivisionError

    def on_claimed(self) -> None:
        raise ZeroDivisionError

    def on_handle_info(self, info: HandleInfo) -> None:
        raise ZeroDivisionError

    def on_lost(self) -> None:
        raise ZeroDivisionError


async def ready_mcu(fake: FakeJanus, states: RecordedStates, request_timeout: float = WAIT) -> JanusMcu:
    mcu = JanusMcu((JanusServerSettings(fake.url),), timeout=request_timeout)
    await mcu.start(states)
    await states.until(lambda status: status.ready)
    return mcu


async def test_a_janus_without_data_channels_is_refused_with_one_sentence(
    states: RecordedStates, caplog: pytest.LogCaptureFixture
) -> None:
    async with FakeJanus() as fake:
        fake.answers["info"] = {"janus": "server_info", "data_channels": False, "plugins": {PLUGIN: {}}}
        mcu = JanusMcu((JanusServerSettings(fake.url),), timeout=WAIT)
        await mcu.start(states)
        status = await states.until(lambda status: status.sfus[0].state is SfuState.REFUSED)
        assert status.sfus[0].reason == "this Janus was built without data channels"
        with pytest.raises(Rejected, match="data channels"):
            await mcu.publish(CAMERA, parse_frozen(OFFER), PublishOptions(), WaitableListener())
        await mcu.stop()
    assert len([record for record in caplog.records if "data channels" in record.getMessage()]) == 1


async def test_invalid_and_unexpected_messages_are_ignored(
    states: RecordedStates, caplog: pytest.LogCaptureFixture
) -> None:
    async with FakeJanus() as fake:
        mcu = await ready_mcu(fake, states)
        for text in ("garbage", "[]", '{"janus":"ack","transaction":"999"}', '{"janus":"event","sender":5}', "{}"):
            await fake.send(text)
        await fake.send('{"janus":"claimed"}')
        session = await mcu.session()
        await session.request("keepalive", Expect.ACK)
        assert mcu.status().ready
        await mcu.stop()
    assert "garbage" not in caplog.text


async def test_a_listener_that_raises_does_not_stop_the_reader(
    states: RecordedStates, caplog: pytest.LogCaptureFixture
) -> None:
    async with FakeJanus() as fake:
        mcu = await ready_mcu(fake, states)
        session = await mcu.session()
        handle = await session.attach("clumsy", FailingListener())
        await fake.send(json.dumps({"janus": "webrtcup", "sender": handle.id}))
        await session.request("keepalive", Expect.ACK)
        assert "not handled: webrtcup" in caplog.text
        handle.detach()
        handle.receive(parse('{"janus":"webrtcup"}'))  # the handle has no listener any more
        await mcu.stop()


async def test_a_listener_that_raises_does_not_prevent_a_claim_or_a_new_session(
    states: RecordedStates, caplog: pytest.LogCaptureFixture
) -> None:
    async with FakeJanus() as fake:
        info = {"janus": "server_info", "data_channels": True, "plugins": {PLUGIN: {}}, "reclaim-session-timeout": 5}
        fake.answers["info"] = info
        mcu = await ready_mcu(fake, states)
        session = await mcu.session()
        await session.attach("clumsy", FailingListener())
        await fake.sockets[-1].close()
        await states.until(lambda status: not status.ready)
        await states.until(lambda status: status.ready)
        assert "not handled: claimed" in caplog.text
        fake.answers["claim"] = {"janus": "error", "error": {"code": 458, "reason": "No such session"}}
        await fake.sockets[-1].close()
        await states.until(lambda status: not status.ready)
        await states.until(lambda status: status.ready)
        assert "not handled: lost" in caplog.text
        assert await mcu.session() is not session
        await mcu.stop()


async def test_a_session_that_janus_does_not_know_any_more_is_replaced_by_a_new_one(states: RecordedStates) -> None:
    async with FakeJanus() as fake:
        mcu = await ready_mcu(fake, states)
        session = await mcu.session()
        fake.answers["keepalive"] = {"janus": "error", "error": {"code": 458, "reason": "No such session"}}
        with pytest.raises(McuLost, match="no such session"):
            await session.request("keepalive", Expect.ACK)
        await states.until(lambda status: not status.ready)
        with pytest.raises(McuLost):
            await session.request("keepalive", Expect.ACK)
        await states.until(lambda status: status.ready)
        assert len(fake.sockets) == 2
        await mcu.stop()


@pytest.fixture
def short_time_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the time limits, so that a stall is detected after 0.2 s."""
    monkeypatch.setattr("mcu.janus.connection.session.KEEPALIVE", 0.1)
    monkeypatch.setattr("mcu.janus.connection.session.STALLED_AFTER", 0.1)
    monkeypatch.setattr("mcu.janus.connection.connector.MIN_LIFETIME", 0.1)
    monkeypatch.setattr("mcu.janus.connection.connector.ANSWER_WAIT", 0.1)
    monkeypatch.setattr("mcu.janus.connection.connector.PROBE_INTERVAL", 0.05)


async def until_stalled(fake: FakeJanus, states: RecordedStates) -> str:
    """Stop answering keepalives, wait until Janus has stalled, and return the last keepalive's transaction."""
    fake.answers["keepalive"] = None
    await states.until(lambda status: status.sfus[0].reason == "Janus does not answer any more")
    transaction: str = [request for request in fake.requests if request["janus"] == "keepalive"][-1]["transaction"]
    return transaction


@pytest.mark.usefixtures("short_time_limits")
async def test_requests_during_a_stall_wait_and_are_sent_over_the_same_connection(
    states: RecordedStates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcu.janus.connection.connector.ANSWER_WAIT", WAIT)
    async with FakeJanus() as fake:
        mcu = await ready_mcu(fake, states)
        session = await mcu.session()
        transaction = await until_stalled(fake, states)
        control, sent_before = session.control.id, len(fake.requests)
        first = asyncio.create_task(session.attach("first", None))
        given_up = asyncio.create_task(session.attach("second", None))
        await asyncio.sleep(0)
        given_up.cancel()
        del fake.answers["keepalive"]
        await fake.sockets[0].send_json({"janus": "ack", "transaction": transaction})
        await states.until(lambda status: status.ready)
        handle = await first
        assert [request["opaque_id"] for request in fake.requests[sent_before:] if request["janus"] == "attach"] == [
            "first"
        ]
        assert (handle.session, session.control.id, session.lost) == (session, control, False)
        assert not [request for request in fake.requests if request["janus"] == "claim"]
        await mcu.stop()


@pytest.mark.usefixtures("short_time_limits")
async def test_a_session_whose_connection_is_dead_is_claimed_over_another_before_the_dead_one_is_closed(
    states: RecordedStates,
) -> None:
    async with FakeJanus() as fake:
        fake.answers["claim"] = {"janus": "success"}
        mcu = await ready_mcu(fake, states)  # without a reclaim timeout
        session = await mcu.session()
        await until_stalled(fake, states)
        await fake.until("claim")
        dead = fake.sockets[0]
        assert not dead.closed
        del fake.answers["keepalive"]
        await states.until(lambda status: status.ready)
        assert await mcu.session() is session
        async with asyncio.timeout(WAIT):
            while not dead.closed:  # noqa: ASYNC110  the server's socket has no event of it
                await asyncio.sleep(0.01)
        await mcu.stop()


@pytest.mark.usefixtures("short_time_limits")
@pytest.mark.parametrize("gone", [True, False])
async def test_a_janus_that_stays_away_loses_its_session(
    states: RecordedStates, monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    monkeypatch.setattr("mcu.janus.connection.connector.UNREACHABLE_TIMEOUT", 0.3)
    failure = NoConnection("away", gone=gone, reached=False)

    async def fail(*_: object) -> None:
        raise failure

    async with FakeJanus() as fake:
        mcu = await ready_mcu(fake, states)
        session = await mcu.session()
        with monkeypatch.context() as unreachable:
            unreachable.setattr("mcu.janus.connection.connector.JanusConnector._open_socket", fail)
            await until_stalled(fake, states)
            async with asyncio.timeout(WAIT):
                while not session.lost:  # noqa: ASYNC110  a session has no event of it
                    await asyncio.sleep(0.01)
        del fake.answers["keepalive"]
        await states.until(lambda status: status.ready)
        assert await mcu.session() is not session
        await mcu.stop()


@pytest.mark.usefixtures("short_time_limits")
async def test_a_refused_keepalive_makes_the_gateway_connect_anew(states: RecordedStates) -> None:
    async with FakeJanus() as fake:
        mcu = await ready_mcu(fake, states)
        fake.answers["keepalive"] = {"janus": "error", "error": {"code": 403, "reason": "Unauthorized"}}
        await states.until(lambda status: status.sfus[0].reason == "Janus refused a keepalive")
        del fake.answers["keepalive"]
        await states.until(lambda status: status.ready)
        assert len(fake.sockets) == 2
        await mcu.stop()


async def test_an_unanswered_claim_is_repeated_and_abandoned_in_time(
    states: RecordedStates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcu.janus.connection.connector.CONNECT_TIMEOUT", 0.1)
    async with FakeJanus() as fake:
        info = {"janus": "server_info", "data_channels": True, "plugins": {PLUGIN: {}}, "reclaim-session-timeout": 1}
        fake.answers["info"] = info
        fake.answers["claim"] = None
        mcu = await ready_mcu(fake, states)
        session = await mcu.session()
        for answered in (True, False):
            await fake.sockets[-1].close()
            await states.until(lambda status: not status.ready)
            await fake.until("claim", 2)
            assert states.statuses[-1].sfus[0].state is SfuState.CONNECTING
            if answered:
                fake.answers["claim"] = {"janus": "success"}
            await states.until(lambda status: status.ready)
            assert ((await mcu.session()) is session) is answered
            fake.answers["claim"] = None
            fake.requests.clear()
        assert session.lost
        with pytest.raises(McuLost):
            await session.claim()
        await mcu.stop()


async def test_the_gateway_connects_again_to_a_janus_that_does_not_answer(
    states: RecordedStates, caplog: pytest.LogCaptureFixture
) -> None:
    async with FakeJanus() as fake:
        fake.answers["info"] = None
        mcu = JanusMcu((JanusServerSettings(fake.url),), timeout=0.2)
        await mcu.start(states)
        await states.until(lambda status: status.sfus[0].reason == "it does not answer")
        del fake.answers["info"]
        await states.until(lambda status: status.ready)
        await mcu.stop()
    assert caplog.text.count("it does not answer") == 1


async def test_a_handle_whose_attach_is_answered_late_is_detached(states: RecordedStates) -> None:
    async with FakeJanus() as fake:
        mcu = await ready_mcu(fake, states)
        fake.answers["attach"] = None
        with pytest.raises(McuTimeout):
            await mcu.publish(CAMERA, parse_frozen(OFFER), PublishOptions(timeout=0.1), WaitableListener())
        attach = await fake.until("attach", 2)
        late = {"janus": "success", "transaction": attach["transaction"], "data": {"id": 4711}}
        await fake.send(json.dumps(late))
        assert (await fake.until("detach"))["handle_id"] == 4711
        await mcu.stop()


async def test_a_success_in_the_turn_of_the_cancellation_is_undone(states: RecordedStates) -> None:
    async with FakeJanus() as fake:
        mcu = await ready_mcu(fake, states)
        session = await mcu.session()
        undone: list[int] = []
        fake.answers["attach"] = None
        for turns in range(3):  # the answer arrives before, in and after the turn in which the task is cancelled
            for answered_first in (False, True):
                requesting = asyncio.create_task(
                    session.request("attach", undo=lambda late: undone.append(late.data.id))
                )
                attach = await fake.until("attach", 2 + 2 * turns + answered_first)
                answer = parse(json.dumps({**LATE_SUCCESS, "transaction": attach["transaction"]}))
                if answered_first:
                    session.receive(answer)
                requesting.cancel()
                for _ in range(turns):
                    await asyncio.sleep(0)
                if not answered_first:
                    session.receive(answer)
                await asyncio.wait([requesting])
                assert requesting.cancelled()
        assert undone == [7] * 6
        await mcu.stop()


async def test_an_unanswered_request_of_a_detached_handle_raises_mcu_lost(
    states: RecordedStates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcu.janus.connection.handle.ANSWER_TIMEOUT", 0.05)
    async with FakeJanus() as fake:
        mcu = await ready_mcu(fake, states)
        handle = await (await mcu.session()).attach("silent", None)
        fake.answers["message"] = None
        requesting = [asyncio.create_task(handle.request({"request": "configure"})) for _ in range(2)]
        given_up = asyncio.create_task(handle.request({"request": "configure"}))
        await fake.until("message", 4)
        given_up.cancel()
        detached = handle.detach()
        async with asyncio.timeout(WAIT):
            for task in requesting:
                with pytest.raises(McuLost):
                    await task
            await detached
        assert [request["handle_id"] for request in fake.requests if request["janus"] == "detach"] == [handle.id]
        await mcu.stop()


async def test_a_plugin_error_in_a_success_is_an_error(states: RecordedStates) -> None:
    async with FakeJanus() as fake:
        mcu = await ready_mcu(fake, states)
        data = {"videoroom": "event", "error_code": 429, "error": "Missing element (admin_key)"}
        fake.answers["message"] = {"janus": "success", "plugindata": {"plugin": PLUGIN, "data": data}}
        with pytest.raises(Rejected, match="429"):
            await mcu.publish(CAMERA, parse_frozen(OFFER), PublishOptions(), WaitableListener())
        await fake.until("detach")
        await mcu.stop()


async def test_a_room_number_that_exists_is_replaced_by_another(states: RecordedStates) -> None:
    async with FakeJanus() as fake:
        mcu = await ready_mcu(fake, states)
        checked = len(fake.requests)
        data = {"videoroom": "event", "error_code": 427, "error": "Room already exists"}
        fake.answers["message"] = {"janus": "success", "plugindata": {"plugin": PLUGIN, "data": data}}
        publishing = asyncio.create_task(
            mcu.publish(CAMERA, parse_frozen(OFFER), PublishOptions(timeout=1), WaitableListener())
        )
        await fake.until("message", 5)
        publishing.cancel()
        await asyncio.wait([publishing])
        numbers = [request["body"]["room"] for request in fake.requests[checked:] if "room" in request.get("body", {})]
        assert len(set(numbers)) == len(numbers)
        await mcu.stop()


async def test_no_secret_and_no_description_reaches_the_log(
    states: RecordedStates, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with FakeJanus() as fake:
        mcu = JanusMcu((JanusServerSettings(fake.url, api_secret="hush-hush", token="tock-en"),), timeout=WAIT)
        await mcu.start(states)
        await states.until(lambda status: status.ready)
        assert fake.requests[0]["apisecret"] == "hush-hush"
        assert fake.requests[0]["token"] == "tock-en"
        fake.answers["attach"] = {"janus": "error", "error": {"code": 403, "reason": "Unauthorized"}}
        with pytest.raises(Rejected):
            await mcu.publish(CAMERA, parse_frozen(OFFER), PublishOptions(), WaitableListener())
        await mcu.stop()
    for private in ("hush-hush", "tock-en", "127.0.0.1", "ice-ufrag", "anna"):
        assert private not in caplog.text


class FlappingJanus(FakeJanus):
    """A Janus that refuses claims, and closes each connection as soon as its session can be used."""

    async def answer(self, socket: web.WebSocketResponse, received: dict[str, Any]) -> None:
        await super().answer(socket, received)
        if received.get("body", {}).get("request") == "destroy":  # of the room that was created on trial
            await socket.close()


async def test_a_janus_that_closes_each_connection_is_not_tried_again_and_again_without_a_pause(
    states: RecordedStates, monkeypatch: pytest.MonkeyPatch
) -> None:
    paused = asyncio.Event()

    def back_off(*_: float) -> float:
        paused.set()
        return 3600.0

    monkeypatch.setattr("mcu.janus.connection.connector.back_off", back_off)
    async with FlappingJanus() as fake:
        info = {"janus": "server_info", "data_channels": True, "plugins": {PLUGIN: {}}, "reclaim-session-timeout": 5}
        fake.answers["info"] = info
        fake.answers["claim"] = {"janus": "error", "error": {"code": 458, "reason": "No such session"}}
        mcu = JanusMcu((JanusServerSettings(fake.url),), timeout=WAIT)
        await mcu.start(states)
        async with asyncio.timeout(WAIT):
            await paused.wait()
        assert len(fake.sockets) <= 3
        await mcu.stop()
