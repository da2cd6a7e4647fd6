"""``portunus doctor`` as a command: its report and exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.config import Config, HttpSection, SessionsSection
from gateway.tools.doctor.session import TICKET
from gateway.tools.doctor.target import local_url
from gateway.tools.fake_nextcloud import FakeNextcloud
from tests.gateway.certificates import make_certificate
from tests.gateway.served import INTERNAL_SECRET, served_gateway
from tests.gateway.tools.doctor.deployment import doctor
from tests.gateway.tools.doctor.proxy import PREFIX, FaultyProxy

SECTIONS = f"""\
[internal]
secret = "{INTERNAL_SECRET}"
[mcu]
type = "inprocess"
[mcu.inprocess]
address = "127.0.0.1"
"""


async def test_healthy_server_behind_a_proxy_with_tls_has_no_finding(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path, days=(-1, 80))
    proxy = await FaultyProxy().start(certificate)
    try:
        async with FakeNextcloud() as cloud, served_gateway(tmp_path, cloud, SECTIONS) as gateway:
            (tmp_path / "portunus.toml").chmod(0o600)
            proxy.upstream = gateway
            url = f"https://127.0.0.1:{proxy.port}{PREFIX}/"
            trust = {"SSL_CERT_FILE": str(certificate[0])}
            status, out, err = await doctor(url, "-c", tmp_path / "portunus.toml", environ=trust)
            secrets = (cloud.secret, INTERNAL_SECRET)
    finally:
        await proxy.close()
    assert [line for line in out.splitlines() if not line.startswith("ok ")] == [
        f"not tried    hello of a user: pass {TICKET}",
        "not tried    media through the gateway: pass --media",
        "not tried    TURN: pass the TURN servers of Talk's settings: --turn URI --turn-secret FILE (with the secret of"
        " these settings)",
    ]
    assert (status, err) == (0, "")
    assert not [secret for secret in secrets if secret in out]


async def test_failed_step_is_printed_with_evidence_and_change(tmp_path: Path) -> None:
    async with FakeNextcloud() as cloud, served_gateway(tmp_path, cloud, SECTIONS) as gateway:
        (tmp_path / "portunus.toml").chmod(0o600)
        configured, cloud.secret = cloud.secret, "an-other-secret"
        status, out, err = await doctor(gateway, "-c", tmp_path / "portunus.toml")
        assert configured not in out
    assert (status, err) == (1, "")
    lines = out.splitlines()
    (at,) = (at for at, line in enumerate(lines) if line.startswith("failed "))
    assert lines[at].endswith("requests of the gateway: Nextcloud does not accept the gateway's signature")
    assert [line.split()[0] for line in lines[at + 1 : at + 3]] == ["evidence:", "change:"]


async def test_url_alone_leaves_only_the_steps_that_need_more_untried(tmp_path: Path) -> None:
    async with FakeNextcloud() as cloud, served_gateway(tmp_path, cloud, SECTIONS) as gateway:
        status, out, _ = await doctor(gateway, "--json")
        states = {result["step"]: (result["state"], result["change"]) for result in json.loads(out)}
        assert status == 0
        assert states["features"][0] == "ok"
        assert states["hello"][0] == "not tried"
        assert states["Nextcloud"] == ("not tried", "the URL of a Nextcloud: --nextcloud URL, or -c FILE")
        assert {state for state, _ in states.values()} == {"ok", "not tried"}
        status, out, _ = await doctor(gateway, "--json", "--nextcloud", cloud.url)
    results = json.loads(out)
    assert status == 0
    by_step = {
        result["step"].partition(": ")[2]: result for result in results if result["step"].startswith("Nextcloud")
    }
    assert {step: result["state"] for step, result in by_step.items()} == {
        "capabilities": "ok",
        "clock": "ok",
        "key of hello 2.0": "ok",
        "requests of the gateway": "not tried",
        "requests to the gateway": "not tried",
    }
    assert [request.type for request in cloud.requests] == ["capabilities"]


async def test_invalid_configuration_leaves_all_other_steps_unreached(tmp_path: Path) -> None:
    status, out, _ = await doctor("-c", tmp_path / "missing.toml", "--json")
    assert status == 1
    first, *others = [result for result in json.loads(out) if result["step"] != "TURN"]
    assert (first["step"], first["state"]) == ("configuration", "failed")
    assert {(result["state"], result["cause"]) for result in others} == {("not reached", "because of: configuration")}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["http://a/", "--turn", "turn:a.example"], "--turn-secret"),
        (["http://a/", "--turn", "a.example", "--turn-secret", "/nowhere"], "--turn: a.example"),
        (["http://a/", "--nextcloud", "cloud"], "--nextcloud: not an absolute http or https URL"),
        ([], "Give the URL"),
        (["signal.example.com"], "expected a URL"),
        (["http://a/", "--user", "no one"], "no user"),
    ],
)
def test_wrong_arguments_have_the_status_2(arguments: list[str], text: str) -> None:
    result = CliRunner().invoke(main, ["doctor", *arguments])
    assert result.exit_code == 2
    assert text in result.output


@pytest.mark.parametrize(
    ("listen", "certificate", "url"),
    [
        (("127.0.0.1:8080",), "", "http://127.0.0.1:8080"),
        (("/run/portunus.sock", "0.0.0.0:8081"), "", "http://127.0.0.1:8081"),
        (("127.0.0.1:8443",), "/a.pem", ""),
        (("[::]:80",), "", "http://[::1]:80"),
        ((":8080",), "", "http://127.0.0.1:8080"),
        (("/run/portunus.sock", "127.0.0.1:0"), "", ""),
    ],
)
def test_url_without_an_argument_is_the_first_address(listen: tuple[str, ...], certificate: str, url: str) -> None:
    section = HttpSection(listen=listen, certificate=certificate)
    assert local_url(Config(sessions=SessionsSection(secret="s" * 32), http=section)) == url
