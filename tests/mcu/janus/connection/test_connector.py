"""The connection to a Janus that is unreachable, refuses, freezes, is killed or answers late, and its streams."""

from __future__ import annotations

import asyncio
import logging
import re
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import msgspec
import pytest

from mcu.base import (
    CloseReason,
    McuLost,
    McuTimeout,
    Publisher,
    PublishOptions,
    Rejected,
    SfuState,
    SubscribeOptions,
)
from mcu.janus.backend import JanusMcu
from mcu.janus.connection.connector import NO_ATTEMPT
from mcu.janus.connection.messages import PLUGIN
from mcu.janus.connection.session import JanusSession
from mcu.janus.settings import JanusServerSettings
from sdp.document import kinds
from tests.janus_process import ADMIN_KEY, API_SECRET, ROOT, JanusProcess, compile_library
from tests.mcu.janus.behind_proxy import JanusBehindProxy, proxied_janus
from tests.mcu.janus.conftest import (
    CAMERA,
    PUBLISH,
    SCREEN,
    WAIT,
    JanusCall,
    RecordedStates,
    WaitableListener,
    offer_of_closed_peer,
    settings_for,
    until_room_count,
)
from tests.mcu.janus.fake_janus import FakeJanus
from tests.mcu.janus.tcp_proxy import TcpProxy
from tests.ports import free_ports

__all__ = ["proxied_janus"]

pytestmark = pytest.mark.usefixtures("janus_version")


async def publish_unconnected(
    mcu: JanusMcu, options: PublishOptions = PUBLISH, listener: WaitableListener | None = None
) -> Publisher:
    """Publish a stream whose client never connects."""
    publisher, _ = await mcu.publish(CAMERA, await offer_of_closed_peer(), options, listener or WaitableListener())
    return publisher


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


async def test_a_janus_without_videoroom_is_refused_with_one_sentence(states: RecordedStates, loopback: None) -> None:
    async with JanusProcess(PLUGINS="", DATACHANNELS="") as process:
        mcu = JanusMcu((settings_for(process),), timeout=WAIT)
        await mcu.start(states)
        status = await states.until(lambda status: status.sfus[0].state is SfuState.REFUSED)
        assert status.sfus[0].reason == "this Janus has no VideoRoom plugin (janus.plugin.videoroom)"
        with pytest.raises(Rejected, match="no VideoRoom"):
            await publish_unconnected(mcu)
        await mcu.stop()


