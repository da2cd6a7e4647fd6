"""Media of the doctor through a real Janus: candidates, a publication and its subscription."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.tools.configuration.account import service_account
from gateway.tools.doctor import media
from gateway.tools.doctor.examination import GATEWAY_MEDIA, read_configuration, steps
from gateway.tools.doctor.janus import ExaminedJanus
from gateway.tools.doctor.media import FRAMES, check_candidates, send_and_receive
from gateway.tools.doctor.steps import not_tried
from gateway.tools.doctor.target import Target, parse_target
from mcu.janus.settings import JanusServerSettings
from tests.gateway.served import INTERNAL_SECRET
from tests.gateway.tools.doctor.deployment import TEXT, deployment, failed_steps
from tests.janus_process import ADMIN_KEY, API_SECRET, JanusProcess
from tests.media.loopback import loopback
from tests.ports import lease_block

__all__ = ["loopback"]

REQUEST_LIMIT = 60.0  # seconds


@pytest.fixture(autouse=True)
def long_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise the time limits, for a busy machine."""
    monkeypatch.setattr(media, "CONNECT_LIMIT", 60.0)
    monkeypatch.setattr(media, "MEDIA_LIMIT", 60.0)


@pytest.fixture
async def running_janus() -> AsyncIterator[JanusProcess]:
    async with JanusProcess() as janus:
        yield janus


def examined(janus: JanusProcess, admin_key: str = ADMIN_KEY) -> ExaminedJanus:
    return ExaminedJanus(JanusServerSettings(janus.url, api_secret=API_SECRET, admin_key=admin_key))


def public_target() -> Target:
    """Return a target whose name has a public address; nothing is sent to it."""
    target = parse_target("https://signal.example.com")
    target.addresses = ["1.1.1.1"]
    return target


async def test_media_pass_janus_and_nothing_is_left_on_it(running_janus: JanusProcess, loopback: None) -> None:
    outcome = await send_and_receive(examined(running_janus), REQUEST_LIMIT)
    assert (outcome.state, outcome.cause) == ("ok", "")
    assert f"{FRAMES} of {FRAMES} frames" in outcome.evidence
    assert await running_janus.rooms() == []
    assert await running_janus.handles() == []


async def test_candidates_are_named(running_janus: JanusProcess, loopback: None) -> None:
    outcome = await check_candidates(examined(running_janus), parse_target("http://127.0.0.1:8080"), REQUEST_LIMIT)
    assert (outcome.state, outcome.evidence) == ("ok", "Janus offers 127.0.0.1")


async def test_private_candidates_of_a_public_server_are_a_fault(running_janus: JanusProcess, loopback: None) -> None:
    outcome = await check_candidates(examined(running_janus), public_target(), REQUEST_LIMIT)
    assert (outcome.state, outcome.evidence) == ("failed", "Janus offers 127.0.0.1")
    assert "private" in outcome.cause
    assert "nat_1_1_mapping" in outcome.change


async def test_address_of_a_container_is_named_as_such(loopback: None) -> None:
    async with JanusProcess(PUBLIC_ADDRESS="172.17.0.2") as janus:
        outcome = await check_candidates(examined(janus), public_target(), REQUEST_LIMIT)
        assert (outcome.state, outcome.evidence) == ("failed", "Janus offers 172.17.0.2")
        assert "of a container" in outcome.cause


async def test_failed_connection_is_named_with_the_candidates(
    running_janus: JanusProcess, loopback: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media, "CONNECT_LIMIT", 0.0)
    outcome = await send_and_receive(examined(running_janus), REQUEST_LIMIT)
    assert (outcome.state, outcome.evidence) == ("failed", "the SFU offers 127.0.0.1 (private)")
    assert "the publisher gets no connection to the SFU" in outcome.cause
    assert "rtp_port_range" in outcome.change


async def test_refusal_of_janus_is_passed_on(running_janus: JanusProcess, loopback: None) -> None:
    outcome = await send_and_receive(examined(running_janus, admin_key="0" * 32), REQUEST_LIMIT)
    assert (outcome.state, outcome.cause) == ("failed", "Janus carries out no request about a stream")
    assert "admin_key" in outcome.evidence


@pytest.mark.parametrize(("with_media", "names"), [(True, ["candidates", "media"]), (False, ["media"])])
async def test_media_are_tried_on_request_only(tmp_path: Path, with_media: bool, names: list[str]) -> None:
    text = TEXT.partition("[mcu]")[0].format(internal="", url="https://cloud.example.com/", secret="5d0e7c1f9ab34e72")
    (tmp_path / "portunus.toml").write_text(f'{text}[mcu]\ntype = "janus"\n[[mcu.janus]]\nurl = "ws://127.0.0.1:1"\n')
    config, read = read_configuration(tmp_path / "portunus.toml", {}, service_account(""))
    assert config is not None
    listed = list(steps(public_target(), config, read, config.backends, config.turn, url_given=True, media=with_media))
    found = [step for step in listed if step.name in ("Janus: candidates", "Janus: media")]
    assert [step.name.removeprefix("Janus: ") for step in found] == names
    if not with_media:
        assert await found[0].run() == not_tried("--media")


async def test_media_pass_the_gateway_and_its_inprocess_sfu(tmp_path: Path, loopback: None) -> None:
    async with deployment(tmp_path) as made:
        results = await made.examine(media=True)
        assert failed_steps(results) == []
        (found,) = (result for result in results if result.step == GATEWAY_MEDIA)
        assert (found.state, found.cause) == ("ok", "")
        assert f"{FRAMES} of {FRAMES} frames" in found.evidence
        assert len(made.gateway.hub.sessions) == 0
        made.text = made.text.replace(f'[internal]\nsecret = "{INTERNAL_SECRET}"\n', "")
        (found,) = (result for result in await made.examine(media=True) if result.step == GATEWAY_MEDIA)
        assert found.state == "not tried"
        assert "internal.secret" in found.change


async def test_gateway_whose_sfu_accepts_nothing_is_named(tmp_path: Path, loopback: None) -> None:
    with lease_block() as ports:
        section = f'[mcu.inprocess]\naddress = "127.0.0.1"\nport_min = {ports.first}\nport_max = {ports.first}\n'
        text = TEXT.partition("[mcu.inprocess]")[0]
        async with deployment(tmp_path, section, text) as made:
            results = await made.examine(media=True)
    assert failed_steps(results)[:1] == [GATEWAY_MEDIA]
    (found,) = (result for result in results if result.step == GATEWAY_MEDIA)
    assert found.cause == "the gateway carries out no request about a stream"
