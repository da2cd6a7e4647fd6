"""A Janus that the backend cannot use, or only in part: its reason in status and log, and changed settings."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import msgspec
import pytest

from mcu.base import (
    Rejected,
    SfuState,
)
from mcu.janus.backend import JanusMcu
from mcu.janus.connection.messages import PLUGIN
from mcu.janus.settings import JanusServerSettings
from tests.janus_process import ADMIN_KEY, API_SECRET, ROOT, JanusProcess, compile_library
from tests.mcu.janus.behind_proxy import JanusBehindProxy, proxied_janus
from tests.mcu.janus.conftest import (
    WAIT,
    RecordedStates,
    publish_unconnected,
    settings_for,
    until_room_count,
)
from tests.mcu.janus.fake_janus import FakeJanus
from tests.ports import free_ports

__all__ = ["proxied_janus"]

pytestmark = pytest.mark.usefixtures("janus_version")


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
            mcu.reconfigure((settings_for(process),))
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


async def test_a_changed_admin_key_holds_from_the_next_session_on(
    janus: JanusProcess, states: RecordedStates, loopback: None
) -> None:
    mcu = JanusMcu((settings_for(janus),), timeout=WAIT)
    await mcu.start(states)
    await states.until(lambda status: status.ready)
    mcu.reconfigure((msgspec.structs.replace(settings_for(janus), admin_key="another"),))
    publisher = await publish_unconnected(mcu)
    await publisher.close()
    await janus.kill()
    await states.until(lambda status: not status.ready)  # before Janus is back
    janus.values["ADMIN_KEY"] = "another"
    await janus.start()
    await states.until(lambda status: status.ready)
    await publish_unconnected(mcu)
    await mcu.stop()


async def test_changed_settings_hold_from_the_next_attempt_on(janus: JanusProcess, states: RecordedStates) -> None:
    mcu = JanusMcu((JanusServerSettings(janus.url, api_secret="an old one"),), timeout=WAIT)
    await mcu.start(states)
    await states.until(lambda status: status.sfus[0].state is SfuState.REFUSED)
    mcu.reconfigure((settings_for(janus),))
    await states.until(lambda status: status.ready)
    with pytest.raises(ValueError, match="there is no"):
        mcu.reconfigure(())
    await mcu.stop()
