"""The doctor's checks of a real Janus: wrong settings, and a Janus that does not run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from gateway.tools.doctor.janus import ExaminedJanus, check_events, check_reclaim, check_version, connect_janus
from gateway.tools.doctor.steps import Outcome
from mcu.janus.settings import JanusServerSettings
from tests.janus_process import ADMIN_KEY, API_SECRET, JanusProcess
from tests.ports import free_ports

REQUEST_LIMIT = 60.0  # seconds


@pytest.fixture
async def running_janus() -> AsyncIterator[JanusProcess]:
    async with JanusProcess() as janus:
        yield janus


def settings(janus: JanusProcess, **other: Any) -> JanusServerSettings:
    right = JanusServerSettings(janus.url, api_secret=API_SECRET, admin_key=ADMIN_KEY)
    return msgspec.structs.replace(right, **other)


async def janus_outcome(janus: JanusProcess, **other: Any) -> Outcome:
    return await connect_janus(ExaminedJanus(settings(janus, **other)), REQUEST_LIMIT)


async def test_usable_janus_is_ok_and_no_handle_is_left_on_it(running_janus: JanusProcess) -> None:
    examined = ExaminedJanus(settings(running_janus))
    outcome = await connect_janus(examined, REQUEST_LIMIT)
    assert (outcome.state, outcome.cause) == ("ok", "")
    assert (await check_reclaim(examined)).state == "ok"
    version = await check_version(examined)
    old = running_janus.installation.version == "1.1"
    assert (version.state, "lacks security fixes" in version.cause) == (("warning", True) if old else ("ok", False))
    assert await running_janus.handles() == []
    assert await running_janus.rooms() == []


async def test_each_wrong_setting_of_a_janus_is_named(running_janus: JanusProcess) -> None:
    other = "0" * 32
    wrong: list[tuple[dict[str, Any], str, str]] = [
        ({"api_secret": other}, "refuses the gateway's requests", "the api_secret of janus.jcfg"),
        ({"admin_key": other}, "another admin_key", "compare mcu.janus.admin_key"),
        ({"admin_key": ""}, "has an admin_key", "set mcu.janus.admin_key"),
        ({"url": running_janus.admin_url}, "admin port", "ws_port"),
        ({"url": running_janus.url.replace("ws:", "wss:")}, "wss towards a plain port", "mcu.janus.url"),
        ({"url": f"ws://127.0.0.1:{free_ports(1)[0]}"}, "connection refused", "start Janus"),
        ({"url": "ws://janus.invalid:8188"}, "its name does not resolve", "mcu.janus.url"),
    ]
    for changed, cause, change in wrong:
        outcome = await janus_outcome(running_janus, **changed)
        assert outcome.state == "failed"
        assert cause in outcome.cause
        assert change in outcome.change
    assert (await janus_outcome(running_janus)).state == "ok"


async def test_missing_event_handler_of_janus_is_a_warning(running_janus: JanusProcess) -> None:
    examined = ExaminedJanus(settings(running_janus))
    await connect_janus(examined, REQUEST_LIMIT)
    without = await check_events(examined)
    assert (without.state, "janus.eventhandler.wsevh.jcfg" in without.change) == ("warning", True)
    async with JanusProcess(EVENTS_URL=f"ws://127.0.0.1:{free_ports(1)[0]}/spreed") as janus:
        examined = ExaminedJanus(settings(janus))
        await connect_janus(examined, REQUEST_LIMIT)
    assert (await check_events(examined)).state == "ok"


async def test_janus_that_keeps_no_session_is_a_warning() -> None:
    examined = ExaminedJanus(JanusServerSettings("ws://127.0.0.1:8188"), version="1.4.1", reclaim_timeout=0)
    outcome = await check_reclaim(examined)
    assert outcome.state == "warning"
    assert "reclaim_session_timeout = 10" in outcome.change