async def test_an_unknown_plugin_interface_is_a_restriction_in_log_and_status(
    states: RecordedStates, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    library = compile_library(ROOT / "janus-config" / "datachannels.c", tmp_path, "-DOLDEST_API=1", "-DNEWEST_API=1")
    async with JanusProcess(DATACHANNELS=str(library)) as process:
        mcu = JanusMcu((settings_for(process),), timeout=WAIT)
        await mcu.start(states)
        status = await states.until(lambda status: status.ready)
        assert re.fullmatch(
            r"VideoRoom of this Janus works without janus-config/datachannels.c, which does not know plugin interface "
            r"10\d: labels of data channels are lost",
            status.sfus[0].restriction,
        )
        assert status.sfus[0].restriction in caplog.text
        await mcu.stop()


async def test_the_recommended_version_is_logged_once_with_an_older_janus(
    states: RecordedStates, caplog: pytest.LogCaptureFixture
) -> None:
    async with FakeJanus() as fake:
        info = {"janus": "server_info", "data_channels": True, "plugins": {PLUGIN: {}}}
        mcu = JanusMcu((JanusServerSettings(fake.url),), timeout=WAIT)
        for version, warnings in (("1.4.0", 1), ("1.4.0", 1), ("1.4.1", 1), ("1.10.0", 1), ("2.0", 1), ("1.3.9", 2)):
            fake.answers["info"] = {**info, "version_string": version}
            if states.statuses:
                await fake.sockets[-1].close()
                await states.until(lambda status: not status.ready)
            else:
                await mcu.start(states)
            status = await states.until(lambda status: status.ready)
            assert status.sfus[0].version == version
            assert caplog.text.count("lacks security fixes; 1.4.1 is the oldest") == warnings
        await mcu.stop()


async def test_a_wrong_secret_is_refused_and_not_repeated_in_the_log(
    janus: JanusProcess, states: RecordedStates, caplog: pytest.LogCaptureFixture
) -> None:
    mcu = JanusMcu((JanusServerSettings(janus.url, api_secret="not-the-secret"),), timeout=WAIT)
    await mcu.start(states)
    status = await states.until(lambda status: status.sfus[0].state is SfuState.REFUSED)
    assert "compare mcu.janus.api_secret with the api_secret in janus.jcfg" in status.sfus[0].reason
    assert "not-the-secret" not in caplog.text
    await mcu.stop()


@pytest.mark.parametrize(
    ("edits", "admin_key", "reason"),
    [
        ({}, "wrong", "this gateway's configuration: compare mcu.janus.admin_key with"),
        ({}, "", "this gateway's configuration none: set mcu.janus.admin_key"),
        (
            {"string_ids = false": "string_ids = true"},
            ADMIN_KEY,
            "VideoRoom of this Janus has string_ids = true; this gateway needs numbers (string_ids = false)",
        ),
    ],
)
async def test_a_janus_that_creates_no_rooms_is_refused_with_one_sentence_and_nothing_is_left(
    edits: dict[str, str],
    admin_key: str,
    reason: str,
    states: RecordedStates,
    loopback: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    process = JanusProcess()
    process.edits = edits
    async with process:
        mcu = JanusMcu((JanusServerSettings(process.url, api_secret=API_SECRET, admin_key=admin_key),), timeout=WAIT)
        await mcu.start(states)
        status = await states.until(lambda status: status.sfus[0].state is SfuState.REFUSED)
        assert reason in status.sfus[0].reason
        assert reason in caplog.text
        assert await process.handles() == []  # although Janus would keep a session to be claimed
        with pytest.raises(Rejected, match="VideoRoom of this Janus has"):
            await publish_unconnected(mcu)
        if not edits:
            assert await process.rooms() == []
            await mcu.reconfigure((settings_for(process),))
            await states.until(lambda status: status.ready)
        await mcu.stop()


async def test_another_refusal_of_rooms_is_quoted_and_an_old_janus_is_refused(states: RecordedStates) -> None:
    async with FakeJanus() as fake:
        data = {"videoroom": "event", "error_code": 499, "error": "Out of memory"}
        fake.answers["message"] = {"janus": "success", "plugindata": {"plugin": PLUGIN, "data": data}}
        mcu = JanusMcu((JanusServerSettings(fake.url),), timeout=WAIT)
        await mcu.start(states)
        status = await states.until(lambda status: status.sfus[0].state is SfuState.REFUSED)
        assert status.sfus[0].reason == "VideoRoom of this Janus creates no rooms: Janus: Out of memory (499)"
        await fake.until("destroy")
        old = {"janus": "server_info", "data_channels": True, "plugins": {PLUGIN: {}}, "version_string": "0.15.3"}
        fake.answers["info"] = old
        await states.until(lambda status: "this is Janus 0.15.3" in status.sfus[0].reason)
        await mcu.stop()


async def test_a_trial_room_whose_creation_is_interrupted_is_removed_and_the_trial_repeated(
    proxied_janus: JanusBehindProxy,
) -> None:
    proxied_janus.proxy.drop_next('"videoroom":"created"')
    await proxied_janus.start_call()
    assert proxied_janus.proxy.dropped.is_set()
    await until_room_count(proxied_janus.janus, 0)


async def test_a_token_is_accepted_by_a_janus_that_requires_one(states: RecordedStates) -> None:
    async with JanusProcess(TOKEN_AUTH="true", API_SECRET="") as process:
        stranger = JanusMcu((JanusServerSettings(process.url, token="unknown", admin_key=ADMIN_KEY),), timeout=WAIT)
        await stranger.start(states)
        await states.until(lambda status: status.sfus[0].state is SfuState.REFUSED)
        await stranger.stop()
        await process.admin(janus="add_token", token="known", plugins=["janus.plugin.videoroom"])
        accepted = JanusMcu((JanusServerSettings(process.url, token="known", admin_key=ADMIN_KEY),), timeout=WAIT)
        await accepted.start(states)
        await states.until(lambda status: status.ready)
        await accepted.stop()


async def test_server_of_another_protocol_is_reported_as_not_janus(states: RecordedStates) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    (port,) = free_ports(1)
    async with await asyncio.start_server(refuse, "127.0.0.1", port):
        mcu = JanusMcu((JanusServerSettings(f"ws://127.0.0.1:{port}"),), timeout=WAIT)
        await mcu.start(states)
        await states.until(lambda status: "does not speak Janus" in status.sfus[0].reason)
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


async def test_a_changed_admin_key_holds_from_the_next_session_on(
    janus: JanusProcess, states: RecordedStates, loopback: None
) -> None:
    mcu = JanusMcu((settings_for(janus),), timeout=WAIT)
    await mcu.start(states)
    await states.until(lambda status: status.ready)
    await mcu.reconfigure((msgspec.structs.replace(settings_for(janus), admin_key="another"),))
    publisher = await publish_unconnected(mcu)
    await publisher.close()
    await janus.kill()
    janus.values["ADMIN_KEY"] = "another"
    await janus.start()
    await states.until(lambda status: not status.ready)
    await states.until(lambda status: status.ready)
    await publish_unconnected(mcu)
    await mcu.stop()


async def test_changed_settings_hold_from_the_next_attempt_on(janus: JanusProcess, states: RecordedStates) -> None:
    mcu = JanusMcu((JanusServerSettings(janus.url, api_secret="an old one"),), timeout=WAIT)
    await mcu.start(states)
    await states.until(lambda status: status.sfus[0].state is SfuState.REFUSED)
    await mcu.reconfigure((settings_for(janus),))
    await states.until(lambda status: status.ready)
    with pytest.raises(ValueError, match="there is no"):
        await mcu.reconfigure(())
    await mcu.stop()


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
