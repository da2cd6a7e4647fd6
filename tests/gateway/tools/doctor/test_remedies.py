"""Changes that the doctor names, made literally: the step that failed is then ok."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from gateway.tools.doctor.janus import ExaminedJanus, connect_janus
from gateway.tools.doctor.steps import Result
from gateway.tools.fake_nextcloud import FakeNextcloud
from mcu.janus.settings import JanusServerSettings
from tests.gateway.tools.doctor.deployment import Deployment, deployment, failed_steps
from tests.janus_process import ADMIN_KEY, API_SECRET, JanusProcess

OTHER_SECRET = "ffeeddccbbaa99887766554433221100"
REQUEST_LIMIT = 60.0  # seconds


@pytest.fixture
async def healthy(tmp_path: Path) -> AsyncIterator[Deployment]:
    async with deployment(tmp_path) as made:
        yield made


def first_failed(results: list[Result]) -> Result:
    return next(result for result in results if result.state == "failed")


# --- the URL and the secret of a backend


async def test_backend_is_ok_at_the_url_of_its_redirect(healthy: Deployment) -> None:
    right = healthy.cloud.url
    async with FakeNextcloud() as front:
        front.hook = lambda request: web.Response(
            status=301, headers={"Location": right + request.path.removeprefix("/")}
        )
        healthy.text = healthy.text.replace(right, front.url)
        failed = first_failed(await healthy.examine())
        (url,) = re.findall(r"^write (\S+) in backend\.urls$", failed.change)
        healthy.text = healthy.text.replace(front.url, url)
        assert failed_steps(await healthy.examine()) == []


async def test_backend_is_ok_at_its_url_without_index_php(healthy: Deployment) -> None:
    wrong = f"{healthy.cloud.url}index.php"
    healthy.text = healthy.text.replace(healthy.cloud.url, wrong)
    failed = first_failed(await healthy.examine())
    (url,) = re.findall(r"^write (\S+)$", failed.change)
    healthy.text = healthy.text.replace(wrong, url)
    assert failed_steps(await healthy.examine()) == []


@pytest.mark.parametrize("side", ["gateway", "Nextcloud"])
async def test_backend_is_ok_with_one_secret_on_both_sides(healthy: Deployment, side: str) -> None:
    right = healthy.cloud.secret
    if side == "gateway":
        healthy.text = healthy.text.replace(right, OTHER_SECRET)
    else:
        healthy.cloud.secret = OTHER_SECRET
    change = first_failed(await healthy.examine()).change
    assert change.startswith("use one secret for backend.secret and in Nextcloud")
    healthy.text, healthy.cloud.secret = healthy.text.replace(OTHER_SECRET, right), right
    assert failed_steps(await healthy.examine()) == []


# --- Janus


def janus_setting(folder: Path, file: str, name: str) -> str:
    """Return a value from a file of Janus' configuration."""
    found = re.search(rf'^\s*{name} = "(.*)"$', (folder / "conf" / file).read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("key", ["admin_key", "api_secret"])
async def test_janus_is_ok_with_the_secret_of_the_named_file(key: str) -> None:
    right: dict[str, Any] = {"api_secret": API_SECRET, "admin_key": ADMIN_KEY}
    async with JanusProcess() as janus:
        configured = JanusServerSettings(janus.url, **(right | {key: OTHER_SECRET}))
        failed = await connect_janus(ExaminedJanus(configured), REQUEST_LIMIT)
        assert failed.state == "failed"
        ((ours, theirs, file),) = re.findall(
            r"^(?:compare|give) mcu\.janus\.(\w+) (?:with )?the (\w+) (?:in|of) (janus\S*\.jcfg)", failed.change
        )
        mended: dict[str, Any] = {ours: janus_setting(janus.log.parent, file, theirs)}
        configured = msgspec.structs.replace(configured, **mended)
        assert (await connect_janus(ExaminedJanus(configured), REQUEST_LIMIT)).state == "ok"


async def test_janus_is_ok_with_the_named_line_in_place_of_string_ids() -> None:
    async with JanusProcess() as janus:
        await janus.stop()
        janus.edits["string_ids = false"] = "string_ids = true"
        await janus.start()
        configured = JanusServerSettings(janus.url, api_secret=API_SECRET, admin_key=ADMIN_KEY)
        failed = await connect_janus(ExaminedJanus(configured), REQUEST_LIMIT)
        assert failed.state == "failed"
        ((line, file),) = re.findall(r"^set (.+) in (\S+), and restart Janus$", failed.change)
        assert file == "janus.plugin.videoroom.jcfg"
        await janus.stop()
        janus.edits["string_ids = true"] = line
        await janus.start()
        assert (await connect_janus(ExaminedJanus(configured), REQUEST_LIMIT)).state == "ok"
