"""The connection to a Janus that is unreachable, freezes, is killed or answers late, and its streams."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, suppress

import pytest

from mcu.base import (
    CloseReason,
    McuLost,
    McuTimeout,
    PublishOptions,
    SfuState,
    SubscribeOptions,
)
from mcu.janus.backend import JanusMcu
from mcu.janus.connection.connector import NO_ATTEMPT
from mcu.janus.connection.session import JanusSession
from mcu.janus.settings import JanusServerSettings
from sdp.document import kinds
from tests.janus_process import ADMIN_KEY, API_SECRET, JanusProcess
from tests.mcu.janus.behind_proxy import proxied_janus
from tests.mcu.janus.conftest import (
    CAMERA,
    PUBLISH,
    SCREEN,
    WAIT,
    JanusCall,
    RecordedStates,
    WaitableListener,
    offer_of_closed_peer,
    publish_unconnected,
    settings_for,
    until_room_count,
)
from tests.mcu.janus.tcp_proxy import TcpProxy
from tests.ports import free_ports

__all__ = ["proxied_janus"]

pytestmark = pytest.mark.usefixtures("janus_version")


async def test_a_janus_that_is_not_up_yet_is_waited_for(
    caplog: pytest.LogCaptureFixture, states: RecordedStates, loopback: None
) -> None:
    process = JanusProcess()
    mcu = JanusMcu((settings_for(process),), timeout=WAIT)
    await mcu.start(states)
    assert mcu.status().sfus[0].reason == NO_ATTEMPT  # it does not wait for the first attempt
    await states.until(lambda status: "refused" in status.sfus[0].reason)
    with pytest.raises(McuLost, match="not there"):
        await publish_unconnected(mcu, PublishOptions(timeout=0.2))
    publishing = asyncio.create_task(
        mcu.publish(CAMERA, await offer_of_closed_peer(), PublishOptions(timeout=30), WaitableListener())
    )
    async with process:
        publisher, answer = await publishing
        assert "audio" in kinds(answer)
        status = mcu.status()
        assert status.ready
        assert status.sfus[0].version.startswith(process.installation.version)
        assert status.sfus[0].publishers == 1
        await mcu.stop()
        assert await process.rooms() == []
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "cannot be used yet" in warnings.pop(0)
    old = process.installation.version == "1.1"
    assert ["lacks security fixes" in warning for warning in warnings] == [True] * old
    assert "127.0.0.1" not in caplog.text
    await publisher.close()


async def test_an_internal_error_is_logged_and_the_gateway_connects_again(
    janus: JanusProcess, states: RecordedStates, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(JanusSession):
        async def open(self) -> None:
            raise RuntimeError("an internal fault")

    monkeypatch.setattr("mcu.janus.connection.connector.JanusSession", Broken)
    mcu = JanusMcu((settings_for(janus),), timeout=WAIT)
    await mcu.start(states)
    await states.until(lambda status: status.sfus[0].reason == "an internal error")
    assert "an internal fault" in caplog.text
    monkeypatch.undo()
    await states.until(lambda status: status.ready)
    await mcu.stop()


async def test_a_killed_janus_ends_every_stream_at_once_and_is_connected_to_again(
    call: JanusCall, mcu: JanusMcu, janus: JanusProcess, states: RecordedStates, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, publisher = await call.publish()
    _, _, subscriber = await call.subscribe()
    waiting = asyncio.create_task(mcu.subscribe(SCREEN, SubscribeOptions(timeout=90), WaitableListener()))
    monkeypatch.setattr(mcu.server().connector, "_reclaim_timeout", 3600.0)  # only the refused connection tells
    await janus.kill()
    assert await publisher.close_reason() is CloseReason.LOST
    assert await subscriber.close_reason() is CloseReason.LOST
    assert states.statuses[-1].sfus[0].state is SfuState.CONNECTING
    await janus.start()
    await states.until(lambda status: status.ready)
    await call.publish(3, key=SCREEN)
    await (await waiting)[0].close()  # a subscriber that waits for a stream goes on waiting
    publisher_again, sender, _ = await call.publish(2)
    _, watcher, _ = await call.subscribe()
    await watcher.wait_for_tone(sender.frequency)
    await publisher_again.close()
    assert publisher.closed == [CloseReason.LOST]


async def test_pending_requests_fail_at_once_when_janus_is_killed(
    call: JanusCall, mcu: JanusMcu, janus: JanusProcess
) -> None:
    publisher, _, _ = await call.publish()
    janus.freeze()  # so that the requests below are pending when Janus is killed
    limiting = asyncio.create_task(publisher.limit(100_000))
    publishing = asyncio.create_task(mcu.publish(CAMERA, await offer_of_closed_peer(), PUBLISH, WaitableListener()))
    await asyncio.sleep(0)
    await janus.kill()
    with pytest.raises(McuLost):
        await limiting
    await mcu.stop()  # until then the publish would wait for a connection
    with pytest.raises(McuLost):
        await publishing


async def test_streams_that_janus_creates_after_the_time_limit_are_removed(
    mcu: JanusMcu, janus: JanusProcess, loopback: None
) -> None:
    janus.freeze()
    for _ in range(3):
        with pytest.raises(McuTimeout):
            await publish_unconnected(mcu, PublishOptions(timeout=0.2))
    janus.thaw()
    publisher = await publish_unconnected(mcu)
    await publisher.close()
    assert await janus.rooms() == []
    assert len(await janus.handles()) == 1  # the control handle


async def test_without_a_reclaim_timeout_a_broken_connection_ends_the_streams(
    states: RecordedStates, loopback: None
) -> None:
    async with JanusProcess(RECLAIM_TIMEOUT="0") as janus, TcpProxy(janus.values["WS_PORT"]) as proxy:
        listener = WaitableListener()
        settings = JanusServerSettings(proxy.url, api_secret=API_SECRET, admin_key=ADMIN_KEY)
        mcu = JanusMcu((settings,), timeout=WAIT)
        await mcu.start(states)
        await states.until(lambda status: status.ready)
        await publish_unconnected(mcu, listener=listener)
        proxy.cut()
        assert await listener.close_reason() is CloseReason.LOST
        assert len(await janus.rooms()) == 1
        publisher = await publish_unconnected(mcu)
        await until_room_count(janus, 1)
        await publisher.close()
        assert await janus.rooms() == []
        await mcu.stop()


async def test_a_second_gateway_on_the_same_janus_is_not_disturbed(
    call: JanusCall, janus: JanusProcess, loopback: None
) -> None:
    _, sender, _ = await call.publish()
    _, watcher, listener = await call.subscribe()
    states = RecordedStates()
    other = JanusMcu((settings_for(janus),), timeout=WAIT)
    await other.start(states)
    await states.until(lambda status: status.ready)
    publisher = await publish_unconnected(other)
    assert len(await janus.rooms()) == 2
    await other.stop()
    await watcher.wait_for_tone(sender.frequency)
    assert listener.closed == []
    assert len(await janus.rooms()) == 1
    await publisher.close()


async def test_stop_leaves_nothing_on_janus_and_may_be_repeated(
    call: JanusCall, mcu: JanusMcu, janus: JanusProcess
) -> None:
    await call.publish()
    await call.subscribe()
    await mcu.stop()
    await mcu.stop()
    assert await janus.rooms() == []
    assert await janus.handles() == []
    with pytest.raises(McuLost):
        await publish_unconnected(mcu)


@pytest.mark.full
async def test_a_session_that_expires_on_janus_is_lost_and_replaced_by_a_new_one(
    states: RecordedStates, loopback: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcu.janus.connection.session.KEEPALIVE", 3600.0)
    # The requests of the sweep keep the session alive, too.
    monkeypatch.setattr("mcu.janus.rooms.sweep.FIRST_PAUSES", (3600.0,))
    async with JanusProcess(SESSION_TIMEOUT="4") as process:
        mcu, listener = JanusMcu((settings_for(process),), timeout=WAIT), WaitableListener()
        await mcu.start(states)
        await publish_unconnected(mcu, listener=listener)
        assert await listener.close_reason(60) is CloseReason.LOST  # Janus' `timeout` names no sender
        await states.until(lambda status: status.ready)
        await mcu.stop()


@pytest.mark.full
async def test_a_session_is_kept_alive(states: RecordedStates, loopback: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcu.janus.connection.session.KEEPALIVE", 0.5)
    async with JanusProcess(SESSION_TIMEOUT="6") as process, AsyncExitStack() as stack:
        mcu = JanusMcu((settings_for(process),), timeout=WAIT)
        await mcu.start(states)
        call = JanusCall(mcu, stack)
        _, sender, listener = await call.publish()
        _, watcher, _ = await call.subscribe()
        with pytest.raises(TimeoutError):
            await listener.close_reason(9)
        await watcher.wait_for_tone(sender.frequency)
        await mcu.stop()


@pytest.mark.parametrize(("status", "reason"), [(502, "behind the proxy"), (404, "does not speak Janus")])
async def test_a_proxy_that_reports_janus_as_gone_loses_the_streams(
    janus: JanusProcess, loopback: None, status: int, reason: str
) -> None:
    states, listener = RecordedStates(), WaitableListener()

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):  # the gateway also tries whether there is TLS
            await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        writer.close()

    (port,) = free_ports(1)
    async with TcpProxy(janus.values["WS_PORT"]) as proxy, await asyncio.start_server(refuse, "127.0.0.1", port):
        mcu = JanusMcu((JanusServerSettings(proxy.url, api_secret=API_SECRET, admin_key=ADMIN_KEY),), timeout=WAIT)
        await mcu.start(states)
        await states.until(lambda now: now.ready)
        await publish_unconnected(mcu, listener=listener)
        proxy.port = port
        proxy.cut()
        await states.until(lambda now: reason in now.sfus[0].reason)
        assert listener.closed == ([CloseReason.LOST] if status == 502 else [])
        proxy.port = int(janus.values["WS_PORT"])
        await states.until(lambda now: now.ready)
        await mcu.stop()
