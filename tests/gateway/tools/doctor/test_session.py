"""The doctor's hello with the token or ticket of a user."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.tools.doctor.session import TICKET, read_ticket
from gateway.tools.doctor.steps import Result
from gateway.tools.fake_nextcloud import SigningKey
from tests.gateway.tools.doctor.deployment import Deployment, deployment, doctor, failed_steps

KEY = SigningKey()


@pytest.fixture
async def healthy(tmp_path: Path) -> AsyncIterator[Deployment]:
    async with deployment(tmp_path) as made:
        made.cloud.signaling = {"hello-v2-token-key": KEY.published}
        yield made


def token(deployment: Deployment, key: SigningKey = KEY, age: float = 0.0) -> tuple[str, dict[str, Any]]:
    now = time.time() - age
    claims = {"iss": deployment.cloud.url, "iat": now, "exp": now + 300, "sub": "alice", "userdata": {}}
    return "2.0", {"token": key.sign(claims)}


def of_user(results: list[Result]) -> Result:
    return next(result for result in results if result.step == "hello of a user")


async def test_token_and_ticket_of_a_user_open_a_session(healthy: Deployment) -> None:
    for version, params in (token(healthy), ("1.0", healthy.cloud.ticket("alice"))):
        results = await healthy.examine(ticket=(version, params))
        assert failed_steps(results) == []
        assert of_user(results).evidence == f"a user opened a session with a hello {version} and ended it"
    assert len(healthy.gateway.hub.sessions) == 0


async def test_without_a_ticket_the_step_says_what_to_pass(healthy: Deployment) -> None:
    result = of_user(await healthy.examine())
    assert (result.state, result.change) == ("not tried", TICKET)


async def test_refused_token_is_named_and_a_new_one_mends_it(healthy: Deployment) -> None:
    expired = of_user(await healthy.examine(ticket=token(healthy, age=900.0)))
    assert (expired.state, expired.change.partition(":")[0]) == ("failed", "fetch it again")
    foreign = of_user(await healthy.examine(ticket=token(healthy, SigningKey())))
    assert foreign.change.startswith(f"fetch it from {healthy.cloud.url}; ")
    assert of_user(await healthy.examine(ticket=token(healthy))).state == "ok"


async def test_command_reads_the_ticket_of_a_file_and_prints_no_part_of_it(healthy: Deployment) -> None:
    (_, params), file = token(healthy), healthy.file.with_name("settings.json")
    file.write_text(json.dumps({"ocs": {"data": {"helloAuthParams": {"2.0": params}}}}))
    healthy.file.write_text(healthy.text)
    healthy.file.chmod(0o600)
    status, out, err = await doctor(healthy.url, "-c", healthy.file, "--ticket", file)
    assert (status, err) == (0, "")
    assert "a user opened a session with a hello 2.0" in out
    assert params["token"] not in out
    file.write_text("{}")
    status, _, err = await doctor(healthy.url, "-c", healthy.file, "--ticket", file)
    assert status == 1  # as for every file that is named and cannot be used (docs/commands.md)
    assert "it has neither a token nor a ticket" in err


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (
            '{"ocs": {"data": {"helloAuthParams": {"1.0": {"userid": "a", "ticket": "t"}, "2.0": {"token": "x"}}}}}',
            "2.0",
        ),
        ('{"helloAuthParams": {"1.0": {"userid": "a", "ticket": "t"}}}', "1.0"),
        ('{"userid": "a", "ticket": "t"}', "1.0"),
        ('{"token": "x"}', "2.0"),
        ("eyJh.eyJh.c2ln\n", "2.0"),
    ],
)
def test_ticket_is_found_in_the_settings_and_in_parts_of_them(text: str, version: str) -> None:
    assert read_ticket(text)[0] == version


@pytest.mark.parametrize("text", ["", "[]", "no token", '{"token": 1}', "a.b c.d"])
def test_other_texts_are_no_ticket(text: str) -> None:
    with pytest.raises(ValueError, match="it "):
        read_ticket(text)
