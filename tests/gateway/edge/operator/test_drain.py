"""The command ``portunus drain`` over the admin socket."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from click.testing import Result

from tests.gateway.edge.operator.admin_harness import admin_harness, run_command


async def drain(path: Path, *arguments: str) -> Result:
    return await run_command("drain", "--socket", str(path), *arguments)


async def test_drain_is_begun_shown_and_cancelled(path: Path) -> None:
    async with admin_harness(path) as harness:
        await harness.callers("alice", "bob")
        await harness.hello("carol")
        idle = "Not draining (sessions: 3, in calls: 2).\n"
        assert (await drain(path, "--status")).output == idle
        result = await drain(path, "--deadline", "7200")
        assert result.exit_code == 0
        begun = "Draining: the process ends with the last call, in 7200 s at the latest"
        assert result.output == f"{begun} (sessions: 3, in calls: 2, refused: 0).\n"
        state = json.loads((await drain(path, "--status", "--json")).output)
        assert 7000.0 < state.pop("seconds_left") <= 7200.0
        assert state == {"draining": True, "awaited": "calls", "refused": 0, "sessions": 3, "in_calls": 2}
        assert (await drain(path, "--cancel")).output == idle
        assert not harness.flows.draining.over.is_set()


async def test_drain_has_the_deadline_of_the_configuration_unless_one_is_given(path: Path) -> None:
    async with admin_harness(path) as harness:
        await harness.callers("alice")
        harness.services.settings = replace(harness.services.settings, drain_deadline=500.0)
        state = json.loads((await drain(path, "--json")).output)
        assert 400.0 < state["seconds_left"] <= 500.0
        assert (await drain(path, "--deadline", "0")).exit_code == 0
        assert harness.flows.draining.over.is_set()


async def test_drain_that_cannot_be_cancelled_is_an_error(path: Path) -> None:
    async with admin_harness(path) as harness:
        result = await drain(path, "--cancel")
        assert (result.exit_code, result.output) == (1, "Error: the gateway is not being drained\n")
        await harness.hello("alice")
        harness.flows.draining.begin_until_last_session()
        assert (await drain(path, "--status")).output == (
            "Draining: the process ends with the last session (sessions: 1, in calls: 0, refused: 0).\n"
        )
        result = await drain(path, "--cancel")
        assert result.exit_code == 1
        assert "cannot be cancelled any more" in result.output


@pytest.mark.parametrize(
    "arguments", [("--status", "--cancel"), ("--deadline", "1", "--cancel"), ("--deadline", "-1"), ("--deadline", "x")]
)
async def test_wrong_arguments_change_nothing(path: Path, arguments: tuple[str, ...]) -> None:
    async with admin_harness(path) as harness:
        assert (await drain(path, *arguments)).exit_code == 2
        assert not harness.services.drain.active


@pytest.mark.parametrize("deadline", ["soon", "-1", "nan", "inf"])
async def test_deadline_that_is_no_time_is_refused(path: Path, deadline: str) -> None:
    async with (
        admin_harness(path) as harness,
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as client,
    ):
        async with client.post("http://x/drain", params={"deadline": deadline}) as response:
            assert response.status == 400
            assert await response.json() == {"error": "the parameter deadline is no number of seconds"}
        assert not harness.services.drain.active


async def test_gateway_that_does_not_run_is_an_error(path: Path) -> None:
    result = await drain(path)
    assert result.exit_code == 3
    assert "is the gateway running" in result.output
